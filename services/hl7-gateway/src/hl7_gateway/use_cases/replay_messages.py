"""Replay stored messages: one at once, or many as a replay that is worked in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from hl7_gateway.core.connection_configuration import Connection, ConnectionState
from hl7_gateway.core.message import MessageState
from hl7_gateway.core.replay import REJECTED, Counted, Replay, State, Step, Target, queue_room
from hl7_gateway.ports import ConnectionBook, MessageBook, MessageFilter, OrderKeys, OutboundBook, ReplayBook

NOT_ENDED_MAX: Final = 20
"""Replays of one practice that may be running, paused or failed at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay shall do."""

    wanted: MessageFilter
    target: Target
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What fits a plan's filter now, and the sender it would go to with the depth of its queue."""

    plan: Plan
    counted: Counted
    connection: Connection | None = None
    depth: int = 0

    @property
    def would(self) -> dict[str, Any]:
        """What would happen. Bodies that retention took are found out on the way."""
        rejected = self.counted.rejected if self.plan.target.kind == "bus" else 0
        going = self.counted.total - rejected
        told: dict[str, Any] = {
            "target": self.plan.target.as_json(),
            "hand_over": going,
            "skip": {REJECTED: rejected} if rejected else {},
            "rate_per_s": self.plan.rate_per_s,
            "duration_s": round(going / self.plan.rate_per_s, 1),
        }
        if self.connection is not None:
            limit = self.connection.sending.queue_messages_max
            told["queue"] = {
                "state": self.connection.state.value,
                "depth": self.depth,
                "queue_messages_max": limit,
                "room_for_replays": queue_room(limit, self.depth),
            }
        return told


@dataclass(frozen=True, slots=True)
class ReplayMessages:
    """See the module's text. `order_keys` gives the partition keys that messages had when they were told first."""

    book: ReplayBook
    messages: MessageBook
    connections: ConnectionBook
    outbound: OutboundBook
    order_keys: OrderKeys
    started: Callable[[], None]
    clock: Clock
    ids: Ids

    async def one(self, caller: Caller, message_id: str, reason: str) -> dict[str, Any]:
        """Tell the consumers of one message again.

        Raises SuiteError `message.not-found`, `message.not-replayable` or `message.body-deleted`.
        """
        message = await self.messages.get(caller.tenant, message_id)
        if message.state is MessageState.REJECTED:
            raise SuiteError(REJECTED)
        replay_id = self.ids.new("rpl")
        key = (await self.order_keys([message]))[message.id]
        event_id = await self.book.tell_again(caller, message, key, replay_id, reason)
        return {"message_id": message.id, "replay_id": replay_id, "event_id": event_id, "target": Target().as_json()}

    async def preview(self, tenant: str, plan: Plan) -> Preview:
        """Nothing happens. Raises SuiteError `connection.not-found` or `connection.not-sending`."""
        connection, depth = None, 0
        if plan.target.connection_id:
            connection = await self.connections.get(tenant, plan.target.connection_id)
            if connection.configuration.direction != "sender":
                raise SuiteError("connection.not-sending", "It is a listener.")
            depth = (await self.outbound.live(connection)).depth
        return Preview(plan, await self.book.counted(tenant, plan.wanted), connection, depth)

    async def start(self, caller: Caller, plan: Plan, reason: str) -> Replay:
        """Raises SuiteError `replay.empty`, `replay.too-many`, and as `preview`."""
        seen = await self.preview(caller.tenant, plan)
        if not seen.counted.total:
            raise SuiteError("replay.empty")
        if seen.connection is not None and seen.connection.state is ConnectionState.DISABLED:
            raise SuiteError("connection.not-sending", "It is disabled.")
        now = self.clock.now()
        replay = Replay(
            id=self.ids.new("rpl"),
            tenant=caller.tenant,
            target=plan.target,
            filter=plan.wanted.as_json(),
            rate_per_s=plan.rate_per_s,
            state=State.RUNNING,
            total=seen.counted.total,
            done=0,
            skipped={},
            cursor=0,
            up_to=seen.counted.up_to,
            waiting_code=None,
            error_code=None,
            author=caller.subject,
            reason=reason,
            created_at=now,
            updated_at=now,
        )
        await self.book.add(caller, replay, NOT_ENDED_MAX)
        self.started()
        return replay

    async def move(self, caller: Caller, replay_id: str, step: Step, reason: str) -> Replay:
        """Pause, resume or cancel. Raises SuiteError `replay.not-found` or `request.conflict`."""
        replay = await self.book.move(caller, replay_id, step, reason)
        self.started()
        return replay
