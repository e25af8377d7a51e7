"""Replay of stored messages: one, or many as a replay that can be watched, paused and cancelled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from hl7_gateway.api.connections import Move, Reason
from hl7_gateway.api.messages import CATCH_UP_S, Backlog, MessageSearch
from hl7_gateway.core.message import StoredMessage
from hl7_gateway.core.replay import RATE_PER_S_DEFAULT, RATE_PER_S_MAX, RATE_PER_S_MIN, Replay, Step, Target
from hl7_gateway.ports import ReplayBook
from hl7_gateway.use_cases.replay_messages import Plan, Preview, ReplayMessages
from hl7_gateway.use_cases.search_messages import PatientKeys

Who = Annotated[Caller, Depends(caller_of)]


class ReplayTarget(BaseModel):
    """Where the messages go."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["bus", "connection"] = Field(default="bus", description="bus: to the consumers again")
    connection_id: str | None = Field(default=None, max_length=40, description="of a sender; with kind connection")

    def target(self) -> Target:
        """Raises SuiteError `request.invalid-id` when a connection is wanted and none is named."""
        return Target(check_id(self.connection_id or "", "con")) if self.kind == "connection" else Target()


class NewReplay(BaseModel):
    """Which messages to replay, where to, how fast, and why."""

    model_config = ConfigDict(extra="forbid")

    filter: MessageSearch = Field(description="as of messages:search, without cursor and limit")
    target: ReplayTarget = Field(default_factory=ReplayTarget)
    rate_per_s: float = Field(
        default=RATE_PER_S_DEFAULT, ge=RATE_PER_S_MIN, le=RATE_PER_S_MAX, description="messages a second at most"
    )
    preview: bool = Field(default=False, description="true: say what would happen, and do nothing")
    reason: Reason

    @field_validator("filter")
    @classmethod
    def _no_page(cls, wanted: MessageSearch) -> MessageSearch:
        if wanted.model_fields_set & {"cursor", "limit"}:
            raise ValueError("a replay takes all that fit: leave cursor and limit out")
        return wanted


def add_routes(
    api: APIRouter, book: ReplayBook, replays: ReplayMessages, patients: PatientKeys, backlog: Backlog
) -> None:
    """Paths begin after /hl7/v1."""
    _start(api, replays, patients, backlog)
    _look(api, book)
    _steps(api, replays)


def _start(api: APIRouter, replays: ReplayMessages, patients: PatientKeys, backlog: Backlog) -> None:
    @api.post("/messages/{message_id}:replay", status_code=202, summary="Replay an HL7 message to the consumers")
    async def replay_one(message_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """It is published again with a `replay_id`, so that it is applied although it was seen before.

        Consumers keep their order: a message that is older than what was applied since changes nothing.
        """
        return await replays.one(caller, check_id(message_id, "msg"), why.reason)

    @api.post("/replays", status_code=202, summary="Replay HL7 messages, or preview it")
    async def start(body: NewReplay, response: Response, caller: Who) -> dict[str, Any]:
        """All messages that fit now, in the order they came. With `preview` (200) nothing happens.

        `complete` false: newer messages are still being catalogued and do not belong to it.
        """
        complete = await backlog.caught_up(CATCH_UP_S)
        wanted = await patients.filter(caller.tenant, body.filter.filter(), body.filter.numbers())
        plan = Plan(wanted, body.target.target(), body.rate_per_s)
        if body.preview:
            response.status_code = 200
            return {**preview_json(await replays.preview(caller.tenant, plan)), "complete": complete}
        started = await replays.start(caller, plan, body.reason)
        response.headers["Location"] = f"/hl7/v1/replays/{started.id}"
        return {**started.as_json(), "complete": complete}


def _look(api: APIRouter, book: ReplayBook) -> None:
    @api.get("/replays", summary="Replays of HL7 messages")
    async def list_replays(caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None) -> dict[str, Any]:
        """Newest first."""
        page = await book.list(caller.tenant, cursor, limit)
        return page_body([one.as_json() for one in page.items], page.next)

    @api.get("/replays/{replay_id}", summary="One replay of HL7 messages, and how far it is")
    async def read(replay_id: str, caller: Who) -> dict[str, Any]:
        """`waiting_code` says why nothing goes on for now, `skipped` how many could not be handed over, by error."""
        return (await book.get(caller.tenant, check_id(replay_id, "rpl"))).as_json()


def _steps(api: APIRouter, replays: ReplayMessages) -> None:
    async def move(replay_id: str, step: Step, why: Move, caller: Caller) -> Replay:
        return await replays.move(caller, check_id(replay_id, "rpl"), step, why.reason)

    @api.post("/replays/{replay_id}:pause", summary="Pause a replay")
    async def pause(replay_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """What was handed over stays; `:resume` goes on behind it."""
        return (await move(replay_id, Step.PAUSE, why, caller)).as_json()

    @api.post("/replays/{replay_id}:resume", summary="Resume a replay")
    async def resume(replay_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """A paused one, or one that failed once its cause is gone."""
        return (await move(replay_id, Step.RESUME, why, caller)).as_json()

    @api.post("/replays/{replay_id}:cancel", summary="Cancel a replay")
    async def cancel(replay_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """For good; what was handed over stays."""
        return (await move(replay_id, Step.CANCEL, why, caller)).as_json()


def preview_json(seen: Preview) -> dict[str, Any]:
    """A preview as the API shows it."""
    counted = seen.counted
    return {
        "preview": True,
        "count": counted.total,
        "first": _end(counted.first),
        "last": _end(counted.last),
        "by_type": counted.by_type(),
        "would": seen.would,
    }


def _end(message: StoredMessage | None) -> dict[str, Any] | None:
    if message is None:
        return None
    return {
        "id": message.id,
        "received_at": instant_text(message.received_at),
        "message_type": message.message_type,
        "trigger_event": message.trigger_event,
        "control_id": message.control_id,
    }
