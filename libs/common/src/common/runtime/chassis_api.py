"""The routes that every module has: its stream, its audit log, its dead letters, its readiness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from common.models.access import AUDIT, OPERATE, READ_STATE, SERVICES, Access
from common.runtime import audit
from common.runtime.authentication import Caller, caller_of
from common.runtime.database import Database
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from common.runtime.inbox import Consumer, discard_parked, list_parked, replay_parked
from common.runtime.runtime import Runtime
from common.runtime.stream import StreamHub
from common.runtime.tenant_data import TenantData

CHASSIS_ACCESS: Final = (
    Access(
        "GET", "/stream", frozenset(), "opened by a one-minute ticket, since EventSource cannot send a bearer token"
    ),
    Access("POST", "/stream-tickets", READ_STATE),
)
DATABASE_ACCESS: Final = (
    Access("POST", "/audit:search", AUDIT),
    Access("GET", "/audit/export", AUDIT),
    Access("GET", "/dead-letters", READ_STATE),
    Access("POST", "/dead-letters/{dead_letter_id}:replay", OPERATE),
    Access("POST", "/dead-letters/{dead_letter_id}:discard", OPERATE),
)
TENANT_DATA_ACCESS: Final = (
    Access("GET", "/tenant-data", SERVICES),
    Access("GET", "/tenant-data/{part}", SERVICES),
)
NEXT_CURSOR: Final = "x-next-cursor"


class AuditSearch(BaseModel):
    """Which audit entries: all filters are optional and must all hold."""

    model_config = ConfigDict(extra="forbid")

    action: str | None = Field(default=None, max_length=100, description="exact action, e.g. integration.changed")
    subject: str | None = Field(default=None, max_length=100, description="id of the thing")
    caller: str | None = Field(default=None, max_length=200, description="who did it")
    after: datetime | None = Field(default=None, description="from this instant on")
    before: datetime | None = Field(default=None, description="up to this instant")
    cursor: str | None = Field(default=None, max_length=512)
    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=500)


def stream_router(runtime: Runtime, module: str, hub: StreamHub, tag: str) -> APIRouter:
    """The stream of one module and its tickets."""
    router = APIRouter(tags=[tag])

    @router.post("/stream-tickets", status_code=201, summary="Ticket for the event stream")
    async def issue(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """A ticket for `GET …/stream?ticket=…`, good for one minute and one stream."""
        return {"ticket": runtime.tickets.issue(caller, module), "expires_in": 60}

    @router.get("/stream", summary="Event stream (SSE)")
    async def stream(ticket: Annotated[str, Query(max_length=2000)]) -> StreamingResponse:
        """Events of this service for the ticket's tenant, as they happen.

        Named events: the types of docs/asyncapi.yaml; `resync` (at the start, and where events were left out: read what
        you show) and `end` (the service stops). A ticket opens one stream: after an error or `end`, ask for a new one.
        """
        tenant = runtime.tickets.redeem(ticket, module)
        runtime.tenants.check(tenant)
        hub.admit(tenant)
        frames: AsyncIterator[bytes] = hub.listen(tenant)
        return StreamingResponse(frames, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return router


def database_router(runtime: Runtime, database: Database, consumers: dict[str, Consumer], tag: str) -> APIRouter:
    """The audit log and the dead letters of one module."""
    router = APIRouter(tags=[tag])

    @router.post("/audit:search", summary="Search the audit log")
    async def search(body: AuditSearch, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Who did what, newest first."""
        async with database.read() as session:
            page = await audit.search(
                session,
                caller.tenant,
                body.model_dump(exclude={"cursor", "limit"}, exclude_none=True),
                body.cursor,
                body.limit,
            )
        return page_body(page.items, page.next)

    @router.get("/audit/export", summary="Export the audit log as FHIR AuditEvent")
    async def export(caller: Annotated[Caller, Depends(caller_of)]) -> StreamingResponse:
        """The whole log of the tenant as NDJSON of FHIR R4 AuditEvent, oldest first."""
        return StreamingResponse(audit.export(database, caller.tenant), media_type="application/fhir+ndjson")

    @router.get("/dead-letters", summary="Dead letters")
    async def dead_letters(
        caller: Annotated[Caller, Depends(caller_of)], limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """Events that could not be handled, and those parked behind them, oldest first."""
        async with database.read() as session:
            page = await list_parked(session, caller.tenant, cursor, limit)
        return page_body(page.items, page.next)

    @router.post("/dead-letters/{dead_letter_id}:replay", summary="Replay a dead letter")
    async def replay(dead_letter_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Handle the events of its key again, in order, until one fails."""
        outcome = await replay_parked(database, consumers, caller.tenant, dead_letter_id)
        await _audit(runtime, database, caller, "dead-letter.replayed", dead_letter_id)
        return {"handled": outcome.handled, "remaining": outcome.remaining, "error_code": outcome.error_code}

    @router.post("/dead-letters/{dead_letter_id}:discard", summary="Discard a dead letter")
    async def discard(dead_letter_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Drop one event; those parked behind it go on."""
        outcome = await discard_parked(database, consumers, caller.tenant, dead_letter_id)
        await _audit(runtime, database, caller, "dead-letter.discarded", dead_letter_id)
        return {"handled": outcome.handled, "remaining": outcome.remaining, "error_code": outcome.error_code}

    return router


def tenant_data_router(data: TenantData, runtime: Runtime, tag: str) -> APIRouter:
    """What the module holds of the caller's practice, for its export."""
    router = APIRouter(tags=[tag])

    @router.get("/tenant-data", summary="What is held of a practice (services)")
    async def counts(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Rows by part."""
        return {"parts": await data.counts(caller.tenant)}

    @router.get("/tenant-data/{part}", summary="A page of what is held of a practice (services)")
    async def page(part: str, caller: Annotated[Caller, Depends(caller_of)], cursor: CursorText = None) -> Response:
        """NDJSON, what was sealed opened and secrets left out; where it goes on stands in `x-next-cursor`."""
        wanted = data.part(part)
        if cursor is None:
            await _audit(runtime, data.database, caller, "tenant-data.exported", part)
        async with data.database.read() as session:
            found = await wanted.page(session, caller.tenant, cursor)
        body = b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in found.items)
        return Response(body, media_type="application/x-ndjson", headers={NEXT_CURSOR: found.next or ""})

    return router


async def _audit(runtime: Runtime, database: Database, caller: Caller, action: str, subject: str) -> None:
    async with database.write() as session:
        await audit.record(
            session, audit.Audit(action=action, subject=subject, caller=caller, time=runtime.clock.now())
        )


def ready_response(reasons: dict[str, list[str]], module: str | None = None) -> JSONResponse:
    """200 with the modules that are ready, or 503 with the reasons."""
    chosen = reasons if module is None else {module: reasons.get(module, ["unknown module"])}
    ready = not any(chosen.values())
    return JSONResponse(
        {
            "status": "ready" if ready else "not ready",
            "modules": {name: why or "ready" for name, why in chosen.items()},
        },
        status_code=200 if ready else 503,
    )
