"""Replays: stored messages told of again, or sent to somebody, many at a time.

Rules. The messages of a replay are fixed when it starts: those that fit its filter, up to the newest there was. They
go in the order they were stored (ids are not that order: two of one millisecond are in any). Only a running replay
moves; a page and the cursor behind it are one transaction, so a page is handed over once or not at all, and after a
crash the next owner goes on behind the cursor.

Theory of operation. A page is what the rate allows in a quarter of a second. A target that can take nothing now (a full
queue, a bus that is away) makes the replay wait, in the state running, with the reason in `waiting_code`; nothing is
skipped because of it. A message that can never be handed over is skipped and counted under its error code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text
from common.models.errors import SuiteError
from hl7_gateway.core.message import MessageState, StoredMessage

RATE_PER_S_MIN: Final = 0.1
RATE_PER_S_MAX: Final = 1_000.0
RATE_PER_S_DEFAULT: Final = 50.0
TURN_S: Final = 0.25
PAGE_MESSAGES_MAX: Final = 200
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
QUEUE_SHARE: Final = 0.5
"""How much of a connection's queue a replay may fill: what happens now must find room beside what happened once."""
LEASE_NAME: Final = "hl7.replays"
REJECTED: Final = "message.not-replayable"
BODY_DELETED: Final = "message.body-deleted"


class State(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DONE = "done"


class Step(StrEnum):
    """What happens to a replay."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    FAIL = "fail"
    FINISH = "finish"


TRANSITIONS: Final[Mapping[State, Mapping[Step, State]]] = {
    State.RUNNING: {
        Step.PAUSE: State.PAUSED,
        Step.RESUME: State.RUNNING,
        Step.CANCEL: State.CANCELLED,
        Step.FAIL: State.FAILED,
        Step.FINISH: State.DONE,
    },
    State.PAUSED: {Step.PAUSE: State.PAUSED, Step.RESUME: State.RUNNING, Step.CANCEL: State.CANCELLED},
    State.FAILED: {Step.RESUME: State.RUNNING, Step.CANCEL: State.CANCELLED},
    State.CANCELLED: {Step.CANCEL: State.CANCELLED},
    State.DONE: {},
}
ENDED: Final = frozenset({State.CANCELLED, State.DONE})


def moved(state: State, step: Step) -> State:
    """The state after a step. Raises SuiteError `request.conflict`."""
    after = TRANSITIONS[state].get(step)
    if after is None:
        raise SuiteError("request.conflict", f"It is {state}: nothing is left to {step}.")
    return after


@dataclass(frozen=True, slots=True)
class Target:
    """Where the messages go: to the consumers of the bus (`connection_id` empty), or into a sender's queue."""

    connection_id: str = ""

    @property
    def kind(self) -> str:
        """As the API calls it."""
        return "connection" if self.connection_id else "bus"

    def as_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"kind": self.kind, "connection_id": self.connection_id or None}


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay. `filter` is in JSON form; `cursor` is the place in the intake of the last message of the last page.

    `worked_ms` is how long pages were handed over, pauses between them included, a person's pause left out.
    """

    id: str
    tenant: str
    target: Target
    filter: Mapping[str, Any]
    rate_per_s: float
    state: State
    total: int
    done: int
    skipped: Mapping[str, int]
    cursor: int
    up_to: int
    waiting_code: str | None
    error_code: str | None
    author: str
    reason: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    worked_ms: int = 0

    @property
    def remaining(self) -> int:
        """Messages that are still to come."""
        return 0 if self.state is State.DONE else max(0, self.total - self.done - sum(self.skipped.values()))

    def as_json(self) -> dict[str, Any]:
        """As the API shows it; a patient in the filter stays a secret."""
        shown = {name: value for name, value in self.filter.items() if value is not None and name != "patient_keys"}
        measured = round(self.done * 1000 / self.worked_ms, 1) if self.worked_ms else None
        return {
            "id": self.id,
            "target": self.target.as_json(),
            "filter": {**shown, "patient": self.filter.get("patient_keys") is not None},
            "state": self.state.value,
            "total": self.total,
            "done": self.done,
            "skipped": dict(self.skipped),
            "remaining": self.remaining,
            "rate_per_s": self.rate_per_s,
            "measured_per_s": measured,
            "remaining_s": None if self.state in ENDED else math.ceil(self.remaining / self.rate_per_s),
            "waiting_code": self.waiting_code,
            "error_code": self.error_code,
            "author": self.author,
            "reason": self.reason,
            "created_at": instant_text(self.created_at),
            "updated_at": instant_text(self.updated_at),
            "ended_at": None if self.ended_at is None else instant_text(self.ended_at),
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Messages of one type and state that fit a filter."""

    message_type: str
    trigger_event: str
    state: MessageState
    count: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What fits a filter. `up_to` is the place in the intake of the last."""

    groups: Sequence[Group] = ()
    first: StoredMessage | None = None
    last: StoredMessage | None = None
    up_to: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(group.count for group in self.groups)

    @property
    def rejected(self) -> int:
        """Those that no consumer was ever told of."""
        return sum(group.count for group in self.groups if group.state is MessageState.REJECTED)

    def by_type(self) -> list[dict[str, Any]]:
        """Counts by type, the most frequent first."""
        ordered = sorted(self.groups, key=lambda one: (-one.count, one.message_type, one.trigger_event, one.state))
        return [
            {
                "message_type": group.message_type,
                "trigger_event": group.trigger_event,
                "state": group.state.value,
                "count": group.count,
            }
            for group in ordered
        ]


@dataclass(frozen=True, slots=True)
class PageMessage:
    """A message of a page, with its place in the intake; `sealed_body` None: retention took it."""

    sequence: int
    message: StoredMessage
    sealed_body: bytes | None


@dataclass(slots=True)
class Sorted:
    """A page after each message was looked at: what goes, and how many do not, by error code."""

    going: list[PageMessage] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, code: str) -> None:
        """One more that does not go."""
        self.skipped[code] = self.skipped.get(code, 0) + 1


def sort_page(page: Sequence[PageMessage], target: Target) -> Sorted:
    """Which messages can go at all. A rejected one is no news for the consumers; another receiver may take it."""
    found = Sorted()
    for one in page:
        if one.sealed_body is None:
            found.skip(BODY_DELETED)
        elif target.kind == "bus" and one.message.state is MessageState.REJECTED:
            found.skip(REJECTED)
        else:
            found.going.append(one)
    return found


def page_messages(rate_per_s: float) -> int:
    """How many messages a page has at most."""
    return max(1, min(PAGE_MESSAGES_MAX, math.floor(rate_per_s * TURN_S)))


def queue_room(queue_messages_max: int, depth: int) -> int:
    """How many messages a replay may put into a queue now."""
    return max(0, max(1, int(queue_messages_max * QUEUE_SHARE)) - depth)


def cut(sizes: Sequence[int], bytes_max: int = PAGE_BYTES_MAX) -> int:
    """How many of these messages (sizes in bytes) one page takes: at least the first."""
    taken = 0
    for count, size in enumerate(sizes):
        taken += size
        if count and taken > bytes_max:
            return count
    return len(sizes)
