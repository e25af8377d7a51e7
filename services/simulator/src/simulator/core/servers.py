"""Vendor servers that a tenant made: a name, a vendor, and a synthetic practice behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from simulator.core.chart import Chart
from simulator.core.faults import Faults
from simulator.core.unity_server import UnityState
from simulator.core.written import Written

SERVERS_MAX: Final = 20
PATIENTS_TOTAL_MAX: Final = 500_000


class Vendor(StrEnum):
    """What a server speaks."""

    EPIC = "epic"
    UNITY = "unity"
    CERNER = "cerner"
    FHIR = "fhir"


@dataclass(frozen=True, slots=True)
class Server:
    """One vendor server; `owner` is the tenant that made it, `unity` is there for that vendor only.

    `faults` are its own: what is switched on for the practices of the settings does not reach it.
    """

    name: str
    owner: str
    vendor: Vendor
    chart: Chart = field(repr=False)
    created_at: datetime
    unity: UnityState | None = field(default=None, repr=False)
    millennium: str = ""
    """The tenant id in an Oracle Health server's URLs."""
    written: Written = field(default_factory=Written, repr=False)
    faults: Faults = field(default_factory=Faults, repr=False)


class ServerTakenError(Exception):
    """The name belongs to a server or to a practice of the settings."""


class ServersFullError(Exception):
    """There are as many servers, or as many patients, as may be."""


@dataclass(slots=True)
class Servers:
    """The servers by name: names are part of URLs, so they are unique over all tenants."""

    reserved: frozenset[str] = frozenset()
    _by_name: dict[str, Server] = field(default_factory=dict)

    def check_room(self, name: str, patients: int) -> None:
        """Raises ServerTakenError, ServersFullError; asked before a practice is made."""
        if name in self.reserved or name in self._by_name:
            raise ServerTakenError
        held = sum(len(server.chart.practice.patients) for server in self._by_name.values())
        if len(self._by_name) >= SERVERS_MAX or held + patients > PATIENTS_TOTAL_MAX:
            raise ServersFullError

    def add(self, server: Server) -> None:
        """Take a server in; raises as `check_room`."""
        self.check_room(server.name, len(server.chart.practice.patients))
        self._by_name[server.name] = server

    def find(self, name: str, vendor: Vendor) -> Server | None:
        """The server of a name if it is that vendor's: for the vendor's own interface."""
        server = self._by_name.get(name)
        return server if server is not None and server.vendor is vendor else None

    def of(self, owner: str, name: str) -> Server | None:
        """A server of a tenant."""
        server = self._by_name.get(name)
        return server if server is not None and server.owner == owner else None

    def owned(self, owner: str) -> Iterator[Server]:
        """The servers of a tenant, by name."""
        return (self._by_name[name] for name in sorted(self._by_name) if self._by_name[name].owner == owner)

    def remove(self, server: Server) -> None:
        """Take a server away, with all it holds."""
        self._by_name.pop(server.name, None)
