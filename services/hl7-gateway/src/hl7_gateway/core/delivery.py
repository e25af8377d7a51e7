"""Delivering to one receiver, without sockets or database: what happened and the time in, what to do out.

Rules.
1. A message is sent only once it is begun in the store, and its end is stored before the next of its key is begun.
2. At most `in_flight_max` messages wait for an acknowledgement, and never two of one key.
3. An acknowledgement counts for the message in flight whose MSH-10 it repeats in MSA-2, and for nothing else. A control
   id is sent once per connection: before it is sent again (a repetition, or another message that has the same) the
   connection is made anew, so that what an earlier try is still answered cannot be taken for the next one's answer.
4. A message without its answer in time ends the connection. What was in flight is sent again: at least once, with the
   same MSH-10.
5. Asked to stop, nothing more is begun; what is in flight is waited for, or given back.

Theory of operation. `Window` says which message is next. A message goes chosen → beginning (being written to the
store) → ready → in flight → ended, and its end goes to the store with the next write. Some messages of other keys are
begun before their turn: then nothing waits for a commit but the next message of the same key, and one commit serves
all that ended meanwhile. The adapter calls the methods that say what happened, then does what `actions` returns, and
calls again when `deadline` has come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import hl7v2
from hl7_gateway.core.backoff import pause_s
from hl7_gateway.core.connection_configuration import Backoff, Policy, Sending
from hl7_gateway.core.expected_answer import Expectation, Meaning, Stage, expectation, meaning, read_answer
from hl7_gateway.core.outbound_window import Candidate, Read, Window
from hl7v2 import mllp

ANSWER_BYTES_MAX: Final = 1024 * 1024
BEGIN_AHEAD_MAX: Final = 32
"""Messages that are begun in the store before their turn, so that its commits are shared."""
BEGIN_AHEAD_BYTES_MAX: Final = 4 * 1024 * 1024
CONTROL_IDS_MAX: Final = 10_000
"""Control ids that are remembered of one connection; then it is made anew."""

NO_ACKNOWLEDGMENT: Final = "hl7.no-acknowledgment"
FOREIGN: Final = "hl7.acknowledgment-foreign"
UNREADABLE: Final = "hl7.acknowledgment-unreadable"
CUT: Final = "hl7.connection-cut"
TLS: Final = "peer.tls"
INTERRUPTED: Final = "hl7.delivery-interrupted"
ERROR: Final = "hl7.refused-error"
REJECTED: Final = "hl7.refused-reject"


def lease_name(connection_id: str) -> str:
    """Of the lease whose holder works a connection's queue."""
    return f"hl7.send.{connection_id}"


