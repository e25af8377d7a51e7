"""Change records, asked of auth-gateway."""

from __future__ import annotations

from common.runtime.peers import Peers


class PeerChangeRecords:
    """`ChangeRecords`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def require(self, tenant: str, integration_id: str, change_id: str | None) -> None:
        path = f"/auth/v1/integrations/{integration_id}:require-change"
        await self._peers.request("auth-gateway", "POST", path, tenant=tenant, json={"change_id": change_id})
