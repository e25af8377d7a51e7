"""HL7 traffic: feeds of the simulated practice, and the simulated receiver with what it got."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock, instant_text
from common.models.errors import FieldError, SuiteError
from common.models.paging import decode_cursor, encode_cursor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from simulator.core.chance import number
from simulator.core.feed import CONNECTIONS_MAX, RATE_MAX, FeedPlan, FeedState, state_json
from simulator.core.hl7_messages import FEED_KINDS
from simulator.core.hostile_receiver import Inbox
from simulator.core.shape import Shape, shape_from
from simulator.core.world import World
from simulator.use_cases.run_feeds import Feeds

CallerOf = Annotated[Caller, Depends(caller_of)]
FeedName = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,39}$", description="how the feed is called")]


class Receiver(Protocol):
    """The simulated receiver."""

    inbox: Inbox

    def state(self) -> dict[str, Any]:
        """Where it listens, and its counters."""


class FeedStart(BaseModel):
    """How a feed is to be."""

    model_config = ConfigDict(extra="forbid")

    practice: str | None = Field(default=None, max_length=40, description="a simulated practice; by default the first")
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="where the listener is")
    port: int = Field(ge=1, le=65535)
    rate_per_minute: float = Field(default=60.0, gt=0, le=RATE_MAX, description="messages per minute, on average")
    curve: Literal["constant", "workday", "shape"] = Field(
        default="constant",
        description="workday: more at the practice's busy hours, few at night; shape: as the shape's times were",
    )
    connections: int = Field(default=1, ge=1, le=CONNECTIONS_MAX, description="a patient's messages keep to one")
    seed: int | None = Field(default=None, ge=0, description="the same seed sends the same messages; default: by time")
    messages_max: int | None = Field(default=None, ge=1, description="ends after so many; null: goes on")
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="how long to wait for an acknowledgement")
    mix: dict[str, int] = Field(default={}, max_length=40, description="kind → weight; empty: as in the field")
    shape: dict[str, Any] | None = Field(default=None, description="a captured shape (python -m simulator capture)")


def add_routes(api: APIRouter, world: World, feeds: Feeds, receiver: Receiver, clock: Clock) -> None:
    """Paths begin after /simulator/v1."""
    _feed_routes(api, world, feeds, clock)
    _receiver_routes(api, receiver)


def _feed_routes(api: APIRouter, world: World, feeds: Feeds, clock: Clock) -> None:
    @api.get("/feeds", summary="Integration Simulator: HL7 feeds")
    async def list_feeds(caller: CallerOf) -> dict[str, Any]:
        """Every feed of the tenant with what became of its messages."""
        return page_body([_feed_json(state) for state in feeds.all(caller.tenant)], None)

    @api.get("/feeds/{name}", summary="Integration Simulator: one HL7 feed")
    async def read_feed(name: FeedName, caller: CallerOf) -> dict[str, Any]:
        """One feed."""
        return _feed_json(feeds.get(caller.tenant, name))

    @api.put("/feeds/{name}", summary="Integration Simulator: start an HL7 feed")
    async def start_feed(name: FeedName, body: FeedStart, caller: CallerOf) -> dict[str, Any]:
        """Start a feed, in the place of one of that name. The sender's faults that are on shape what it sends."""
        plan = FeedPlan(
            name=name,
            practice=body.practice or world.names[0],
            host=body.host,
            port=body.port,
            rate_per_minute=body.rate_per_minute,
            curve=body.curve,
            connections=body.connections,
            # Below 2^53, so that every JSON reader gives back the same number.
            seed=number(0, instant_text(clock.now()), name) % 2**53 if body.seed is None else body.seed,
            timeout_s=body.timeout_s,
            messages_max=body.messages_max,
            mix=_mix(body.mix),
            shape=_shape(body),
        )
        return _feed_json(await feeds.start(caller.tenant, plan))

    @api.delete("/feeds/{name}", status_code=204, summary="Integration Simulator: end an HL7 feed")
    async def remove_feed(name: FeedName, caller: CallerOf) -> Response:
        """End a feed and forget its counts."""
        await feeds.remove(caller.tenant, name)
        return Response(status_code=204)


def _receiver_routes(api: APIRouter, receiver: Receiver) -> None:
    @api.get("/receiver", summary="Integration Simulator: the simulated HL7 receiver")
    async def read_receiver() -> dict[str, Any]:
        """Where the simulated MLLP receiver listens (PS_SIMULATOR_RECEIVER_PORT), and what it counted."""
        return receiver.state()

    @api.get("/receiver/messages", summary="Integration Simulator: what the HL7 receiver got")
    async def received(limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None) -> dict[str, Any]:
        """Control id, type, size and answer of the last messages, oldest first; never what they say."""
        start = max(decode_cursor(cursor, [int])[0], 0) if cursor else 0
        rows = list(receiver.inbox.records)
        items = [
            {
                "control_id": row.control_id,
                "message_type": row.message_type,
                "size_bytes": row.size_bytes,
                "acknowledgment_code": row.answered or None,
                "received_at": instant_text(row.received_at),
            }
            for row in rows[start : start + limit]
        ]
        return page_body(items, encode_cursor([start + limit]) if start + limit < len(rows) else None)

    @api.delete("/receiver/messages", status_code=204, summary="Integration Simulator: empty the HL7 receiver")
    async def empty() -> Response:
        """Forget what the receiver got, and its counts."""
        receiver.inbox.empty()
        return Response(status_code=204)


def _mix(mix: dict[str, int]) -> dict[str, int]:
    wrong = [name for name, weight in mix.items() if name not in FEED_KINDS or not 0 <= weight <= 1_000_000]
    if wrong or (mix and not any(mix.values())):
        raise _invalid("/mix", f"expected weights from 0 to 1000000, one above 0, of: {', '.join(FEED_KINDS)}")
    return mix


def _shape(body: FeedStart) -> Shape | None:
    if body.shape is None:
        if body.curve == "shape":
            raise _invalid("/curve", "shape needs a shape")
        return None
    if body.mix:
        raise _invalid("/mix", "not together with a shape, which has its own")
    try:
        return shape_from(body.shape)
    except ValueError as error:
        raise _invalid("/shape", str(error)) from None


def _invalid(pointer: str, message: str) -> SuiteError:
    return SuiteError(
        "request.invalid", "1 field(s) are wrong.", fields=[FieldError(pointer, "invalid", message[:500])]
    )


def _feed_json(state: FeedState) -> dict[str, Any]:
    ended = None if state.ended_at is None else instant_text(state.ended_at)
    return {**state_json(state), "started_at": instant_text(state.started_at), "ended_at": ended}
