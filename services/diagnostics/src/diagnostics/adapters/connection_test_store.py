"""Connection tests in the database."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Table, insert, select, tuple_

from common.models.access import Role
from common.models.clock import instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from diagnostics.adapters.tables import ConnectionTestRow
from diagnostics.core.connection_test import ConnectionTest

_TABLE: Final[Table] = ConnectionTestRow.__table__  # type: ignore[attr-defined]


class SqlConnectionTestStore:
    """`ConnectionTestStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, test: ConnectionTest, subject: str) -> None:
        values = {name: getattr(test, name) for name in ConnectionTest.__slots__}
        caller = Caller(tenant=test.tenant, subject=subject, roles=frozenset[Role]())
        async with self._database.write() as session:
            await session.execute(insert(_TABLE).values(**{**values, "stages": list(test.stages)}))
            await audit.record(
                session,
                audit.Audit(
                    action="connection-test.made",
                    subject=test.id,
                    caller=caller,
                    time=test.started_at,
                    detail={"integration_id": test.integration_id, "channel": test.channel, "outcome": test.status},
                ),
            )

    async def get(self, tenant: str, test_id: str) -> ConnectionTest:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.id == test_id)
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("connection-test.not-found")
        return _test(row)

    async def list(
        self, tenant: str, integration_id: str | None, cursor: str | None, limit: int
    ) -> Page[ConnectionTest]:
        columns = _TABLE.c
        statement = select(_TABLE).where(columns.tenant == tenant)
        if integration_id is not None:
            statement = statement.where(columns.integration_id == integration_id)
        if cursor is not None:
            at, last_id = decode_cursor(cursor, (str, str))
            try:
                instant = parse_instant(at)
            except ValueError as error:
                raise SuiteError("request.bad-cursor") from error
            statement = statement.where(tuple_(columns.started_at, columns.id) < (instant, last_id))
        statement = statement.order_by(columns.started_at.desc(), columns.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            found = [_test(row) for row in (await session.execute(statement)).mappings()]
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor([instant_text(last.started_at), last.id]) if last else None)


def _test(row: Any) -> ConnectionTest:
    return ConnectionTest(**{name: row[name] for name in ConnectionTest.__slots__})