class Link(StrEnum):
    """Where the connection to the receiver stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class Ending(StrEnum):
    """How a receiver ended its connection."""

    CLOSED = "closed"
    RESET = "reset"
    TLS = "tls"
    """Refused after our side of the handshake was done (TLS 1.3: a client's certificate)."""


class End(StrEnum):
    """How a try ended. `returned`: it was begun, but not sent."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    NO_ANSWER = "no-answer"
    INTERRUPTED = "interrupted"
    RETURNED = "returned"


class State(StrEnum):
    """What the store holds a message as."""

    QUEUED = "queued"
    IN_FLIGHT = "in-flight"
    HELD = "held"
    PARKED = "parked"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a receiver is treated."""

    in_flight_max: int
    ack_timeout_s: float
    idle_timeout_s: float
    backoff: Backoff
    on_error: Policy
    on_reject: Policy
    on_no_answer: Policy
    parked_holds_key: bool


def rules_of(sending: Sending, idle_timeout_s: float) -> Rules:
    """The rules that a sender's configuration means."""
    return Rules(
        in_flight_max=sending.in_flight_max,
        ack_timeout_s=sending.ack_timeout_ms / 1000,
        idle_timeout_s=idle_timeout_s,
        backoff=sending.backoff,
        on_error=sending.on_error,
        on_reject=sending.on_reject,
        on_no_answer=sending.on_no_answer,
        parked_holds_key=sending.parked_holds_key,
    )


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one try ended and what becomes of its message: `candidate` counts this try already.

    `state` is queued (again, after `delay_s`), delivered, parked or dropped; `began` is when it was sent, None when it
    was not.
    """

    candidate: Candidate
    end: End
    state: State
    began: float | None
    ended: float
    delay_s: float = 0.0
    acknowledgment_code: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to the receiver, and tell this generation's fate."""

    generation: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection of this generation at once; what it still says is of no interest."""

    generation: int


@dataclass(frozen=True, slots=True)
class Write:
    """One transaction: these ends, then the beginnings. Only one is under way at a time."""

    settlements: tuple[Settlement, ...]
    begin: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write these bytes to the connection of this generation."""

    generation: int
    frame: bytes


Action = Connect | Close | Write | Transmit | Read


@dataclass(slots=True)
class Counts:
    """What happened to the connection since the last write; written with it.

    Where it is not known whether a write was stored, they may be counted twice; what counts messages is not among them.
    """

    connects: int = 0
    connects_failed: int = 0
    interruptions: int = 0
    closed_by_peer: int = 0
    resets: int = 0
    timeouts: int = 0
    answers_foreign: int = 0
    answers_repeated: int = 0
    answers_unreadable: int = 0
    bytes_outside_frames: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was counted."""
        return any(getattr(self, name) for name in self.__slots__)

    def taken(self) -> dict[str, int]:
        """What is not zero, which then begins at zero again."""
        found = {name: value for name in self.__slots__ if (value := int(getattr(self, name)))}
        for name in found:
            setattr(self, name, 0)
        return found

    def give_back(self, counted: Mapping[str, int]) -> None:
        """They could not be written."""
        for name, value in counted.items():
            setattr(self, name, int(getattr(self, name)) + value)


@dataclass(frozen=True, slots=True)
class _Ready:
    candidate: Candidate
    body: bytes
    control_id: str
    expected: Expectation


@dataclass(slots=True)
class _Flight:
    ready: _Ready
    began: float
    deadline: float
    stage: Stage
    note: str = NO_ACKNOWLEDGMENT
    """What its time-out is put down to."""


class Delivery:
    """See the module's text. Times are seconds of one monotonic clock; `chance` is in [0, 1)."""

    def __init__(self, rules: Rules, now: float, window: Window | None = None) -> None:
        self.link = Link.DOWN
        self.generation = 0
        self.counts = Counts()
        self.last_error: str | None = None
        self._rules = rules
        self._window = window or Window()
        self._decoder = mllp.Decoder(frame_bytes_max=ANSWER_BYTES_MAX)
        self._failures = 0
        self._credited = False
        self._connect_at = now
        self._progress_at = now
        self._stopping = False
        self._renew = False
        self._used: set[str] = set()
        self._chosen: list[Candidate] = []
        self._beginning: dict[str, Candidate] = {}
        self._ready: OrderedDict[str, _Ready] = OrderedDict()
        self._flights: OrderedDict[str, _Flight] = OrderedDict()  # by control id
        self._ended: list[Settlement] = []
        self._written: Write | None = None
        self._closing: list[Close] = []
        self._flush = False

    # ---- What happened.

    def wake(self) -> None:
        """Messages were queued."""
        self._window.wake()

    def rescan(self) -> None:
        """Messages came back into the queue, or left it."""
        self._window.rescan()

    def flush(self) -> None:
        """What was counted is to be written, though nothing else is."""
        self._flush = True

    def fetched(self, read: Read, rows: Sequence[Candidate], now: float) -> None:
        """What a read found."""
        self._window.fetched(read, rows, now)

    def unread(self) -> None:
        """A read could not be done; it is asked for again."""
        self._window.unread()

    def written(self, bodies: Mapping[str, bytes], now: float) -> None:
        """The write is stored. `bodies` are of the messages that are begun; the others are gone from the queue."""
        self._written = None
        beginning, self._beginning = self._beginning, {}
        for message_id, candidate in beginning.items():
            body = bodies.get(message_id)
            if body is None:
                self._window.done(candidate)
                continue
            message = hl7v2.parse(body)
            self._ready[message_id] = _Ready(candidate, body, message.control_id, expectation(message))
        if len(bodies) < len(beginning):
            self._window.rescan()
        if self._stopping:
            self._give_back_ready(now)

    def unwritten(self, write: Write) -> None:
        """The write could not be stored; it is asked for again as it was."""
        if self._written is write:
            self._written = None
            self._ended[:0] = write.settlements
            self._beginning = {}
            if self._stopping:
                for candidate in write.begin:
                    self._window.put_back(candidate)
            else:
                self._chosen[:0] = write.begin

    def connected(self, generation: int, now: float) -> None:
        """The connection of this generation is there."""
        if generation != self.generation or self.link is not Link.CONNECTING:
            return
        self.link = Link.UP
        self.counts.connects += 1
        self._credited = False
        self._progress_at = now
        self._decoder = mllp.Decoder(frame_bytes_max=ANSWER_BYTES_MAX)
        for candidate in (*self._chosen, *self._beginning.values(), *(one.candidate for one in self._ready.values())):
            self._used.add(candidate.control_id)  # begun for an earlier connection, and sent on this one

    def connect_failed(self, generation: int, code: str, now: float, chance: float) -> None:
        """It could not be made."""
        if generation != self.generation or self.link is not Link.CONNECTING:
            return
        self.counts.connects_failed += 1
        self._down(code, now, chance)

    def received(self, generation: int, data: bytes, now: float, chance: float) -> None:
        """Bytes of the receiver."""
        if generation != self.generation or self.link is not Link.UP:
            return
        self._progress_at = now
        for event in self._decoder.receive_data(data):
            self._heard(event, now, chance)

    def ended(self, generation: int, ending: Ending, now: float, chance: float) -> None:
        """The receiver ended the connection, or it was lost."""
        if generation != self.generation or self.link is not Link.UP:
            return
        if ending is Ending.CLOSED:
            self.counts.closed_by_peer += 1
        else:
            self.counts.resets += 1
        self._cut(TLS if ending is Ending.TLS else CUT, now, chance)

    def tick(self, now: float, chance: float) -> None:
        """Look at the deadlines."""
        for flight in list(self._flights.values()):
            if flight.deadline <= now and flight.stage is Stage.OBJECTION:
                self._delivered(flight, None, now)
        late = [flight for flight in self._flights.values() if flight.deadline <= now]
        if late:
            self.counts.timeouts += len(late)
            self._cut(late[0].note, now, chance, late)
        idle = self.link is Link.UP and not self._flights and not self._ready
        if idle and now - self._progress_at >= self._rules.idle_timeout_s:
            self._hang_up()

    def stop(self, now: float) -> None:
        """Begin nothing more; `stopped` once what is in flight has ended and is stored."""
        self._stopping = True
        for candidate in self._chosen:
            self._window.put_back(candidate)
        self._chosen = []
        if self._written is None:
            self._give_back_ready(now)

    def give_up(self, now: float) -> None:
        """Wait no longer: what is in flight goes back to the queue."""
        for flight in list(self._flights.values()):
            self._interrupted(flight, now)
        self._hang_up()

    @property
    def stopped(self) -> bool:
        """Whether nothing is in flight and everything is stored."""
        busy = self._flights or self._ready or self._beginning or self._ended or self._written
        return self._stopping and not busy

    @property
    def in_flight(self) -> int:
        """How many messages wait for their acknowledgement."""
        return len(self._flights)

    # ---- What to do.

    def actions(self, now: float) -> list[Action]:
        """What is to be done now, in this order; call it after everything that happened."""
        if not self._stopping:
            self._choose(now)
        found: list[Action] = [*self._closing]
        self._closing = []
        found += self._to_connect(now)
        found += self._to_transmit(now)
        found += self._to_write()
        read = None if self._stopping else self._window.read(now)
        return [*found, read] if read is not None else found

    def deadline(self, now: float) -> float | None:
        """When `tick` and `actions` have to be called again, though nothing happened."""
        times = [flight.deadline for flight in self._flights.values()]
        if self.link is Link.UP and not self._flights:
            times.append(self._progress_at + self._rules.idle_timeout_s)
        if self.link is Link.DOWN and not self._stopping and (self._ready or self._window.sendable(now)):
            times.append(self._connect_at)
        until = self._window.waits_until(now)
        if until is not None and not self._stopping:
            times.append(until)
        return min(times, default=None)

    # ---- Choosing and sending.

    def _choose(self, now: float) -> None:
        if self.link is not Link.UP:
            return
        while not self._renew and self._has_room():
            candidate = self._window.take(now)
            if candidate is None:
                break
            if self._is_used(candidate.control_id):
                self._window.put_back(candidate)
                self._renew = True
                break
            self._used.add(candidate.control_id)
            self._chosen.append(candidate)
        if self._renew and not self._taken:
            self._hang_up()

    @property
    def _taken(self) -> int:
        return len(self._chosen) + len(self._beginning) + len(self._ready) + len(self._flights)

    def _has_room(self) -> bool:
        taken, in_flight_max = self._taken, self._rules.in_flight_max
        if taken < in_flight_max:
            return True
        ahead = (*self._chosen, *self._beginning.values(), *(one.candidate for one in self._ready.values()))
        room = sum(candidate.size_bytes for candidate in ahead) < BEGIN_AHEAD_BYTES_MAX
        return room and taken < in_flight_max + BEGIN_AHEAD_MAX

    def _is_used(self, control_id: str) -> bool:
        return control_id in self._used or len(self._used) >= CONTROL_IDS_MAX

    def _to_connect(self, now: float) -> list[Action]:
        wanted = self._ready or self._chosen or self._beginning or self._window.sendable(now)
        if self.link is not Link.DOWN or self._stopping or not wanted or now < self._connect_at:
            return []
        self.link = Link.CONNECTING
        self.generation += 1
        return [Connect(self.generation)]

    def _to_transmit(self, now: float) -> list[Action]:
        found: list[Action] = []
        while self.link is Link.UP and self._ready and len(self._flights) < self._rules.in_flight_max:
            _, ready = self._ready.popitem(last=False)
            found.append(Transmit(self.generation, mllp.encode(ready.body)))
            self._progress_at = now
            flight = _Flight(ready, now, now + self._rules.ack_timeout_s, ready.expected.first)
            if flight.stage is Stage.NOTHING:
                self._settle(flight, End.DELIVERED, State.DELIVERED, now)
                continue
            self._flights[ready.control_id] = flight
        return found

    def _to_write(self) -> list[Action]:
        due = self._ended or self._chosen or (self._flush and self.counts.any)
        if self._written is not None or not due:
            return []
        self._flush = False
        self._written = Write(tuple(self._ended), tuple(self._chosen))
        self._beginning = {candidate.id: candidate for candidate in self._chosen}
        self._ended, self._chosen = [], []
        return [self._written]

    # ---- Answers.

    def _heard(self, event: mllp.Event, now: float, chance: float) -> None:
        if self.link is not Link.UP:
            return  # something before it ended the connection
        if isinstance(event, mllp.Frame):
            self._answered(event.body, now, chance)
        elif isinstance(event, mllp.JunkBeforeStart):
            self.counts.bytes_outside_frames += event.count
        else:
            self._unreadable()
            if isinstance(event, mllp.FrameTooLarge):
                self._cut(UNREADABLE, now, chance)

    def _answered(self, body: bytes, now: float, chance: float) -> None:
        answer = read_answer(body)
        if answer is None:
            self._unreadable()
            return
        flight = self._flights.get(answer.control_id)
        if flight is None:
            self._uncredited(answer.control_id)
            return
        self._failures, self._credited = 0, True
        self.last_error = None
        said = meaning(flight.ready.expected, flight.stage, answer.code)
        if said is Meaning.DELIVERED:
            self._delivered(flight, answer.code, now)
        elif said is Meaning.ACCEPTED:
            flight.stage = Stage.APPLICATION
            flight.deadline = now + self._rules.ack_timeout_s
        elif said is Meaning.ERROR:
            self._refused(flight, answer.code, ERROR, self._rules.on_error, now, chance)
        elif said is Meaning.REJECTED:
            self._refused(flight, answer.code, REJECTED, self._rules.on_reject, now, chance)

    def _uncredited(self, control_id: str) -> None:
        if control_id in self._used:
            self.counts.answers_repeated += 1
            return
        self.counts.answers_foreign += 1
        for flight in self._flights.values():
            flight.note = FOREIGN

    def _unreadable(self) -> None:
        self.counts.answers_unreadable += 1
        for flight in self._flights.values():
            flight.note = UNREADABLE

    def _delivered(self, flight: _Flight, code: str | None, now: float) -> None:
        del self._flights[flight.ready.control_id]
        self._settle(flight, End.DELIVERED, State.DELIVERED, now, code=code)

    def _refused(self, flight: _Flight, code: str, error: str, policy: Policy, now: float, chance: float) -> None:
        candidate = flight.ready.candidate
        tried = replace(candidate, refusals=candidate.refusals + 1)
        self._failed(flight, tried, End.REFUSED, policy, tried.refusals, error, now, chance, code)

    def _unanswered(self, flight: _Flight, error: str, now: float, chance: float) -> None:
        candidate = flight.ready.candidate
        tried = replace(candidate, silences=candidate.silences + 1)
        policy = self._rules.on_no_answer
        self._failed(flight, tried, End.NO_ANSWER, policy, tried.silences, error, now, chance, None)

    def _failed(
        self,
        flight: _Flight,
        tried: Candidate,
        end: End,
        policy: Policy,
        tries: int,
        error: str,
        now: float,
        chance: float,
        code: str | None,
    ) -> None:
        del self._flights[flight.ready.control_id]
        flight.ready = replace(flight.ready, candidate=tried)
        if policy.action == "drop":
            self._settle(flight, end, State.DROPPED, now, code=code, error=error)
        elif policy.action == "retry" and (policy.retries is None or tries <= policy.retries):
            backoff = self._rules.backoff
            delay_s = pause_s(tries, chance, first_ms=backoff.first_ms, max_ms=backoff.max_ms)
            self._settle(flight, end, State.QUEUED, now, code=code, error=error, delay_s=delay_s)
        else:
            self._settle(flight, end, State.PARKED, now, code=code, error=error)

    def _interrupted(self, flight: _Flight, now: float) -> None:
        """It is sent again without having done anything wrong."""
        del self._flights[flight.ready.control_id]
        self._settle(flight, End.INTERRUPTED, State.QUEUED, now, error=INTERRUPTED)

    def _settle(
        self,
        flight: _Flight,
        end: End,
        state: State,
        now: float,
        *,
        code: str | None = None,
        error: str | None = None,
        delay_s: float = 0.0,
    ) -> None:
        candidate = replace(flight.ready.candidate, attempts=flight.ready.candidate.attempts + 1)
        self._ended.append(Settlement(candidate, end, state, flight.began, now, delay_s, code, error))
        if state is State.QUEUED:
            self._window.put_back(candidate, now + delay_s if delay_s else 0.0)
        elif state is State.PARKED and self._rules.parked_holds_key:
            self._window.hold(candidate)
        else:
            self._window.done(candidate)

    def _give_back_ready(self, now: float) -> None:
        for ready in self._ready.values():
            self._ended.append(Settlement(ready.candidate, End.RETURNED, State.QUEUED, None, now))
            self._window.put_back(ready.candidate)
        self._ready.clear()

    # ---- The connection.

    def _cut(self, code: str, now: float, chance: float, guilty: Sequence[_Flight] | None = None) -> None:
        """The connection is over. Whose fault it was is known, or else it is put down to the oldest in flight."""
        flights = list(self._flights.values())
        if flights:
            self.counts.interruptions += 1
        blamed = {id(flight) for flight in (flights[:1] if guilty is None else guilty)}
        for flight in flights:
            if id(flight) in blamed:
                self._unanswered(flight, flight.note if guilty is not None else code, now, chance)
            else:
                self._interrupted(flight, now)
        self._closing.append(Close(self.generation))
        if flights or not self._credited:
            self._down(code, now, chance)
        else:
            self._rest(now)

    def _down(self, code: str, now: float, chance: float) -> None:
        backoff = self._rules.backoff
        self._failures += 1
        self.last_error = code
        self._rest(now + pause_s(self._failures, chance, first_ms=backoff.first_ms, max_ms=backoff.max_ms))

    def _hang_up(self) -> None:
        """Close a connection on which nothing is in flight."""
        if self.link is not Link.DOWN:
            self._closing.append(Close(self.generation))
            self._rest(self._connect_at)

    def _rest(self, connect_at: float) -> None:
        self.link = Link.DOWN
        self._connect_at = connect_at
        self._renew = False
        self._used.clear()
