"""Runs in the database; their events go through the outbox of the same transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Row, Select, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import outbox
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent
from sync.adapters.tables import LIVE_RUN, RUN, RUN_SEEN
from sync.core.run import EVENT_OF, Mode, Resource, Run, cursor_of_json, event_data
from sync.core.run_state import RunEvent, RunState

_VALUES_PER_STATEMENT_MAX: Final = 500


class SqlRunStore:
    """`RunBook` and `RunList`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def add(self, session: AsyncSession, run: Run) -> str | None:
        statement = self._database.insert(RUN).values(**_row_of(run)).on_conflict_do_nothing().returning(RUN.c.id)
        if (await session.execute(statement)).scalar() is not None:
            return None
        return str((await session.execute(live_statement(run))).scalar_one())

    async def get(self, tenant: str, run_id: str) -> Run:
        async with self._database.read() as session:
            row = (await session.execute(select(RUN).where(RUN.c.id == run_id, RUN.c.tenant == tenant))).first()
        if row is None:
            raise SuiteError("run.not-found")
        return _run(row)

    async def list(
        self, tenant: str, integration_id: str | None, resource: Resource | None, state: RunState | None,
        cursor: str | None, limit: int,
    ) -> Page[Run]:  # fmt: skip
        statement = select(RUN).where(RUN.c.tenant == tenant)
        for name, value in (("integration_id", integration_id), ("resource", resource), ("state", state)):
            if value is not None:
                statement = statement.where(RUN.c[name] == str(value))
        if cursor is not None:
            statement = statement.where(RUN.c.id < decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(RUN.c.id.desc()).limit(limit + 1))).all()
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        return Page([_run(row) for row in rows[:limit]], following)

    async def live(self, limit: int) -> Sequence[Run]:
        statement = select(RUN).where(text(LIVE_RUN)).order_by(RUN.c.id).limit(limit)
        async with self._database.read() as session:
            return [_run(row) for row in await session.execute(statement)]

    async def reload(self, session: AsyncSession, run_id: str) -> Run:
        # Locked (SQLite's writer is alone anyway): who cancels and who begins do not overwrite each other.
        row = (await session.execute(select(RUN).where(RUN.c.id == run_id).with_for_update())).first()
        if row is None:
            raise SuiteError("run.not-found")
        return _run(row)

    async def save(self, session: AsyncSession, run: Run, event: RunEvent | None) -> None:
        # Who asks for a cancellation writes its own column, so that it is never overwritten from here.
        kept = {name: value for name, value in _row_of(run).items() if name not in {"id", "cancel_requested"}}
        await session.execute(update(RUN).where(RUN.c.id == run.id).values(**kept))
        if event is None:
            return
        told = Event(
            id=self._ids.new("evt"),
            type=EVENT_OF[event],
            source=self._source,
            subject=run.id,
            time=self._clock.now(),
            tenant=run.tenant,
            key=run.integration_id,
            data=event_data(run),
            traceparent=current_traceparent(),
        )
        await outbox.add(session, [told])

    async def request_cancel(self, session: AsyncSession, run_id: str) -> None:
        await session.execute(update(RUN).where(RUN.c.id == run_id).values(cancel_requested=True))

    async def first_time(self, session: AsyncSession, run_id: str, keys: Sequence[str]) -> bool:
        rows = [{"run_id": run_id, "key": key} for key in dict.fromkeys(keys)]
        if not rows:
            return True
        statement = self._database.insert(RUN_SEEN).on_conflict_do_nothing().returning(RUN_SEEN.c.key)
        return len((await session.execute(statement, rows)).all()) == len(rows)

    async def seen(self, run_id: str, keys: Collection[str]) -> set[str]:
        found: set[str] = set()
        listed = list(keys)
        async with self._database.read() as session:
            for start in range(0, len(listed), _VALUES_PER_STATEMENT_MAX):
                part = listed[start : start + _VALUES_PER_STATEMENT_MAX]
                statement = select(RUN_SEEN.c.key).where(RUN_SEEN.c.run_id == run_id, RUN_SEEN.c.key.in_(part))
                found.update((await session.execute(statement)).scalars())
        return found

    async def forget_seen(self, session: AsyncSession, run_id: str) -> None:
        await session.execute(delete(RUN_SEEN).where(RUN_SEEN.c.run_id == run_id))


def live_statement(run: Run) -> Select[Any]:
    """The run of the same integration, resource and direction that has not ended."""
    return select(RUN.c.id).where(
        RUN.c.tenant == run.tenant,
        RUN.c.integration_id == run.integration_id,
        RUN.c.resource == run.resource.value,
        RUN.c.direction == run.direction,
        text(LIVE_RUN),
    )


def _row_of(run: Run) -> dict[str, Any]:
    row = {each.name: getattr(run, each.name) for each in fields(run)}
    return row | {
        "resource": run.resource.value,
        "mode": run.mode.value,
        "state": run.state.value,
        "cursor": run.cursor.as_json() if run.cursor else None,
    }


def _run(row: Row[Any]) -> Run:
    values = {each.name: getattr(row, each.name) for each in fields(Run)}
    return Run(
        **{
            **values,
            "resource": Resource(values["resource"]),
            "mode": Mode(values["mode"]),
            "state": RunState(values["state"]),
            "cursor": cursor_of_json(values["cursor"]) if values["cursor"] else None,
        }
    )
