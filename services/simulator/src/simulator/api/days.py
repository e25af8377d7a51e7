"""A day in the practice: begun with a speed, watched, stopped; of a practice of the settings or of a vendor server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock, instant_text
from common.models.errors import FieldError, SuiteError
from common.models.paging import decode_cursor, encode_cursor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from simulator.api.population import chart_of
from simulator.core.chart import Chart
from simulator.core.day import CLOSES, OPENS, SPEED_MAX, instant_of
from simulator.core.day_files import FileForm
from simulator.core.faults import Faults
from simulator.core.world import World
from simulator.use_cases.drop_files import DropPlan
from simulator.use_cases.run_days import Alive, DayPlan, Days, DayState, Happened, Receiver

CallerOf = Annotated[Caller, Depends(caller_of)]
Name = Annotated[str, Path(max_length=40, description="its name")]


class DayReceiver(BaseModel):
    """Where the day's HL7 messages go, over MLLP."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="where the listener is")
    port: int = Field(ge=1, le=65535)
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="how long to wait for an acknowledgement")


class DayDrop(BaseModel):
    """Files of the day in the folder that the settings name."""

    model_config = ConfigDict(extra="forbid")

    form: FileForm = Field(default=FileForm.HL7, description="hl7: batch files; csv: a line for each message")
    every_minutes: int = Field(default=60, ge=1, le=1440, description="minutes of the day that go into one file")


class DayStart(BaseModel):
    """How a day is to be."""

    model_config = ConfigDict(extra="forbid")

    day: date | None = Field(default=None, description="the day; by default today in the practice's time zone")
    start_time: time = Field(
        default=OPENS, description="local time its clock begins at; what was before happens at once and is not told"
    )
    speed: float = Field(default=60.0, gt=0, le=SPEED_MAX, description="seconds of the day in one of ours")
    seed: int = Field(default=1, ge=0, le=2**53, description="the same seed makes the same day")
    hl7: DayReceiver | None = Field(default=None, description="tell it by HL7 messages; null: FHIR and Unity alone")
    drop: DayDrop | None = Field(default=None, description="tell it by files, too; null: none")


@dataclass(frozen=True, slots=True)
class Found:
    """Where a day is: a key, the practice's chart, and the faults of its senders."""

    key: str
    chart: Chart
    faults: Faults
    alive: Alive


Find = Callable[[str, Caller], Found]


def add_routes(api: APIRouter, world: World, days: Days, clock: Clock) -> None:
    """Paths begin after /simulator/v1."""

    def practice(name: str, caller: Caller) -> Found:
        return Found(f"practice {name}", chart_of(world, caller, name, None), world.faults, lambda: True)

    def server(name: str, caller: Caller) -> Found:
        chart = chart_of(world, caller, None, name)
        found = world.servers.of(caller.tenant, name)
        assert found is not None
        return Found(f"server {name}", chart, found.faults, lambda: world.servers.of(caller.tenant, name) is found)

    _scope_routes(api, "/practices/{name}/day", "of a practice", practice, days, clock)
    _scope_routes(api, "/servers/{name}/day", "behind a vendor server", server, days, clock)


def _scope_routes(api: APIRouter, path: str, whose: str, find: Find, days: Days, clock: Clock) -> None:
    @api.put(path, summary=f"Integration Simulator: begin the day {whose}")
    async def begin(name: Name, body: DayStart, caller: CallerOf) -> dict[str, Any]:
        """Begin a day: people come, stay away, are booked, move, pay; FHIR, Unity and HL7 say the same."""
        found = find(name, caller)
        plan = _plan(body, found.chart, clock)
        return _json(days, await days.start(found.key, found.chart, found.faults, plan, found.alive))

    @api.get(path, summary=f"Integration Simulator: the day {whose}")
    async def read(name: Name, caller: CallerOf) -> dict[str, Any]:
        """What its clock shows, what has happened, and what became of its messages."""
        found = find(name, caller)
        return _json(days, days.get(found.key, found.chart))

    @api.delete(path, summary=f"Integration Simulator: stop the day {whose}")
    async def stop(name: Name, caller: CallerOf) -> dict[str, Any]:
        """Let its clock stand; what happened stays."""
        found = find(name, caller)
        return _json(days, await days.stop(found.key, found.chart))

    @api.get(f"{path}/events", summary=f"Integration Simulator: what happened on the day {whose}")
    async def list_events(
        name: Name, caller: CallerOf, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """The events that happened, in order, with the messages that tell them."""
        found = find(name, caller)
        rows = days.get(found.key, found.chart).happened
        start = max(decode_cursor(cursor, [int])[0], 0) if cursor else 0
        following = encode_cursor([start + limit]) if start + limit < len(rows) else None
        return page_body([_event_json(row) for row in rows[start : start + limit]], following)


def _plan(body: DayStart, chart: Chart, clock: Clock) -> DayPlan:
    if body.start_time.tzinfo is not None or not body.start_time < CLOSES:
        field = FieldError("/start_time", "range", f"a local time before {CLOSES:%H:%M}, without an offset")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
    day = body.day or chart.local_day(clock.now())
    if not 2000 <= day.year <= 2100:
        field = FieldError("/day", "range", "a day of the years 2000 to 2100")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
    receiver = Receiver(body.hl7.host, body.hl7.port, body.hl7.timeout_s) if body.hl7 is not None else None
    drop = DropPlan(body.drop.form, body.drop.every_minutes) if body.drop is not None else None
    return DayPlan(day, instant_of(chart.practice, day, body.start_time), body.speed, body.seed, receiver, drop)


def _json(days: Days, state: DayState) -> dict[str, Any]:
    plan = state.plan
    over = "stopped" if state.stopped else "ended"
    return {
        "day": plan.day.isoformat(),
        "state": "running" if state.ended_at is None else over,
        "clock": instant_text(days.instant(state)),
        "speed": plan.speed,
        "seed": plan.seed,
        "time_zone": state.chart.practice.zone.key,
        "started_at": instant_text(state.started_at),
        "ended_at": instant_text(state.ended_at) if state.ended_at is not None else None,
        "events": len(state.events),
        "happened": state.position,
        "counts": dict(state.counts),
        "drop": None
        if state.drops is None
        else {
            "form": state.drops.plan.form.value,
            "files": list(state.drops.written),
            "file_bytes": state.drops.file_bytes,
            "waiting": len(state.drops.waiting),
            "failed": state.drops.failed,
        },
        "hl7": None
        if plan.receiver is None
        else {
            "host": plan.receiver.host,
            "port": plan.receiver.port,
            "sent": state.sent,
            "waiting": len(state.waiting),
            "lost": state.lost,
            "acknowledgment_codes": dict(state.codes),
            "error_codes": dict(state.errors),
        },
    }


def _event_json(row: Happened) -> dict[str, Any]:
    return {
        "number": row.number,
        "at": instant_text(row.event.at),
        "kind": row.event.kind.value,
        "patient": row.event.patient or None,
        "merged": row.event.other or None,
        "appointment": row.event.appointment or None,
        "messages": list(row.messages),
    }
