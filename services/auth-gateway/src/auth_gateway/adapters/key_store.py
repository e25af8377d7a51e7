"""Wrapped data keys: which key-encryption key wraps them, wrapped anew by the newest one, and new versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Table, func, insert, select, update

from auth_gateway.adapters.tables import TenantKeyRow, TenantRow
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import SEALS_AFTER_S, KeyWrapper, WrappedKey, new_data_key

_KEY: Final[Table] = TenantKeyRow.__table__  # type: ignore[attr-defined]
_TENANT: Final[Table] = TenantRow.__table__  # type: ignore[attr-defined]
UNREADABLE: Final = "unreadable"


class SqlKeyStore:
    """`DataKeys`."""

    def __init__(self, database: Database, wrapper: KeyWrapper, clock: Clock) -> None:
        self._database = database
        self._wrapper = wrapper
        self._clock = clock

    async def state(self) -> dict[str, Any]:
        newest = await self._wrapper.newest()
        counts = Counter([await self._label(tenant, key) for tenant, key in await self._keys()])
        return {"newest": newest, "keys": counts.total(), "wrapped_by": dict(sorted(counts.items()))}

    async def rotate(self, caller: Caller) -> None:
        await self._wrapper.rotate()
        newest = await self._wrapper.newest()
        async with self._database.write() as session:
            await audit.record(session, audit.Audit("key-encryption-key.rotated", newest, caller, self._clock.now()))

    async def rewrap(self, caller: Caller, keys_max: int) -> dict[str, Any]:
        newest, rewrapped, remaining, unreadable = await self._wrapper.newest(), 0, 0, 0
        for tenant, key in await self._keys():
            label = await self._label(tenant, key)
            if label == UNREADABLE:
                unreadable += 1
            elif label != newest and rewrapped >= keys_max:
                remaining += 1
            elif label != newest:
                rewrapped += await self._replace(tenant, key, await self._wrapper.rewrap(tenant, key))
        async with self._database.write() as session:
            detail = {"count": rewrapped}
            entry = audit.Audit("data-keys.rewrapped", newest, caller, self._clock.now(), detail=detail)
            await audit.record(session, entry)
        return {"newest": newest, "rewrapped": rewrapped, "remaining": remaining, "unreadable": unreadable}

    async def new_version(self, caller: Caller, tenant: str) -> WrappedKey:
        newest = select(func.max(_KEY.c.version)).where(_KEY.c.tenant == tenant)
        async with self._database.read() as session:
            present = (await session.execute(newest)).scalar_one_or_none()
            known = (await session.execute(select(_TENANT.c.id).where(_TENANT.c.id == tenant))).first()
        if present is None or known is None:
            raise SuiteError("tenant.not-found")
        # Wrapped before the transaction: a KMS may take its time.
        wrapped = await self._wrapper.wrap(tenant, present + 1, new_data_key())
        seals_from = self._clock.now() + timedelta(seconds=SEALS_AFTER_S)
        async with self._database.write() as session:
            if (await session.execute(newest)).scalar_one_or_none() != present:
                raise SuiteError("request.conflict", "Another version was made at the same time.")
            await session.execute(
                insert(_KEY).values(
                    tenant=tenant, version=wrapped.version, wrapped=wrapped.wrapped, seals_from=seals_from
                )
            )
            detail = {"version": wrapped.version}
            await audit.record(
                session, audit.Audit("data-key.rotated", tenant, caller, self._clock.now(), detail=detail)
            )
        return WrappedKey(wrapped.version, wrapped.wrapped, seals_from)

    async def _keys(self) -> Sequence[tuple[str, WrappedKey]]:
        async with self._database.read() as session:
            rows = await session.execute(select(_KEY).order_by(_KEY.c.tenant, _KEY.c.version))
            return [(row.tenant, WrappedKey(row.version, row.wrapped, row.seals_from)) for row in rows]

    async def _label(self, tenant: str, key: WrappedKey) -> str:
        try:
            return await self._wrapper.label(tenant, key)
        except SuiteError as error:
            if error.transient:
                raise
            return UNREADABLE

    async def _replace(self, tenant: str, before: WrappedKey, after: WrappedKey) -> int:
        """Compare and set: 1, or 0 when somebody else was quicker or the key was destroyed meanwhile."""
        same = (_KEY.c.tenant == tenant, _KEY.c.version == before.version, _KEY.c.wrapped == before.wrapped)
        async with self._database.write() as session:
            changed = await session.execute(
                update(_KEY).where(*same).values(wrapped=after.wrapped).returning(_KEY.c.version)
            )
            return 1 if changed.first() is not None else 0
