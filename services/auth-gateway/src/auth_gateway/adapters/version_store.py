"""Versions of integrations: written with every change, in its transaction; and the end of an integration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Index, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from auth_gateway.adapters.change_store import require_change
from auth_gateway.adapters.tables import AuthorizationRow, Base, CredentialRow, IntegrationRow
from auth_gateway.core.change_record import Why, wants_change_record
from auth_gateway.core.configuration import Document
from auth_gateway.core.versions import Version
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.columns import JsonText, UtcInstant
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent


class IntegrationVersionRow(Base, table=True):
    """One version of an integration, never changed."""

    __tablename__ = "integration_version"
    __table_args__ = (
        Index("integration_version_by_tenant", "tenant", "integration_id", "version"),
        Index("integration_version_by_change", "tenant", "change_id"),
    )

    integration_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    tenant: str
    body: Any = Field(sa_column=Column(JsonText, nullable=False))
    action: str
    changed: Any = Field(sa_column=Column(JsonText, nullable=False))
    author: str
    reason: str | None
    change_id: str | None
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


_VERSION: Final[Table] = IntegrationVersionRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_CREDENTIAL: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_AUTHORIZATION: Final[Table] = AuthorizationRow.__table__  # type: ignore[attr-defined]


async def keep_version(
    session: AsyncSession, caller: Caller, document: Document, action: str, changed: Sequence[str], why: Why
) -> None:
    """Keep what was saved just now."""
    await session.execute(
        insert(_VERSION).values(
            integration_id=document.id,
            version=document.version,
            tenant=document.tenant,
            body=dict(document.body),
            action=action,
            changed=list(changed),
            author=caller.subject,
            reason=why.reason,
            change_id=why.change_id,
            created_at=document.updated_at,
        )
    )


class SqlVersionStore:
    """`Versions`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def get(self, tenant: str, integration_id: str, version: int) -> Version:
        statement = select(_VERSION).where(
            _VERSION.c.tenant == tenant, _VERSION.c.integration_id == integration_id, _VERSION.c.version == version
        )
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("integration.version-not-found")
        return _version(row)

    async def list(self, tenant: str, integration_id: str, cursor: str | None, limit: int) -> Page[Version]:
        statement = select(_VERSION).where(_VERSION.c.tenant == tenant, _VERSION.c.integration_id == integration_id)
        if cursor is not None:
            statement = statement.where(_VERSION.c.version < decode_cursor(cursor, (int,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(_VERSION.c.version.desc()).limit(limit + 1))).mappings()
            found = [_version(row) for row in rows]
        following = encode_cursor([found[limit - 1].version]) if len(found) > limit else None
        return Page(found[:limit], following)

    async def under(self, tenant: str, change_id: str, limit: int) -> Sequence[Version]:
        statement = select(_VERSION).where(_VERSION.c.tenant == tenant, _VERSION.c.change_id == change_id)
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(_VERSION.c.version).limit(limit))).mappings()
            return [_version(row) for row in rows]

    async def counterpart(self, tenant: str, integration_id: str) -> Document | None:
        """The integration that was promoted from this one."""
        statement = select(_INTEGRATION).where(_INTEGRATION.c.tenant == tenant).order_by(_INTEGRATION.c.created_at)
        async with self._database.read() as session:
            for row in (await session.execute(statement)).mappings():
                if (row["body"].get("promoted_from") or {}).get("integration_id") == integration_id:
                    return Document(
                        row["id"], row["tenant"], row["version"], row["created_at"], row["updated_at"], row["body"]
                    )
        return None

    async def remove(self, caller: Caller, document: Document, why: Why) -> None:
        async with self._database.write() as session:
            if wants_change_record(document.body):
                await require_change(session, caller.tenant, document.id, why.change_id)
            here = (_INTEGRATION.c.id == document.id, _INTEGRATION.c.version == document.version)
            gone = await session.execute(delete(_INTEGRATION).where(*here).returning(_INTEGRATION.c.id))
            if gone.first() is None:
                raise SuiteError("request.version-changed")
            for table in (_CREDENTIAL, _AUTHORIZATION):
                await session.execute(delete(table).where(table.c.integration_id == document.id))
            ended = Document(
                document.id, document.tenant, document.version + 1, document.created_at, self._clock.now(), {}
            )
            await keep_version(session, caller, ended, "integration.removed", ["*"], why)
            detail = {"integration_id": document.id, "version": document.version}
            entry = audit.Audit(
                action="integration.removed",
                subject=document.id,
                caller=caller,
                time=self._clock.now(),
                detail=detail,
                reason=why.reason,
            )
            await audit.record(session, entry)
            await outbox.add(session, [self._tombstone(document)])

    async def counts(self, tenant: str, integration_id: str) -> dict[str, int]:
        """How many credentials and versions there are of an integration."""
        async with self._database.read() as session:
            found = {}
            for name, table in (("credentials", _CREDENTIAL), ("versions", _VERSION)):
                statement = select(func.count()).where(
                    table.c.tenant == tenant, table.c.integration_id == integration_id
                )
                found[name] = int((await session.execute(statement)).scalar_one())
        return found

    def _tombstone(self, document: Document) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type="ps.integration.changed",
            source=self._source,
            subject=document.id,
            time=self._clock.now(),
            tenant=document.tenant,
            key=document.id,
            data={"integration_id": document.id, "version": document.version + 1, "state": "removed", "changed": ["*"]},
            traceparent=current_traceparent(),
            deleted=True,
        )


def _version(row: Any) -> Version:
    return Version(
        row["integration_id"], row["version"], row["body"], row["action"], row["changed"], row["author"], row["reason"],
        row["created_at"], row["change_id"],
    )  # fmt: skip
