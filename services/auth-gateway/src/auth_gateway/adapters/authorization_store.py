"""Browsers that were sent to a vendor, until they come back."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from sqlalchemy import Table, delete, insert, select

from auth_gateway.adapters.tables import AuthorizationRow
from auth_gateway.ports import Authorization
from common.models.clock import Clock
from common.runtime.database import Database
from common.runtime.keyring import KeyRing

_TABLE: Final[Table] = AuthorizationRow.__table__  # type: ignore[attr-defined]
_FIELD: Final = "verifier"


class SqlAuthorizationStore:
    """`Authorizations`. The state itself is not kept: whoever reads the table cannot come back in a browser's place."""

    def __init__(self, database: Database, keyring: KeyRing, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock

    async def add(self, state: str, authorization: Authorization) -> None:
        keys = await self._keyring.tenant(authorization.tenant)
        name = _sha256(state)
        values: dict[str, Any] = {
            "state_sha256": name,
            "tenant": authorization.tenant,
            "integration_id": authorization.integration_id,
            "name": authorization.name,
            "credential_version": authorization.credential_version,
            "sealed_verifier": keys.seal(authorization.verifier.encode(), record=name, field=_FIELD),
            "caller": authorization.caller,
            "expires_at": authorization.expires_at,
        }
        async with self._database.write() as session:
            await session.execute(delete(_TABLE).where(_TABLE.c.expires_at < self._clock.now()))
            await session.execute(insert(_TABLE).values(**values))

    async def take(self, state: str) -> Authorization | None:
        name = _sha256(state)
        async with self._database.write() as session:
            statement = select(_TABLE).where(_TABLE.c.state_sha256 == name).with_for_update()
            row = (await session.execute(statement)).mappings().first()
            if row is None:
                return None
            await session.execute(delete(_TABLE).where(_TABLE.c.state_sha256 == name))
        keys = await self._keyring.tenant(row["tenant"])
        verifier = keys.open(row["sealed_verifier"], record=name, field=_FIELD).decode()
        return Authorization(
            row["tenant"], row["integration_id"], row["name"], row["credential_version"], verifier, row["caller"],
            row["expires_at"],
        )  # fmt: skip


def _sha256(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
