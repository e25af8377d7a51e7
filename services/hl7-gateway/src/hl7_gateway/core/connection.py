"""One MLLP connection, without its socket: bytes and the time in, frames and decisions out.

Rules. A frame in hand must end `frame_timeout_s` after its first byte, however busily it trickles. An idle connection
is one on which no frame ends and no answer is owed; bytes outside frames do not keep it open. A connection that is to
end answers first what it took: it stops reading, waits for the answers that are owed, then closes. Asked to stop in
the middle of a frame, it reads that frame to its end.

Theory of operation. `hl7v2.mllp.Decoder` finds the frames; the table below says what each event means in each state;
`Connection` joins the two and keeps the deadlines. The adapter owns the socket: it passes on what it reads, reads only
while `reading`, writes the answers in order, and closes once the state is CLOSED.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hl7v2 import mllp


class State(StrEnum):
    """Where a connection stands."""

    IDLE = "idle"
    IN_FRAME = "in-frame"
    FINISHING = "finishing"
    """Asked to stop; the frame in hand is still read."""
    DRAINING = "draining"
    """Reads no more; answers are owed."""
    CLOSED = "closed"


class Event(StrEnum):
    """What can happen to it."""

    FRAME_BEGAN = "frame-began"
    FRAME_ENDED = "frame-ended"
    PEER_ENDED = "peer-ended"
    FRAME_TOO_LARGE = "frame-too-large"
    TOO_SLOW = "too-slow"
    TOO_IDLE = "too-idle"
    STOP = "stop"
    ALL_ANSWERED = "all-answered"
    LOST = "lost"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.IDLE: {
        Event.FRAME_BEGAN: State.IN_FRAME,
        Event.FRAME_ENDED: State.IDLE,
        Event.PEER_ENDED: State.DRAINING,
        Event.FRAME_TOO_LARGE: State.DRAINING,
        Event.TOO_IDLE: State.DRAINING,
        Event.STOP: State.DRAINING,
        Event.LOST: State.CLOSED,
    },
    State.IN_FRAME: {
        Event.FRAME_BEGAN: State.IN_FRAME,
        Event.FRAME_ENDED: State.IDLE,
        Event.PEER_ENDED: State.DRAINING,
        Event.FRAME_TOO_LARGE: State.DRAINING,
        Event.TOO_SLOW: State.DRAINING,
        Event.STOP: State.FINISHING,
        Event.LOST: State.CLOSED,
    },
    State.FINISHING: {
        Event.FRAME_BEGAN: State.FINISHING,
        Event.FRAME_ENDED: State.DRAINING,
        Event.PEER_ENDED: State.DRAINING,
        Event.FRAME_TOO_LARGE: State.DRAINING,
        Event.TOO_SLOW: State.DRAINING,
        Event.STOP: State.FINISHING,
        Event.LOST: State.CLOSED,
    },
    State.DRAINING: {
        Event.FRAME_BEGAN: State.DRAINING,
        Event.FRAME_ENDED: State.DRAINING,
        Event.FRAME_TOO_LARGE: State.DRAINING,
        Event.PEER_ENDED: State.DRAINING,
        Event.STOP: State.DRAINING,
        Event.ALL_ANSWERED: State.CLOSED,
        Event.LOST: State.CLOSED,
    },
    State.CLOSED: {
        Event.STOP: State.CLOSED,
        Event.LOST: State.CLOSED,
        Event.PEER_ENDED: State.CLOSED,
    },
}


class LocalProtocolError(Exception):
    """The adapter told a connection what cannot happen in its state: our fault, never the peer's."""


def transition(state: State, event: Event) -> State:
    """The state after an event; raises LocalProtocolError naming both when the table has no such row."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError(f"{event.value} in state {state.value}") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may do."""

    frame_bytes_max: int
    frame_timeout_s: float
    idle_timeout_s: float


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A frame over the cap, to be answered with a rejection; then the connection ends."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Outside:
    """Bytes that belong to no frame: counted, not answered, not kept."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A frame that did not end: another one began inside it, or the peer went away. Nothing was acknowledged."""


