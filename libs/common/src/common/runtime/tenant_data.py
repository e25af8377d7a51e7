"""What a module holds of one practice: counted, exported page by page, and erased round by round.

Theory of operation. A module names its parts: one per table that belongs to practices. Offboarding (auth-gateway) asks
each module over HTTP for its parts and pages, with a service token of the practice; that is the export. Later it
publishes `ps.tenant.erase`. Every module then deletes at most `ROUND_ROWS_MAX` rows per transaction and, while more are
left, tells itself to go on (an event of the same transaction), so that no other practice waits for a long lock and a
killed process goes on where it stopped. At the end it acknowledges with `ps.tenant.erased` and the number of rows.

A table belongs to practices by its column `tenant`, or by a parent that has one (`children`). What is sealed leaves
opened where a part says how, and not at all otherwise (secrets). The audit log leaves and stays: six years.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, LargeBinary, MetaData, Table, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.database import Database
from common.runtime.inbox import Subscription
from common.runtime.keyring import TenantKeys
from common.runtime.tables import AUDIT, IDEMPOTENCY, PARKED

TOPIC: Final = "ps.tenant.offboarding.v1"
ERASE: Final = "ps.tenant.erase"
ERASED: Final = "ps.tenant.erased"
PAGE_ROWS: Final = 200
ROUND_ROWS_MAX: Final = 1_000

Row = Mapping[str, Any]
Open = Callable[[TenantKeys, Row], bytes]
"""Opens the sealed column of a row."""


class TenantPart(Protocol):
    """One kind of thing that a module holds of practices."""

    @property
    def name(self) -> str:
        """In addresses and file names."""

    @property
    def exported(self) -> bool:
        """Whether it leaves with the export; what does not is erased only."""

    async def count(self, session: AsyncSession, tenant: str) -> int:
        """How many rows."""

    async def page(self, session: AsyncSession, tenant: str, cursor: str | None) -> Page[dict[str, Any]]:
        """Some of them, in JSON form. Raises SuiteError `request.bad-cursor`."""

    async def erase(self, session: AsyncSession, tenant: str, rows_max: int) -> int:
        """Delete some of them in this transaction; how many, fewer than `rows_max` when none is left."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """`TenantPart` over a table.

    `opens`: columns of bytes and how each is opened; a column of bytes that is not named leaves as nothing (a secret).
    `keys`: the practice's keys. `added`: what belongs to rows and lies elsewhere, by place in the page. `first`:
    deletes what lies elsewhere, before the rows; called again after a crash.
    """

    table: Table
    mine: Callable[[str], ColumnElement[bool]]
    keys: Callable[[str], Awaitable[TenantKeys]] | None = None
    opens: Mapping[str, Open | None] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    added: Callable[[str, Sequence[Row]], Awaitable[Sequence[Mapping[str, Any]]]] | None = None
    first: Callable[[str, Sequence[Row]], Awaitable[None]] | None = None
    exported: bool = True
    page_rows: int = PAGE_ROWS
    """Fewer where a row may be large."""

    @property
    def name(self) -> str:
        return self.table.name.replace("_", "-")

    async def count(self, session: AsyncSession, tenant: str) -> int:
        statement = select(func.count()).select_from(self.table).where(self.mine(tenant))
        return int((await session.execute(statement)).scalar_one())

    async def page(self, session: AsyncSession, tenant: str, cursor: str | None) -> Page[dict[str, Any]]:
        key = list(self.table.primary_key.columns)
        statement = select(self.table).where(self.mine(tenant))
        if cursor is not None:
            kinds = [int if column.type.python_type is int else str for column in key]
            statement = statement.where(tuple_(*key) > tuple_(*decode_cursor(cursor, kinds)))
        found = await session.execute(statement.order_by(*key).limit(self.page_rows + 1))
        rows = [dict(row) for row in found.mappings()]
        following = None
        if len(rows) > self.page_rows:
            rows = rows[: self.page_rows]
            following = encode_cursor([rows[-1][column.name] for column in key])
        return Page(await self._shown(tenant, rows), following)

    async def erase(self, session: AsyncSession, tenant: str, rows_max: int) -> int:
        key = list(self.table.primary_key.columns)
        statement = select(self.table if self.first else tuple_(*key)).where(self.mine(tenant)).limit(rows_max)
        if self.first is None:
            chosen = select(*key).where(self.mine(tenant)).limit(rows_max)
            found = [tuple(row) for row in (await session.execute(chosen)).all()]
        else:
            rows = [dict(row) for row in (await session.execute(statement)).mappings()]
            await self.first(tenant, rows)
            found = [tuple(row[column.name] for column in key) for row in rows]
        if found:
            await session.execute(delete(self.table).where(tuple_(*key).in_(found)))
        return len(found)

    async def _shown(self, tenant: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        keys = await self.keys(tenant) if self.keys is not None and any(self.opens.values()) and rows else None
        added = await self.added(tenant, rows) if self.added is not None and rows else [{}] * len(rows)
        return [{**self._json(row, keys), **more} for row, more in zip(rows, added, strict=True)]

    def _json(self, row: Row, keys: TenantKeys | None) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for column in self.table.columns:
            value = row[column.name]
            if column.name in self.hidden:
                continue
            if isinstance(column.type, LargeBinary):
                if column.name not in self.opens or value is None:
                    continue
                shown[column.name.removeprefix("sealed_")] = _opened(self.opens[column.name], keys, row, value)
            else:
                shown[column.name] = instant_text(value) if isinstance(value, datetime) else value
        return shown


def _opened(how: Open | None, keys: TenantKeys | None, row: Row, value: bytes) -> Any:
    if how is None:
        return body_json(value)
    assert keys is not None
    try:
        return body_json(how(keys, row))
    except SuiteError as error:  # one value that was altered does not hold up the rest of a practice's export
        return {"error_code": error.code}


def body_json(body: bytes) -> Any:
    """Text where it is UTF-8, else base64 with its name."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


