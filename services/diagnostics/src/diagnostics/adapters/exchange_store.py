"""The exchange history in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime.database import Database
from diagnostics.adapters.tables import Exchange
from diagnostics.core.exchange import ExchangeFilter, ExchangeRow

_TABLE: Final[Table] = Exchange.__table__  # type: ignore[attr-defined]
_PRUNE_ROWS_MAX: Final = 1_000


class SqlExchangeStore:
    """`ExchangeStore` and `ExchangeWriter`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, session: AsyncSession, rows: Sequence[ExchangeRow]) -> None:
        """One statement per batch; a row that is there already (a redelivery) is left alone."""
        statement = self._database.insert(_TABLE).on_conflict_do_nothing(index_elements=["id"])
        await session.execute(statement, [asdict(row) for row in rows])

    async def search(self, tenant: str, wanted: ExchangeFilter, cursor: str | None, limit: int) -> Page[ExchangeRow]:
        statement = search_statement(tenant, wanted, cursor, limit)
        async with self._database.read() as session:
            found = [_row(row) for row in (await session.execute(statement)).mappings()]
        more = len(found) > limit
        items = found[:limit]
        last = items[-1] if more else None
        return Page(items, encode_cursor([instant_text(last.started_at), last.id]) if last else None)

    async def get(self, tenant: str, exchange_id: str) -> ExchangeRow:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.id == exchange_id)
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("exchange.not-found")
        return _row(row)

    async def prune(self, before: datetime) -> int:
        deleted = 0
        while True:
            old = select(_TABLE.c.id).where(_TABLE.c.started_at < before).limit(_PRUNE_ROWS_MAX)
            async with self._database.write() as session:
                result = await session.execute(delete(_TABLE).where(_TABLE.c.id.in_(old)))
            count = int(getattr(result, "rowcount", 0))
            deleted += count
            if count < _PRUNE_ROWS_MAX:
                return deleted


def search_statement(tenant: str, wanted: ExchangeFilter, cursor: str | None, limit: int) -> Select[Any]:
    """The search, newest first, one row more than a page (it says whether there is a next one)."""
    columns = _TABLE.c
    statement = select(_TABLE).where(columns.tenant == tenant)
    for name in ("integration_id", "kind", "outcome", "operation"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(columns[name] == value)
    if wanted.after is not None:
        statement = statement.where(columns.started_at >= wanted.after)
    if wanted.before is not None:
        statement = statement.where(columns.started_at < wanted.before)
    if cursor is not None:
        at, last_id = decode_cursor(cursor, (str, str))
        try:
            instant = parse_instant(at)
        except ValueError as error:
            raise SuiteError("request.bad-cursor") from error
        statement = statement.where(tuple_(columns.started_at, columns.id) < (instant, last_id))
    return statement.order_by(columns.started_at.desc(), columns.id.desc()).limit(limit + 1)


def _row(row: Any) -> ExchangeRow:
    return ExchangeRow(**{name: row[name] for name in ExchangeRow.__slots__})
