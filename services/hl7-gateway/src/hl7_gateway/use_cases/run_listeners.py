"""Every active listener connection has its port: opened, changed and closed as its configuration says.

A connection that changed is stopped first (frames in hand are read to their end, stored and answered; its peers
reconnect) and begun anew as it is now. A port that cannot be had is tried again; meanwhile the connection says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.models.errors import SuiteError
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial

POLL_S: Final = 2.0

_log = logging.getLogger("hl7_gateway.listeners")


class RunningListener(Protocol):
    """One open port."""

    async def start(self) -> None:
        """Listen; raises SuiteError `start.port-in-use`."""

    async def stop(self, timeout_s: float) -> None:
        """Answer what is owed, close."""

    def state(self) -> Mapping[str, Any]:
        """Address, state, open connections and counters."""


@dataclass(slots=True)
class _Place:
    connection: Connection
    listener: RunningListener | None = None
    code: str | None = None


class Listeners:
    """See the module's text. `make` builds a listener that does not listen yet."""

    def __init__(
        self,
        active: Callable[[], Awaitable[Sequence[Connection]]],
        material: Callable[[Connection], Awaitable[TlsMaterial]],
        make: Callable[[Connection, TlsMaterial], Awaitable[RunningListener]],
        *,
        stop_timeout_s: float,
        rules: Callable[[str], Mapping[str, Any]] = lambda _: {},
        poll_s: float = POLL_S,
    ) -> None:
        self._active = active
        self._material = material
        self._make = make
        self._stop_timeout_s = stop_timeout_s
        self._rules = rules
        self._poll_s = poll_s
        self._places: dict[str, _Place] = {}
        self._look = asyncio.Event()

    def open(self) -> list[RunningListener]:
        """Every open port of this replica."""
        return [place.listener for place in self._places.values() if place.listener is not None]

    def look(self) -> None:
        """A connection or an integration changed."""
        self._look.set()

    def state(self, connection_id: str) -> dict[str, Any]:
        """Where one stands: `version` of its configuration it runs by; `error_code` says why it does not listen."""
        place = self._places.get(connection_id)
        if place is None:
            return {"version": None, "state": "stopped", "error_code": None}
        if place.listener is not None:
            shown = {**place.listener.state(), **self._rules(connection_id)}
        else:
            shown = {"state": "opening" if place.code is None else "failed"}
        return {"version": place.connection.version, **shown, "error_code": place.code}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look.clear()
            try:
                await self._reconcile(await self._active())
            except SuiteError as error:
                _log.warning("connections not read", extra={"code": error.code})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._look.wait()

    async def stop(self) -> None:
        """Close every port; what is owed is answered first."""
        places, self._places = list(self._places.values()), {}
        await asyncio.gather(*(self._close(place) for place in places))

    async def _reconcile(self, active: Sequence[Connection]) -> None:
        wanted = {connection.id: connection for connection in active}
        gone = [
            place
            for connection_id, place in self._places.items()
            if connection_id not in wanted or wanted[connection_id].version != place.connection.version
        ]
        await asyncio.gather(*(self._close(place) for place in gone))
        for place in gone:
            del self._places[place.connection.id]
        for connection in wanted.values():
            place = self._places.setdefault(connection.id, _Place(connection))
            if place.listener is None:
                await self._open(place)

    async def _open(self, place: _Place) -> None:
        connection = place.connection
        try:
            listener = await self._make(connection, await self._material(connection))
            await listener.start()
        except SuiteError as error:
            code = "connection.port-in-use" if error.code == "start.port-in-use" else error.code
            if code != place.code:
                _log.warning("listener not open", extra={"connection_id": connection.id, "code": code})
            place.code = code
            return
        place.listener, place.code = listener, None

    async def _close(self, place: _Place) -> None:
        if place.listener is not None:
            await place.listener.stop(self._stop_timeout_s)
            place.listener = None
