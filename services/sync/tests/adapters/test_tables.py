"""Migrations against metadata, and the plans of the hot statements, on both databases."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Select, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.runtime.database import Database, schema_differences
from sync.adapters.record_store import (
    cross_reference_statement,
    link_statement,
    owner_statement,
    search_statement,
)
from sync.adapters.run_store import live_statement
from sync.adapters.schedule_store import due_statement
from sync.adapters.tables import CROSS_REFERENCE, LIVE_RUN, Base
from sync.core.run import Mode, Resource, Run
from sync.core.run_state import LIVE, RunState
from sync.ports import RecordQuery

AT = datetime(2026, 3, 1, tzinfo=UTC)
IDENTIFIER_KEY = {"record_identifier_pkey", "sqlite_autoindex_record_identifier_1"}
NAME_KEY = {"record_name_pkey", "sqlite_autoindex_record_name_1"}
RUN = Run("run_1", "ten_1", "int_1", Resource.PATIENT, Mode.FULL, "api", "me", RunState.QUEUED, AT, AT)


def test_the_index_of_live_runs_knows_the_live_states() -> None:
    assert {state.value for state in LIVE} == set(re.findall(r"'(\w+)'", LIVE_RUN))


async def test_migrations_make_the_tables_of_the_metadata(database: Database) -> None:
    async with database.write() as session:
        connection = await session.connection()
        assert await connection.run_sync(schema_differences, Base.metadata) == []


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (link_statement("ten_1", "int_1", "patient", ["a", "b"]), {"cross_reference_by_external_id"}),
        (owner_statement("ten_1", "patient", "s", ["1", "2"]), IDENTIFIER_KEY),
        (search_statement("ten_1", "patient", RecordQuery(), None, 50), {"record_by_type"}),
        (search_statement("ten_1", "patient", RecordQuery(updated_after=AT), None, 50), {"record_by_update"}),
        (search_statement("ten_1", "patient", RecordQuery(birth_date="1970"), None, 50), {"record_by_birth_date"}),
        (search_statement("ten_1", "patient", RecordQuery(name="a"), None, 50), NAME_KEY),
        (
            search_statement("ten_1", "patient", RecordQuery(identifier_value="1"), None, 50),
            IDENTIFIER_KEY,
        ),
        (cross_reference_statement("ten_1", {"record_id": "rec_1"}, None, 50), {"cross_reference_by_record"}),
        (live_statement(RUN), {"run_live"}),
        (due_statement(AT, 10), {"schedule_due"}),
    ],
    ids=["link", "owner", "type", "update", "birth-date", "name", "identifier", "cross-reference", "live", "due"],
)  # fmt: skip
async def test_hot_statements_use_their_index(database: Database, statement: Select[Any], indexes: set[str]) -> None:
    async with database.write() as session:
        await fill(session, database)
        plan = await plan_of(session, database, statement)
    assert any(index in plan for index in indexes), plan


async def fill(session: AsyncSession, database: Database) -> None:
    """Enough cross-references of one tenant for PostgreSQL to tell its indexes apart."""
    if database.dialect == "postgresql":
        row = {"tenant": "ten_1", "integration_id": "int_1", "record_type": "patient", "content_hash": "", "seen": {}}
        times = {"created_at": AT, "updated_at": AT}
        rows = [
            {**row, **times, "id": f"x{number}", "external_id": f"e{number}", "record_id": f"r{number}"}
            for number in range(1000)
        ]
        await session.execute(insert(CROSS_REFERENCE), rows)
        await session.execute(text("ANALYZE cross_reference"))


async def plan_of(session: AsyncSession, database: Database, statement: Select[Any]) -> str:
    connection = await session.connection()
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    if database.dialect == "postgresql":
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        await connection.exec_driver_sql("SET LOCAL enable_sort = off")
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    rows = (await connection.exec_driver_sql(f"{explain} {compiled}")).all()
    return "\n".join(" ".join(map(str, row)) for row in rows)
