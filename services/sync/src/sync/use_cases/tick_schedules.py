"""Start the runs of schedules whose time has come: one each, however many ticks were missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from sync.core.schedule import Schedule, next_due
from sync.ports import DueSchedules, Transactions
from sync.use_cases.start_run import StartRun

SCHEDULES_PER_LOOK_MAX: Final = 500
_TRIGGER: Final = "schedule"
_log = logging.getLogger("sync")


@dataclass(frozen=True, slots=True)
class TickSchedules:
    """On one replica at a time (the caller holds the lease)."""

    schedules: DueSchedules
    transactions: Transactions
    start_run: StartRun
    clock: Clock
    look_every_s: float
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __call__(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.tick()
            except SuiteError as error:
                _log.warning("schedules not looked at", extra={"code": error.code})
            await self.pause(self.look_every_s)

    async def tick(self) -> int:
        """One look; how many runs were started."""
        started = 0
        for schedule in await self.schedules.due(self.clock.now(), SCHEDULES_PER_LOOK_MAX):
            started += await self._tick(schedule)
        if started:
            self.start_run.wake()
        return started

    async def _tick(self, schedule: Schedule) -> bool:
        due_at = next_due(schedule.due_at, schedule.every_s, self.clock.now())
        named = {"schedule_id": schedule.id, "integration_id": schedule.integration_id}
        run_id: str | None = None
        try:
            integration = await self.start_run.check(schedule.tenant, schedule.integration_id, schedule.resource)
            async with self.transactions.write() as session:
                run = await self.start_run.queue(
                    session, integration, schedule.resource, schedule.mode, trigger=_TRIGGER, by=schedule.id
                )
                run_id = run.id
                await self.schedules.ticked(session, schedule, due_at, run.id)
        except SuiteError as error:
            if error.code == "database.unavailable":
                raise
            # A run that is still going on, a paused integration: this tick is let go, the next one comes.
            _log.debug("schedule started no run", extra={**named, "code": error.code})
            async with self.transactions.write() as session:
                await self.schedules.ticked(session, schedule, due_at, None)
        return run_id is not None
