"""Synchronisation runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock
from common.models.identifiers import check_id
from common.runtime import audit
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from sync.core.run import Mode, Resource, run_json
from sync.core.run_state import RunState
from sync.ports import RunBook, RunList, Transactions
from sync.use_cases.end_run import cancel_run
from sync.use_cases.start_run import StartRun


class NewRun(BaseModel):
    """What is to be synchronised."""

    model_config = ConfigDict(extra="forbid")

    integration_id: str = Field(max_length=40, description="the PMS system (integration)")
    resource: Resource = Field(description="what to bring over")
    mode: Mode = Field(
        default=Mode.INCREMENTAL,
        description="full: 30 days back to 180 days ahead; incremental: yesterday to 30 days ahead",
    )


def add_routes(
    api: APIRouter, transactions: Transactions, runs: RunBook, listed: RunList, start_run: StartRun, clock: Clock
) -> None:
    """`/runs`."""

    @api.post("/runs", status_code=202, summary="Start a synchronisation run (Synchronisation > Run now)")
    async def start(body: NewRun, response: Response, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Queue a run; watch it at its Location. While one of the same integration and resource is going on: 409."""
        integration_id = check_id(body.integration_id, "int")
        integration = await start_run.check(caller.tenant, integration_id, body.resource)
        async with transactions.write() as session:
            run = await start_run.queue(
                session, integration, body.resource, body.mode, trigger="api", by=caller.subject
            )
            await audit.record(session, audit.Audit("run.started", run.id, caller, clock.now()))
        start_run.wake()
        response.headers["Location"] = f"/sync/v1/runs/{run.id}"
        return run_json(run)

    @api.get("/runs", summary="Synchronisation runs (Synchronisation > History)")
    async def list_runs(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        resource: Annotated[Resource | None, Query(description="of one resource")] = None,
        state: Annotated[RunState | None, Query(description="in one state")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Runs, newest first."""
        page = await listed.list(caller.tenant, integration_id, resource, state, cursor, limit)
        return page_body([run_json(run) for run in page.items], page.next)

    @api.get("/runs/{run_id}", summary="One synchronisation run")
    async def read_run(run_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """State, counters and, when it failed, the error code with its next step."""
        return run_json(await listed.get(caller.tenant, check_id(run_id, "run")))

    @api.post("/runs/{run_id}:cancel", summary="Cancel a synchronisation run")
    async def cancel(run_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """It stops at its next page; what it brought so far stays."""
        run = await listed.get(caller.tenant, check_id(run_id, "run"))
        async with transactions.write() as session:
            cancelled = await cancel_run(session, run.id, runs=runs, clock=clock)
            await audit.record(session, audit.Audit("run.cancelled", run.id, caller, clock.now()))
        return run_json(cancelled)
