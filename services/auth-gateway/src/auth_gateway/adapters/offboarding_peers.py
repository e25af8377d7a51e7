"""What the services hold of a practice, asked for over their HTTP APIs."""

from __future__ import annotations

from typing import Any, Final

from auth_gateway.core.offboarding import RUNS_GOING
from common.runtime.chassis_api import NEXT_CURSOR
from common.runtime.peers import Peers

_PREFIXES: Final = {"auth-gateway": "auth", "hl7-gateway": "hl7"}
_PAGE_TIMEOUT_S: Final = 60.0


class OffboardingPeers:
    """`TenantHolders`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def counts(self, service: str, tenant: str) -> dict[str, int]:
        answer = await self._peers.request(service, "GET", f"{_base(service)}/tenant-data", tenant=tenant)
        return dict(answer.json()["parts"])

    async def page(self, service: str, tenant: str, part: str, cursor: str) -> tuple[bytes, str | None]:
        params = {"cursor": cursor} if cursor else {}
        path = f"{_base(service)}/tenant-data/{part}"
        answer = await self._peers.request(
            service, "GET", path, tenant=tenant, params=params, timeout_s=_PAGE_TIMEOUT_S
        )
        return answer.content, answer.headers[NEXT_CURSOR] or None

    async def runs_going(self, tenant: str) -> int:
        found: list[Any] = []
        for state in RUNS_GOING:
            answer = await self._peers.request("sync", "GET", "/sync/v1/runs", tenant=tenant, params={"state": state})
            found += answer.json()["items"]
        return len(found)


def _base(service: str) -> str:
    return f"/{_PREFIXES.get(service, service)}/v1"