class AuditPart:
    """`TenantPart`: the audit log as FHIR AuditEvent. It leaves, and it stays."""

    name: Final = "audit"
    exported: Final = True

    def __init__(self, module: str) -> None:
        self._module = module

    async def count(self, session: AsyncSession, tenant: str) -> int:
        statement = select(func.count()).select_from(AUDIT).where(AUDIT.c.tenant == tenant)
        return int((await session.execute(statement)).scalar_one())

    async def page(self, session: AsyncSession, tenant: str, cursor: str | None) -> Page[dict[str, Any]]:
        after = decode_cursor(cursor, (int,))[0] if cursor is not None else 0
        statement = select(AUDIT).where(AUDIT.c.tenant == tenant, AUDIT.c.sequence > after).order_by(AUDIT.c.sequence)
        rows = (await session.execute(statement.limit(PAGE_ROWS + 1))).all()
        following = encode_cursor([rows[PAGE_ROWS - 1].sequence]) if len(rows) > PAGE_ROWS else None
        return Page([audit.audit_event(row, self._module) for row in rows[:PAGE_ROWS]], following)

    async def erase(self, session: AsyncSession, tenant: str, rows_max: int) -> int:
        return 0


def by_tenant(table: Table, **options: Any) -> TablePart:
    """A table with a column `tenant`; options as of `TablePart`."""
    return TablePart(table, lambda tenant: table.c.tenant == tenant, **options)


def by_parent(table: Table, column: str, parent: Table, parent_column: str) -> TablePart:
    """A table whose rows belong to rows of a parent that has a column `tenant`."""

    def mine(tenant: str) -> ColumnElement[bool]:
        return table.c[column].in_(select(parent.c[parent_column]).where(parent.c.tenant == tenant))

    return TablePart(table, mine)


def parts_of(metadata: MetaData, *given: TablePart, without: Sequence[str] = ()) -> tuple[TablePart, ...]:
    """The parts that are `given` (children first), then every other table with a column `tenant`; some left out."""
    named = {part.table.name for part in given} | set(without)
    found = [
        by_tenant(table)
        for table in reversed(metadata.sorted_tables)
        if table.name not in named and "tenant" in table.columns
    ]
    return (*given, *found)


def uncovered(metadata: MetaData, parts: Sequence[TenantPart], without: Sequence[str]) -> list[str]:
    """Tables that no part covers and nobody has said to leave out."""
    covered = {part.table.name for part in parts if isinstance(part, TablePart)} | set(without)
    return sorted(set(metadata.tables) - covered)


_CHASSIS: Final = (by_tenant(PARKED, exported=False), by_tenant(IDEMPOTENCY, exported=False))


class TenantData:
    """All parts of one module, the chassis' own among them."""

    def __init__(self, module: str, database: Database, parts: Sequence[TenantPart]) -> None:
        self.module = module
        self.database = database
        self.parts: tuple[TenantPart, ...] = (*parts, *_CHASSIS, AuditPart(module))

    def part(self, name: str) -> TenantPart:
        """By its name; raises SuiteError `request.not-found`."""
        found = next((part for part in self.parts if part.name == name and part.exported), None)
        if found is None:
            raise SuiteError("request.not-found")
        return found

    async def counts(self, tenant: str) -> dict[str, int]:
        """Rows by part, of the parts that are exported."""
        async with self.database.read() as session:
            return {part.name: await part.count(session, tenant) for part in self.parts if part.exported}

    async def erase(self, session: AsyncSession, tenant: str) -> tuple[int, bool]:
        """One round in this transaction: how many rows, and whether it was the last."""
        left = ROUND_ROWS_MAX
        for part in self.parts:
            left -= await part.erase(session, tenant, left)
            if left <= 0:
                return ROUND_ROWS_MAX, False
        return ROUND_ROWS_MAX - left, True


def erasing(data: TenantData, clock: Clock, ids: Ids, source: str) -> Subscription:
    """The subscription that erases a practice when it is offboarded."""

    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            if event.type != ERASE or event.data.get("module") not in (None, data.module):
                continue
            rows, done = await data.erase(session, event.tenant)
            told = {
                "offboarding_id": event.data["offboarding_id"],
                "module": data.module,
                "rows": int(event.data.get("rows") or 0) + rows,
            }
            answer = replace(
                event, id=ids.new("evt"), type=ERASED if done else ERASE, source=source, time=clock.now(), data=told
            )
            await outbox.add(session, [answer])

    return Subscription((TOPIC,), f"{data.module}.erase", handle, batch_events_max=1)
