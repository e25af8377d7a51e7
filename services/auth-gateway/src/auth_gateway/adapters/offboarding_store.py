"""Offboardings in the database: each step with its audit entries and events in one transaction.

Destroying keys means more than deleting rows: on SQLite the freed pages are overwritten (`secure_delete`) and the
write-ahead log is emptied, so that a copy of the files does not hold them either. What is in a backup is wrapped by the
key-encryption key, and not in the key table of today.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Table, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.access_tables import AccessRow
from auth_gateway.adapters.offboarding_tables import OffboardingChunkRow, OffboardingFileRow, OffboardingRow
from auth_gateway.adapters.tables import (
    AuthorizationRow,
    Base,
    CredentialRow,
    IntegrationRow,
    SigningKeyRow,
    TenantKeyRow,
    TenantRow,
)
from auth_gateway.adapters.tenant_state_store import SqlTenantStates
from auth_gateway.core.offboarding import ExportFile, Offboarding, Phase, manifest
from common.models.access import Role
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import PLATFORM, KeyWrapper, TenantKeys, WrappedKey, new_data_key, tenant_keys
from common.runtime.telemetry import current_traceparent
from common.runtime.tenant_data import ERASE
from common.runtime.tenant_states import OFFBOARDED

_OFF: Final[Table] = OffboardingRow.__table__  # type: ignore[attr-defined]
_FILE: Final[Table] = OffboardingFileRow.__table__  # type: ignore[attr-defined]
_CHUNK: Final[Table] = OffboardingChunkRow.__table__  # type: ignore[attr-defined]
_TENANT: Final[Table] = TenantRow.__table__  # type: ignore[attr-defined]
_KEY: Final[Table] = TenantKeyRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_GRANTS: Final = tuple(
    Base.metadata.tables[str(row.__tablename__)] for row in (SigningKeyRow, CredentialRow, AuthorizationRow, AccessRow)
)
_FIELD: Final = "chunk"
_OURSELVES: Final = Caller(PLATFORM, "service:auth-gateway", frozenset({Role.SERVICE}))


class SqlOffboardings:
    """`Offboardings`."""

    def __init__(
        self,
        database: Database,
        states: SqlTenantStates,
        wrapper: KeyWrapper,
        clock: Clock,
        ids: Ids,
        source: str,
        kept: timedelta,
    ) -> None:
        self._database = database
        self._states = states
        self._wrapper = wrapper
        self._clock = clock
        self._ids = ids
        self._source = source
        self._kept = kept

    async def begin(self, caller: Caller, tenant: str, reason: str, services: Sequence[str]) -> Offboarding:
        offboarding_id = self._ids.new("off")
        # Wrapped before the transaction: a KMS may take its time.
        wrapped = await self._wrapper.wrap(offboarding_id, 1, new_data_key())
        now = self._clock.now()
        async with self._database.write() as session:
            found = await self._states.begin_offboarding(session, caller, tenant, reason)
            begun = Offboarding(
                offboarding_id, tenant, found.name, Phase.EXPORTING, reason, caller.subject, now, tuple(services)
            )
            await session.execute(
                insert(_OFF).values(
                    id=begun.id, tenant=tenant, name=begun.name, phase=begun.phase, reason=reason,
                    requested_by=begun.requested_by, started_at=now, services=list(services), acknowledged={},
                    wrapped_key=wrapped.wrapped,
                )
            )  # fmt: skip
        return begun

    async def of(self, tenant: str) -> Offboarding | None:
        async with self._database.read() as session:
            row = (await session.execute(select(_OFF).where(_OFF.c.tenant == tenant))).first()
        return _offboarding(row) if row is not None else None

    async def unfinished(self) -> Sequence[Offboarding]:
        """Those that wait for an export, an acknowledgement, a second round or the end of their export."""
        unfinished = (_OFF.c.swept_at.is_(None)) | (_OFF.c.wrapped_key.is_not(None))
        async with self._database.read() as session:
            rows = await session.execute(select(_OFF).where(unfinished).order_by(_OFF.c.started_at, _OFF.c.id))
            return [_offboarding(row) for row in rows]

    async def files(self, offboarding_id: str) -> Sequence[ExportFile]:
        async with self._database.read() as session:
            return await _files(session, offboarding_id)

    async def plan(self, offboarding_id: str, names: Sequence[str]) -> None:
        async with self._database.write() as session:
            present = {file.name for file in await _files(session, offboarding_id)}
            for name in names:
                if name not in present:
                    values = {"rows": 0, "size_bytes": 0, "chunks": 0, "cursor": ""}
                    await session.execute(insert(_FILE).values(offboarding_id=offboarding_id, name=name, **values))

    async def append(self, offboarding_id: str, file: ExportFile, page: bytes, cursor: str | None) -> ExportFile:
        keys = await self._keys(offboarding_id)
        sealed = keys.seal(zlib.compress(page), record=file.name, field=_FIELD, version=file.chunks)
        after = replace(
            file,
            rows=file.rows + page.count(b"\n"),
            size_bytes=file.size_bytes + len(page),
            chunks=file.chunks + 1,
            cursor=cursor,
        )
        here = (_FILE.c.offboarding_id == offboarding_id, _FILE.c.name == file.name, _FILE.c.chunks == file.chunks)
        changed = {name: getattr(after, name) for name in ("rows", "size_bytes", "chunks", "cursor")}
        async with self._database.write() as session:
            done = await session.execute(update(_FILE).where(*here).values(**changed).returning(_FILE.c.name))
            if done.first() is None:
                raise SuiteError("lease.lost")  # another replica has gone on with it
            await session.execute(
                insert(_CHUNK).values(offboarding_id=offboarding_id, name=file.name, number=file.chunks, sealed=sealed)
            )
        return after

    async def close(self, offboarding_id: str, file: ExportFile) -> None:
        digest = hashlib.sha256()
        async for part in self.read(offboarding_id, file):
            digest.update(part)
        here = (_FILE.c.offboarding_id == offboarding_id, _FILE.c.name == file.name)
        async with self._database.write() as session:
            await session.execute(update(_FILE).where(*here).values(sha256=digest.hexdigest()))

    async def exported(self, offboarding: Offboarding) -> None:
        now = self._clock.now()
        async with self._database.write() as session:
            files = await _files(session, offboarding.id)
            document = orjson.dumps(manifest(offboarding, files, now), option=orjson.OPT_INDENT_2)
            here = (_OFF.c.tenant == offboarding.tenant, _OFF.c.phase == Phase.EXPORTING)
            values = {
                "phase": Phase.EXPORTED, "exported_at": now, "kept_until": now + self._kept, "manifest": document,
            }  # fmt: skip
            if (await session.execute(update(_OFF).where(*here).values(**values).returning(_OFF.c.id))).first():
                await self._audit(session, _OURSELVES, offboarding, "tenant.exported", {"count": len(files)})

    async def manifest(self, tenant: str) -> bytes:
        async with self._database.read() as session:
            row = (await session.execute(select(_OFF.c.manifest).where(_OFF.c.tenant == tenant))).first()
        if row is None or row.manifest is None:
            raise SuiteError("tenant.export-not-ready")
        return bytes(row.manifest)

    async def read(self, offboarding_id: str, file: ExportFile) -> AsyncIterator[bytes]:
        keys = await self._keys(offboarding_id)
        for number in range(file.chunks):
            here = (_CHUNK.c.offboarding_id == offboarding_id, _CHUNK.c.name == file.name, _CHUNK.c.number == number)
            async with self._database.read() as session:
                sealed = (await session.execute(select(_CHUNK.c.sealed).where(*here))).scalar_one_or_none()
            if sealed is None:
                raise SuiteError("tenant.export-gone")
            yield zlib.decompress(keys.open(sealed, record=file.name, field=_FIELD, version=number))

    async def downloaded(self, caller: Caller, offboarding: Offboarding, file: ExportFile) -> None:
        here = (_FILE.c.offboarding_id == offboarding.id, _FILE.c.name == file.name)
        async with self._database.write() as session:
            await session.execute(update(_FILE).where(*here).values(downloaded_at=self._clock.now()))
            await self._audit(session, caller, offboarding, "tenant.export.read", {"count": file.rows})

    async def destroy(self, caller: Caller, offboarding: Offboarding, reason: str) -> None:
        tenant, now = offboarding.tenant, self._clock.now()
        async with self._database.write() as session:
            here = (_OFF.c.tenant == tenant, _OFF.c.phase == Phase.EXPORTED)
            values = {"phase": Phase.DESTROYING, "destroyed_at": now}
            moved = await session.execute(update(_OFF).where(*here).values(**values).returning(_OFF.c.id))
            if moved.first() is None:
                return  # somebody else did it in the same moment
            await self._destroy_keys(session, tenant)
            integrations = select(_INTEGRATION.c.id, _INTEGRATION.c.version).where(_INTEGRATION.c.tenant == tenant)
            removed = (await session.execute(integrations)).all()
            await session.execute(delete(_INTEGRATION).where(_INTEGRATION.c.tenant == tenant))
            events = [self._tombstone(tenant, row.id, row.version + 1) for row in removed]
            events += [self._states.announcement(tenant, OFFBOARDED), self._erase(offboarding)]
            await outbox.add(session, events)
            for chain in (caller, replace(caller, tenant=tenant)):
                await audit.record(session, audit.Audit("tenant.keys.destroyed", tenant, chain, now, reason=reason))
        await self._database.empty_log()

    async def acknowledge(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """`ps.tenant.erased`, in the consumer's transaction; when all have told, it is over."""
        for event in events:
            statement = select(_OFF).where(_OFF.c.tenant == event.tenant).with_for_update()
            row: Any = (await session.execute(statement)).first()
            if row is None or row.id != event.data["offboarding_id"]:
                continue
            module = event.data["module"]
            told = {**row.acknowledged, module: row.acknowledged.get(module, 0) + event.data["rows"]}
            values: dict[str, Any] = {"acknowledged": told}
            if row.phase == Phase.DESTROYING and not set(row.services) - set(told):
                values |= {"phase": Phase.OFFBOARDED, "ended_at": self._clock.now()}
                await session.execute(update(_TENANT).where(_TENANT.c.id == event.tenant).values(state=OFFBOARDED))
                detail = {"count": sum(told.values())}
                await self._audit(session, _OURSELVES, _offboarding(row), "tenant.offboarded", detail)
            await session.execute(update(_OFF).where(_OFF.c.tenant == event.tenant).values(**values))

    async def sweep(self, offboarding: Offboarding) -> None:
        async with self._database.write() as session:
            here = (_OFF.c.tenant == offboarding.tenant, _OFF.c.swept_at.is_(None))
            values = {"swept_at": self._clock.now()}
            if (await session.execute(update(_OFF).where(*here).values(**values).returning(_OFF.c.id))).first():
                await outbox.add(session, [self._erase(offboarding)])

    async def delete_export(self, offboarding: Offboarding) -> None:
        async with self._database.write() as session:
            await session.execute(update(_OFF).where(_OFF.c.id == offboarding.id).values(wrapped_key=None))
            await session.execute(delete(_CHUNK).where(_CHUNK.c.offboarding_id == offboarding.id))
            await self._audit(session, _OURSELVES, offboarding, "tenant.export.deleted", {})

    async def _destroy_keys(self, session: AsyncSession, tenant: str) -> None:
        if self._database.dialect == "sqlite":
            # Builds differ in what they do unasked; what is deleted from now on is overwritten, too.
            await session.execute(text("PRAGMA secure_delete=ON"))
        await session.execute(delete(_KEY).where(_KEY.c.tenant == tenant))
        for table in _GRANTS:
            await session.execute(delete(table).where(table.c.tenant == tenant))

    async def _keys(self, offboarding_id: str) -> TenantKeys:
        async with self._database.read() as session:
            statement = select(_OFF.c.wrapped_key).where(_OFF.c.id == offboarding_id)
            wrapped = (await session.execute(statement)).scalar_one_or_none()
        if wrapped is None:
            raise SuiteError("tenant.export-gone")
        return tenant_keys(offboarding_id, {1: await self._wrapper.unwrap(offboarding_id, WrappedKey(1, wrapped))})

    async def _audit(
        self,
        session: AsyncSession,
        caller: Caller,
        offboarding: Offboarding,
        action: str,
        detail: Mapping[str, object],
    ) -> None:
        now, tenant = self._clock.now(), offboarding.tenant
        for chain in {caller.tenant, PLATFORM, tenant}:
            entry = audit.Audit(
                action, tenant, replace(caller, tenant=chain), now, reason=offboarding.reason, detail=detail
            )
            await audit.record(session, entry)

    def _erase(self, offboarding: Offboarding) -> Event:
        return self._event(ERASE, offboarding.tenant, offboarding.tenant, {"offboarding_id": offboarding.id})

    def _tombstone(self, tenant: str, integration_id: str, version: int) -> Event:
        data = {"integration_id": integration_id, "version": version, "state": "removed", "changed": ["*"]}
        event = self._event("ps.integration.changed", tenant, integration_id, data)
        return replace(event, deleted=True)

    def _event(self, kind: str, tenant: str, subject: str, data: Mapping[str, Any]) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type=kind,
            source=self._source,
            subject=subject,
            time=self._clock.now(),
            tenant=tenant,
            key=subject,
            data=data,
            traceparent=current_traceparent(),
        )


async def _files(session: AsyncSession, offboarding_id: str) -> list[ExportFile]:
    statement = select(_FILE).where(_FILE.c.offboarding_id == offboarding_id).order_by(_FILE.c.name)
    return [
        ExportFile(row.name, row.rows, row.size_bytes, row.chunks, row.cursor, row.sha256, row.downloaded_at)
        for row in await session.execute(statement)
    ]


def _offboarding(row: Any) -> Offboarding:
    return Offboarding(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        phase=Phase(row.phase),
        reason=row.reason,
        requested_by=row.requested_by,
        started_at=row.started_at,
        services=tuple(row.services),
        exported_at=row.exported_at,
        destroyed_at=row.destroyed_at,
        ended_at=row.ended_at,
        kept_until=row.kept_until,
        swept_at=row.swept_at,
        manifest_sha256=hashlib.sha256(row.manifest).hexdigest() if row.manifest else None,
        export_deleted=row.wrapped_key is None,
        acknowledged=row.acknowledged,
    )
