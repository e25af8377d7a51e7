"""Schedules of synchronisation."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock, Ids
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from pms.offers import offers_of
from sync.core.run import Mode, Resource
from sync.core.schedule import EVERY_S_MAX, EVERY_S_MIN, Schedule, schedule_json
from sync.core.strategy import strategy_of
from sync.ports import Integrations, ScheduleBook


class NewSchedule(BaseModel):
    """What is to run, and how often."""

    model_config = ConfigDict(extra="forbid")

    integration_id: str = Field(max_length=40, description="the PMS system (integration)")
    resource: Resource
    mode: Mode = Mode.INCREMENTAL
    every_s: int = Field(ge=EVERY_S_MIN, le=EVERY_S_MAX, description="seconds from one start to the next")
    enabled: bool = True


class ScheduleChange(BaseModel):
    """What can be changed of a schedule."""

    model_config = ConfigDict(extra="forbid")

    every_s: int | None = Field(default=None, ge=EVERY_S_MIN, le=EVERY_S_MAX)
    enabled: bool | None = None


def add_routes(api: APIRouter, schedules: ScheduleBook, integrations: Integrations, clock: Clock, ids: Ids) -> None:
    """`/schedules`."""

    @api.post("/schedules", status_code=201, summary="Add a schedule (Synchronisation > Schedule)")
    async def add(
        body: NewSchedule, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """The first run starts after one interval."""
        integration = await integrations.get(caller.tenant, check_id(body.integration_id, "int"))
        strategy_of(offers_of(integration.vendor, integration.capability_overrides), body.resource)
        now = clock.now()
        schedule = Schedule(
            id=ids.new("sch"),
            tenant=caller.tenant,
            integration_id=integration.id,
            resource=body.resource,
            mode=body.mode,
            every_s=body.every_s,
            enabled=body.enabled,
            version=1,
            due_at=now + timedelta(seconds=body.every_s),
            created_at=now,
        )
        await schedules.add(caller, schedule)
        response.headers["ETag"] = etag(schedule.version)
        response.headers["Location"] = f"/sync/v1/schedules/{schedule.id}"
        return schedule_json(schedule)

    @api.get("/schedules", summary="Schedules (Synchronisation > Schedule)")
    async def list_schedules(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """What runs how often."""
        page = await schedules.list(caller.tenant, integration_id, cursor, limit)
        return page_body([schedule_json(schedule) for schedule in page.items], page.next)

    @api.get("/schedules/{schedule_id}", summary="One schedule")
    async def read(
        schedule_id: str, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """A schedule; its ETag is needed to change it."""
        schedule = await schedules.get(caller.tenant, check_id(schedule_id, "sch"))
        response.headers["ETag"] = etag(schedule.version)
        return schedule_json(schedule)

    @api.patch("/schedules/{schedule_id}", summary="Change a schedule")
    async def change(
        schedule_id: str,
        body: ScheduleChange,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Set its interval, or switch it off or on; the next run is one interval away."""
        schedule = await schedules.get(caller.tenant, check_id(schedule_id, "sch"))
        if_match(request, schedule.version)
        changed: dict[str, Any] = body.model_dump(exclude_none=True)
        changed["due_at"] = clock.now() + timedelta(seconds=body.every_s or schedule.every_s)
        after = await schedules.change(caller, schedule, changed)
        response.headers["ETag"] = etag(after.version)
        return schedule_json(after)

    @api.delete("/schedules/{schedule_id}", status_code=204, summary="Delete a schedule")
    async def remove(schedule_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> None:
        """Runs that it started go on."""
        await schedules.remove(caller, check_id(schedule_id, "sch"))
