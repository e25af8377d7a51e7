"""Schedules in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from sync.adapters.tables import SCHEDULE
from sync.core.run import Mode, Resource
from sync.core.schedule import Schedule


class SqlScheduleStore:
    """`ScheduleBook` and `DueSchedules`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, caller: Caller, schedule: Schedule) -> None:
        values = {each.name: getattr(schedule, each.name) for each in fields(schedule)}
        values |= {"resource": schedule.resource.value, "mode": schedule.mode.value}
        statement = self._database.insert(SCHEDULE).values(**values).on_conflict_do_nothing().returning(SCHEDULE.c.id)
        async with self._database.write() as session:
            if (await session.execute(statement)).scalar() is None:
                raise SuiteError("request.conflict", "The integration has a schedule of this resource and mode.")
            await self._audit(session, caller, "schedule.created", schedule.id)

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        statement = select(SCHEDULE).where(SCHEDULE.c.id == schedule_id, SCHEDULE.c.tenant == tenant)
        async with self._database.read() as session:
            row = (await session.execute(statement)).first()
        if row is None:
            raise SuiteError("schedule.not-found")
        return _schedule(row)

    async def list(self, tenant: str, integration_id: str | None, cursor: str | None, limit: int) -> Page[Schedule]:
        statement = select(SCHEDULE).where(SCHEDULE.c.tenant == tenant)
        if integration_id is not None:
            statement = statement.where(SCHEDULE.c.integration_id == integration_id)
        if cursor is not None:
            statement = statement.where(SCHEDULE.c.id > decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(SCHEDULE.c.id).limit(limit + 1))).all()
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        return Page([_schedule(row) for row in rows[:limit]], following)

    async def change(self, caller: Caller, schedule: Schedule, changed: Mapping[str, Any]) -> Schedule:
        after = replace(schedule, **changed, version=schedule.version + 1)
        same = (SCHEDULE.c.id == schedule.id, SCHEDULE.c.version == schedule.version)
        statement = update(SCHEDULE).where(*same).values(**changed, version=after.version).returning(SCHEDULE.c.id)
        async with self._database.write() as session:
            if (await session.execute(statement)).scalar() is None:
                raise SuiteError("request.version-changed")
            await self._audit(session, caller, "schedule.changed", schedule.id)
        return after

    async def remove(self, caller: Caller, schedule_id: str) -> None:
        mine = (SCHEDULE.c.id == schedule_id, SCHEDULE.c.tenant == caller.tenant)
        async with self._database.write() as session:
            if (await session.execute(delete(SCHEDULE).where(*mine).returning(SCHEDULE.c.id))).scalar() is None:
                raise SuiteError("schedule.not-found")
            await self._audit(session, caller, "schedule.deleted", schedule_id)

    async def due(self, now: datetime, limit: int) -> Sequence[Schedule]:
        async with self._database.read() as session:
            return [_schedule(row) for row in await session.execute(due_statement(now, limit))]

    async def ticked(self, session: AsyncSession, schedule: Schedule, due_at: datetime, run_id: str | None) -> None:
        # No change of its own version: a tick is no edit.
        values: dict[str, Any] = {"due_at": due_at, "last_tick_at": self._clock.now()}
        if run_id is not None:
            values["last_run_id"] = run_id
        await session.execute(update(SCHEDULE).where(SCHEDULE.c.id == schedule.id).values(**values))

    async def _audit(self, session: AsyncSession, caller: Caller, action: str, subject: str) -> None:
        await audit.record(session, audit.Audit(action=action, subject=subject, caller=caller, time=self._clock.now()))


def due_statement(now: datetime, limit: int) -> Select[Any]:
    """Schedules whose time has come, the longest overdue first."""
    due = (SCHEDULE.c.enabled.is_(True), SCHEDULE.c.due_at <= now)
    return select(SCHEDULE).where(*due).order_by(SCHEDULE.c.due_at).limit(limit)


def _schedule(row: Row[Any]) -> Schedule:
    values = {each.name: getattr(row, each.name) for each in fields(Schedule)}
    return Schedule(**{**values, "resource": Resource(values["resource"]), "mode": Mode(values["mode"])})