Received = mllp.Frame | TooLarge | Outside | Cut
"""`mllp.Frame` is a whole message, to be answered."""


class Connection:
    """See the module's text. Times are seconds of one monotonic clock."""

    __slots__ = ("_decoder", "_frame_began_at", "_limits", "_progress_at", "owed", "state")

    def __init__(self, limits: Limits, now: float) -> None:
        self.state = State.IDLE
        self.owed = 0
        """Frames that were received and not answered yet."""
        self._limits = limits
        self._decoder = mllp.Decoder(frame_bytes_max=limits.frame_bytes_max)
        self._progress_at = now
        self._frame_began_at = now

    @property
    def reading(self) -> bool:
        """Whether more bytes are wanted."""
        return self.state is State.IDLE or self.state is State.IN_FRAME or self.state is State.FINISHING

    def receive_data(self, data: bytes, now: float) -> list[Received]:
        """What these bytes complete, in order. After DRAINING began, bytes are ignored: nobody will answer them."""
        found: list[Received] = []
        if not self.reading:
            return found
        for event in self._decoder.receive_data(data):
            if isinstance(event, mllp.Frame):
                self._happened(Event.FRAME_ENDED)
                self._progress_at = now
                self.owed += 1
                found.append(event)
            elif isinstance(event, mllp.FrameTooLarge):
                self._happened(Event.FRAME_TOO_LARGE)
                self.owed += 1
                found.append(TooLarge(event.size))
                return found
            elif isinstance(event, mllp.JunkBeforeStart):
                found.append(Outside(event.count))
            elif isinstance(event, mllp.MissingStart):
                found.append(Outside(event.size_bytes))
            else:
                self._frame_began_at = now
                found.append(Cut())
        if self.state is State.IDLE and self._decoder.inside_frame:
            self._happened(Event.FRAME_BEGAN)
            self._frame_began_at = now
        return found

    def receive_eof(self) -> list[Received]:
        """The peer sends no more; what it is owed is still sent."""
        if not self.reading:
            return []
        found: list[Received] = []
        for event in self._decoder.receive_eof():
            if isinstance(event, mllp.Frame):  # whole but for the carriage return behind its end block
                self.owed += 1
                found.append(event)
            else:
                found.append(Cut())
        self._happened(Event.PEER_ENDED)
        self._settle()
        return found

    def answered(self) -> None:
        """One frame that was owed an answer has been given it."""
        self.owed -= 1
        self._settle()

    def stop(self) -> None:
        """End as soon as nothing is in hand."""
        self._happened(Event.STOP)
        self._settle()

    def lost(self) -> None:
        """The socket is gone; answers that are still owed go nowhere."""
        self._happened(Event.LOST)

    def check_time(self, now: float, *, paused: bool = False) -> Event | None:
        """TOO_SLOW or TOO_IDLE when a deadline has passed: the connection then ends.

        `paused`: we are not reading, so that the peer cannot be late; its time begins anew.
        """
        if paused:
            self._frame_began_at = self._progress_at = now
            return None
        if self.state in {State.IN_FRAME, State.FINISHING}:
            late = now - self._frame_began_at >= self._limits.frame_timeout_s
            overdue = Event.TOO_SLOW if late else None
        else:
            idle = self.state is State.IDLE and not self.owed
            overdue = Event.TOO_IDLE if idle and now - self._progress_at >= self._limits.idle_timeout_s else None
        if overdue is not None:
            self._happened(overdue)
            self._settle()
        return overdue

    def _happened(self, event: Event) -> None:
        self.state = transition(self.state, event)

    def _settle(self) -> None:
        if self.state is State.DRAINING and not self.owed:
            self._happened(Event.ALL_ANSWERED)
