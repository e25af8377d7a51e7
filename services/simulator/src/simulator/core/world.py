"""Everything the simulator holds, in memory: practices, registered clients, tokens, exports, faults."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.core.assertion import Replays
from simulator.core.bulk_export import Exports
from simulator.core.chart import Chart
from simulator.core.clients import Clients
from simulator.core.faults import Faults
from simulator.core.grants import Grants
from simulator.core.population import NO_SHARES, Shares
from simulator.core.practice import make_practice
from simulator.core.servers import Servers, Vendor
from simulator.core.tokens import Tokens


class World:
    """The simulated vendor with its practices; a practice is made when it is first asked for."""

    def __init__(
        self,
        practices: Sequence[str],
        *,
        seed: int,
        patients: int,
        token_life_s: int,
        export_takes_s: float,
        shares: Shares = NO_SHARES,
    ) -> None:
        self.names = tuple(practices)
        self.clients = Clients()
        self.replays = Replays()
        self.tokens = Tokens(token_life_s)
        self.grants = Grants()
        self.exports = Exports(export_takes_s)
        self.faults = Faults()
        self.servers = Servers(frozenset(self.names))
        self._seed = seed
        self._patients = patients
        self._shares = shares
        self._charts: dict[str, Chart] = {}

    def chart(self, name: str) -> Chart | None:
        """The chart of a practice, None when the simulator has no practice of that name."""
        if name not in self.names:
            return None
        chart = self._charts.get(name)
        if chart is None:
            chart = self._charts[name] = Chart(
                make_practice(name, self._seed, patients=self._patients, shares=self._shares)
            )
        return chart

    def epic_chart(self, name: str) -> Chart | None:
        """The chart behind an Epic-like address: a practice of the settings, or a server that was made."""
        server = self.servers.find(name, Vendor.EPIC)
        return server.chart if server is not None else self.chart(name)

    def faults_at(self, name: str, vendor: Vendor) -> Faults:
        """The faults of a server; of a practice of the settings those that all of these share."""
        server = self.servers.find(name, vendor)
        return server.faults if server is not None else self.faults
