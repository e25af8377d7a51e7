"""Integrations in the database; each change with its audit entry and its event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Table, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.change_store import require_change
from auth_gateway.adapters.tables import IntegrationRow
from auth_gateway.adapters.version_store import keep_version
from auth_gateway.core.change_record import Why, wants_change_record
from auth_gateway.core.configuration import Document
from auth_gateway.core.versions import configuration_of
from common.models.clock import Clock, Ids, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.integration import IntegrationState
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent

_TABLE: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]


_UNSAID: Final = Why()


class SqlIntegrationStore:
    """`Integrations`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def add(self, caller: Caller, document: Document, why: Why = _UNSAID) -> None:
        async with self._database.write() as session:
            try:
                await session.execute(insert(_TABLE).values(**_values(document)))
            except IntegrityError as error:
                raise SuiteError("integration.name-taken") from error
            await self._announce(session, caller, document, "integration.created", sorted(document.body), why)

    async def get(self, tenant: str, integration_id: str) -> Document:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.id == integration_id)
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("integration.not-found")
        return _document(row)

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Document]:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant)
        if cursor is not None:
            at, last_id = decode_cursor(cursor, (str, str))
            try:
                instant = parse_instant(at)
            except ValueError as error:
                raise SuiteError("request.bad-cursor") from error
            statement = statement.where(tuple_(_TABLE.c.created_at, _TABLE.c.id) > (instant, last_id))
        statement = statement.order_by(_TABLE.c.created_at, _TABLE.c.id).limit(limit + 1)
        async with self._database.read() as session:
            found = [_document(row) for row in (await session.execute(statement)).mappings()]
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor([instant_text(last.created_at), last.id]) if last else None)

    async def save(
        self,
        caller: Caller,
        before: Document,
        after: Document,
        action: str,
        changed: Sequence[str],
        why: Why = _UNSAID,
    ) -> None:
        statement = (
            update(_TABLE)
            .where(_TABLE.c.tenant == caller.tenant, _TABLE.c.id == before.id, _TABLE.c.version == before.version)
            .values(**_values(after))
            .returning(_TABLE.c.id)
        )
        async with self._database.write() as session:
            if wants_change_record(before.body) and configuration_of(before.body) != configuration_of(after.body):
                await require_change(session, caller.tenant, before.id, why.change_id)
            try:
                saved = (await session.execute(statement)).first()
            except IntegrityError as error:
                raise SuiteError("integration.name-taken") from error
            if saved is None:
                raise SuiteError("request.version-changed")
            await self._announce(session, caller, after, action, changed, why)

    async def set_state(
        self, session: AsyncSession, caller: Caller, integration_id: str, state: IntegrationState, action: str
    ) -> None:
        """Move one integration of the caller's tenant in a transaction that does more than that."""
        mine = (_TABLE.c.tenant == caller.tenant, _TABLE.c.id == integration_id)
        row = (await session.execute(select(_TABLE).where(*mine).with_for_update())).mappings().first()
        if row is None or row["state"] == state:
            return
        after = _document(row).changed(self._clock.now(), state=state.value)
        await session.execute(update(_TABLE).where(*mine).values(**_values(after)))
        await self._announce(session, caller, after, action, ["state"], _UNSAID)

    async def _announce(
        self,
        session: AsyncSession,
        caller: Caller,
        document: Document,
        action: str,
        changed: Sequence[str],
        why: Why,
    ) -> None:
        await keep_version(session, caller, document, action, changed, why)
        await audit.record(
            session,
            audit.Audit(
                action=action,
                subject=document.id,
                caller=caller,
                time=self._clock.now(),
                reason=why.reason,
                detail={"integration_id": document.id, "version": document.version, "state": document.body["state"]},
            ),
        )
        event = Event(
            id=self._ids.new("evt"),
            type="ps.integration.changed",
            source=self._source,
            subject=document.id,
            time=self._clock.now(),
            tenant=document.tenant,
            key=document.id,
            data={
                "integration_id": document.id,
                "version": document.version,
                "state": document.body["state"],
                "changed": list(changed),
            },
            traceparent=current_traceparent(),
        )
        await outbox.add(session, [event])


def _values(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "tenant": document.tenant,
        "name": document.body["name"],
        "state": document.body["state"],
        "version": document.version,
        "body": dict(document.body),
        "created_at": document.created_at,
        "updated_at": document.updated_at,
    }


def _document(row: Any) -> Document:
    return Document(row["id"], row["tenant"], row["version"], row["created_at"], row["updated_at"], row["body"])
