"""What sync and alerts know of an integration, for its checklist; None where they cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from common.models.errors import SuiteError
from common.runtime.peers import Peers

_NEWEST: Final = "50"


class ReadinessPeers:
    """`ReadinessSources`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def schedules(self, tenant: str, integration_id: str) -> Sequence[dict[str, Any]] | None:
        return await self._items("sync", "/sync/v1/schedules", tenant, integration_id=integration_id)

    async def runs(self, tenant: str, integration_id: str) -> Sequence[dict[str, Any]] | None:
        return await self._items("sync", "/sync/v1/runs", tenant, integration_id=integration_id)

    async def quarantined(self, tenant: str, integration_id: str) -> int | None:
        rows = await self._items("sync", "/sync/v1/quarantine", tenant, integration_id=integration_id, state="open")
        return None if rows is None else len(rows)

    async def webhooks(self, tenant: str) -> Sequence[dict[str, Any]] | None:
        return await self._items("alerts", "/alerts/v1/webhooks", tenant)

    async def _items(self, service: str, path: str, tenant: str, **query: str) -> list[dict[str, Any]] | None:
        params = {"limit": _NEWEST, **query}
        try:
            answer = await self._peers.request(service, "GET", path, tenant=tenant, params=params)
        except SuiteError:
            return None
        items: list[dict[str, Any]] = answer.json()["items"]
        return items
