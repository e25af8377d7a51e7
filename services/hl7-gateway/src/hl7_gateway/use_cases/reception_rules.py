"""The rules of every listener, with the profile they name: changed profiles are applied while the listener runs.

Theory of operation. A receiver's rules are one immutable value. When a profile changes, the next message is received by
the new value; nothing is closed, so nothing is lost. Other replicas find out by looking every `POLL_S` seconds. The
catalogue asks here, too: it reads messages of connections that this replica does not listen for, or that are paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.models.clock import Clock
from common.models.errors import SuiteError
from hl7_gateway.core.connection_configuration import Connection
from hl7_gateway.core.reception import DEFAULT, Reception, reception_of
from hl7_gateway.core.site_profile import BUILT_IN, STANDARD, SiteProfile
from hl7_gateway.ports import ProfileBook

POLL_S: Final = 2.0

_log = logging.getLogger("hl7_gateway.rules")


class Receiver(Protocol):
    """What receives by rules."""

    def apply(self, reception: Reception) -> None:
        """From the next message on."""


@dataclass(slots=True)
class _Running:
    connection: Connection
    receiver: weakref.ref[Receiver]
    """A listener that was closed takes its receiver with it."""
    reception: Reception


class ReceptionRules:
    """See the module's text. `connections_of` gives connections by id, removed ones, too."""

    def __init__(
        self,
        profiles: ProfileBook,
        connections_of: Callable[[Collection[str]], Awaitable[Sequence[Connection]]],
        clock: Clock,
    ) -> None:
        self._profiles = profiles
        self._connections_of = connections_of
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._known: dict[str, Reception] = {}
        self._known_until = 0.0
        self._look = asyncio.Event()

    async def of(self, connection: Connection) -> Reception:
        """A listener's rules as of now. Raises SuiteError `profile.not-found` or `profile.unusable`."""
        name = connection.listening.validation.profile
        profile = await self._profiles.find(connection.tenant, name)
        _ = profile.compiled
        return reception_of(connection, profile)

    def runs(self, connection: Connection, receiver: Receiver, reception: Reception) -> None:
        """A listener was made; it replaces the one of its connection before."""
        self._running[connection.id] = _Running(connection, weakref.ref(receiver), reception)

    def shown(self, connection_id: str) -> dict[str, Any]:
        """The profile that a running listener applies."""
        running = self._running.get(connection_id)
        return {} if running is None else {"profile": running.reception.profile.ref.as_json()}

    def changed(self) -> None:
        """A profile or a connection changed."""
        self._known_until = 0.0
        self._look.set()

    async def look_up(self, connection_ids: Collection[str]) -> Mapping[str, Reception]:
        """The rules of connections by id; those without one (the listener of the settings) are the default."""
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known, self._known_until = {}, now + POLL_S
        known = self._known  # a change meanwhile begins another one
        wanted = {one for one in connection_ids if one and one not in known}
        for connection in await self._connections_of(wanted) if wanted else ():
            try:
                known[connection.id] = await self.of(connection)
            except SuiteError as error:
                if error.transient:
                    raise
                _log.warning("profile not usable", extra={"connection_id": connection.id, "code": error.code})
                known[connection.id] = reception_of(connection, STANDARD)
        return {one: known.get(one, DEFAULT) for one in connection_ids}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look.clear()
            profiles: dict[tuple[str, str], SiteProfile | None] = {}
            for connection_id, running in list(self._running.items()):
                if running.receiver() is None:
                    del self._running[connection_id]
                else:
                    await self._refresh(running, profiles)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()

    async def _refresh(self, running: _Running, profiles: dict[tuple[str, str], SiteProfile | None]) -> None:
        """`profiles` are those that this round has read; None: it cannot be had."""
        connection, name = running.connection, running.connection.listening.validation.profile
        if name in BUILT_IN:
            return
        if (connection.tenant, name) not in profiles:
            try:
                profiles[connection.tenant, name] = (await self.of(connection)).profile
            except SuiteError as error:
                # What it applied it goes on applying: a listener is not stopped because a database is away.
                _log.warning("profile not read", extra={"connection_id": connection.id, "code": error.code})
                profiles[connection.tenant, name] = None
        profile, receiver = profiles[connection.tenant, name], running.receiver()
        if profile is not None and receiver is not None and profile.ref != running.reception.profile.ref:
            running.reception = reception_of(connection, profile)
            receiver.apply(running.reception)
            _log.info("profile applied", extra={"connection_id": connection.id, "version": profile.version})
