"""Schedules: due, not piled up, not over a run that is going on, again after a failure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from common.models.errors import SuiteError
from common.models.integration import IntegrationState
from common.runtime.authentication import Caller
from common.testing import TENANT
from sync.core.run import Mode, Resource
from sync.core.run_state import RunState
from sync.core.schedule import Schedule

CALLER = Caller(TENANT, "tester", frozenset())


async def add(house: Any, every_s: int = 5) -> Schedule:
    now = house.clock.now()
    schedule = Schedule(
        id=house.ids.new("sch"),
        tenant=TENANT,
        integration_id=next(iter(house.directory.known)),
        resource=Resource.APPOINTMENT,
        mode=Mode.INCREMENTAL,
        every_s=every_s,
        enabled=True,
        version=1,
        due_at=now + timedelta(seconds=every_s),
        created_at=now,
    )
    await house.schedules.add(CALLER, schedule)
    return schedule


async def test_a_schedule_starts_one_run_per_tick(house: Any) -> None:
    schedule = await add(house)
    assert await house.tick.tick() == 0
    house.clock.advance(5)
    assert await house.tick.tick() == 1
    assert await house.tick.tick() == 0
    (run,) = await house.runs.live(10)
    assert (run.trigger, run.requested_by, run.mode) == ("schedule", schedule.id, Mode.INCREMENTAL)
    assert (await house.schedules.get(TENANT, schedule.id)).last_run_id == run.id


async def test_missed_ticks_are_not_made_up_for(house: Any) -> None:
    schedule = await add(house)
    house.clock.advance(63)
    assert await house.tick.tick() == 1
    assert (await house.schedules.get(TENANT, schedule.id)).due_at == schedule.due_at + timedelta(seconds=60)


async def test_a_tick_over_a_run_that_is_going_on_is_let_go(house: Any) -> None:
    await add(house)
    house.clock.advance(5)
    await house.tick.tick()
    house.clock.advance(5)
    assert await house.tick.tick() == 0
    assert len(await house.runs.live(10)) == 1


async def test_after_a_failure_the_next_tick_tries_again(house: Any) -> None:
    async def fail(_: str) -> None:
        raise SuiteError("peer.unavailable")

    await add(house)
    house.pms.before = fail
    states = []
    for _ in range(2):
        house.clock.advance(5)
        assert await house.tick.tick() == 1
        await house.work.look()
        await house.work.settle()
        states.append((await house.runs.list(TENANT, None, None, None, None, 1)).items[0].state)
        house.pms.before = None
    assert states == [RunState.FAILED, RunState.FINISHED]


async def test_a_paused_integration_is_left_alone(house: Any) -> None:
    await add(house)
    house.directory.set_state(IntegrationState.PAUSED)
    house.clock.advance(5)
    assert await house.tick.tick() == 0
    house.directory.set_state(IntegrationState.ACTIVE)
    house.clock.advance(5)
    assert await house.tick.tick() == 1


async def test_changes_are_versioned_and_the_same_schedule_is_refused(house: Any) -> None:
    schedule = await add(house)
    with pytest.raises(SuiteError, match=r"request\.conflict"):
        await add(house)
    changed = await house.schedules.change(CALLER, schedule, {"enabled": False})
    assert changed.version == 2
    with pytest.raises(SuiteError, match=r"request\.version-changed"):
        await house.schedules.change(CALLER, schedule, {"enabled": True})
    house.clock.advance(5)
    assert await house.tick.tick() == 0
    await house.schedules.remove(CALLER, schedule.id)
    with pytest.raises(SuiteError, match=r"schedule\.not-found"):
        await house.schedules.get(TENANT, schedule.id)
