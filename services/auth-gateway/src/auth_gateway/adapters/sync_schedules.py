"""What sync is scheduled to do, asked of sync itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from common.models.errors import SuiteError
from common.runtime.peers import Peers

_PAGE: Final = 200
_PAGES_MAX: Final = 10


class PeerSchedules:
    """`Schedules`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def resources(self, tenant: str, integration_id: str) -> Sequence[str]:
        found: dict[str, None] = {}
        cursor: str | None = None
        for _ in range(_PAGES_MAX):
            asked = {"integration_id": integration_id, "limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
            page = await self._page(tenant, asked)
            found |= dict.fromkeys(str(row["resource"]).capitalize() for row in page["items"])
            cursor = page["next"]
            if cursor is None:
                return list(found)
        raise SuiteError("service.unavailable", "sync has more schedules of the integration than can be read.")

    async def _page(self, tenant: str, asked: dict[str, str]) -> Any:
        try:
            answer = await self._peers.request("sync", "GET", "/sync/v1/schedules", tenant=tenant, params=asked)
        except SuiteError as error:
            if error.code != "start.bad-setting":
                raise
            # A gateway may be run without sync; then the caller has to say what is needed.
            detail = "PS_PEERS names no URL of sync: name the resources in the request."
            raise SuiteError("service.unavailable", detail) from error
        return answer.json()
