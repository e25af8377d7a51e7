"""The read copy of every integration: kept from the compacted topic, its contents fetched from auth-gateway.

Events are thin, so the topic says only that an integration has a new version; the document is fetched once per version
and kept in memory. While auth-gateway is away, the last known copy serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from common.models.errors import SuiteError
from common.models.integration import Integration, integration_from_json
from common.runtime.bus import Bus, Consumption, Delivery
from common.runtime.peers import Peers

TOPIC: Final = "ps.integration.changed.v1"
_RETRY_S: Final = 1.0
_GONE: Final = frozenset({"integration.not-found", "tenant.not-found", "tenant.offboarded"})

_log = logging.getLogger("common.directory")

Changed = Callable[[Integration | None, str], Awaitable[None]]
"""Called with the new copy (None: deleted) and the integration's id."""


class IntegrationDirectory:
    """See the module's text."""

    def __init__(self, bus: Bus, peers: Peers) -> None:
        self._bus = bus
        self._peers = peers
        self._known: dict[str, tuple[str, int]] = {}  # id → tenant, newest version announced
        self._copies: dict[str, Integration] = {}
        self._stale: set[str] = set()
        self._removals = 0
        self._wake = asyncio.Event()
        self._consumption: Consumption | None = None
        self._task: asyncio.Task[None] | None = None
        self.changed: list[Changed] = []

    async def start(self) -> None:
        """Read what is announced so far, then keep up."""
        self._consumption = await self._bus.broadcast([TOPIC], self._handle)
        self._task = asyncio.create_task(self._refresh(), name="integration-directory")

    async def stop(self) -> None:
        """Stop listening."""
        if self._consumption is not None:
            await self._consumption.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def settled(self) -> bool:
        """Whether every integration announced so far is at hand as announced: only then is an absent one none."""
        return self._task is not None and not self._stale

    async def get(self, tenant: str, integration_id: str) -> Integration:
        """The newest copy; raises SuiteError `integration.not-found`, or of the call when there is no copy at all."""
        copy = self._copies.get(integration_id)
        if copy is None or integration_id in self._stale:
            try:
                copy = await self._fetch(tenant, integration_id)
            except SuiteError as error:
                if error.code in _GONE or copy is None:
                    raise
        if copy.tenant != tenant:
            raise SuiteError("integration.not-found")
        return copy

    def all(self) -> Sequence[Integration]:
        """Every copy at hand, of all tenants."""
        return list(self._copies.values())

    def copy_of(self, integration_id: str) -> Integration | None:
        """The copy at hand; None when there is none (yet: see `settled`)."""
        return self._copies.get(integration_id)

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            event = delivery.event
            if event.deleted:
                await self._forget(event.subject)
                continue
            version = int(event.data["version"])
            self._known[event.subject] = (event.tenant, version)
            copy = self._copies.get(event.subject)
            if copy is None or copy.version < version:
                self._stale.add(event.subject)
        if self._stale:
            self._wake.set()

    async def _refresh(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for integration_id in list(self._stale):
                known = self._known.get(integration_id)
                if known is None:
                    self._stale.discard(integration_id)
                    continue
                try:
                    await self._fetch(known[0], integration_id)
                except SuiteError as error:
                    if error.code in _GONE:
                        await self._forget(integration_id)
                        continue
                    _log.info(
                        "integration copy not refreshed yet",
                        extra={"code": error.code, "integration_id": integration_id},
                    )
            if self._stale:
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _fetch(self, tenant: str, integration_id: str) -> Integration:
        copy = await self._ask(tenant, integration_id)
        held = self._copies.get(integration_id)
        announced = self._known.get(integration_id, (tenant, 0))[1]
        if copy.version >= announced:
            self._stale.discard(integration_id)
        if held is None or held.version < copy.version:
            self._copies[integration_id] = copy
            await self._tell(copy, integration_id)
        return self._copies[integration_id]

    async def _ask(self, tenant: str, integration_id: str) -> Integration:
        while True:
            removals = self._removals
            response = await self._peers.request(
                "auth-gateway", "GET", f"/auth/v1/integrations/{integration_id}", tenant=tenant
            )
            # What was removed while the answer was on its way must not come back with it: ask again.
            if removals == self._removals or integration_id in self._known:
                break
        try:
            return integration_from_json(response.json())
        except (KeyError, TypeError, ValueError) as error:
            raise SuiteError(
                "service.unavailable", "auth-gateway describes the integration in a way this version cannot read."
            ) from error

    async def _forget(self, integration_id: str) -> None:
        self._removals += 1
        self._known.pop(integration_id, None)
        self._stale.discard(integration_id)
        if self._copies.pop(integration_id, None) is not None:
            await self._tell(None, integration_id)

    async def _tell(self, copy: Integration | None, integration_id: str) -> None:
        for callback in list(self.changed):
            try:
                await callback(copy, integration_id)
            except Exception:  # noqa: BLE001 - one follower that fails must not keep the copies from the others
                _log.exception("a follower of the integrations failed", extra={"integration_id": integration_id})
