"""Delivering under any interleaving: nothing lost, order per key kept, no answer credited to another message."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7_gateway.core.connection_configuration import Sending
from hl7_gateway.core.delivery import (
    CUT,
    ERROR,
    FOREIGN,
    NO_ACKNOWLEDGMENT,
    REJECTED,
    UNREADABLE,
    Close,
    Connect,
    Delivery,
    End,
    Ending,
    Link,
    Rules,
    State,
    Transmit,
    Write,
    rules_of,
)
from hl7_gateway.core.outbound_window import Candidate, Fetch, FetchKey, Window
from hl7v2 import mllp

ACK_TIMEOUT_S = 10.0
UNSETTLED = {State.QUEUED, State.IN_FLIGHT, State.HELD, State.PARKED}


def rules(**changed: Any) -> Rules:
    sending = Sending.model_validate(
        {"ack_timeout_ms": 10_000, "backoff": {"first_ms": 1000, "max_ms": 4000}, **changed}
    )
    return rules_of(sending, idle_timeout_s=1000.0)


def body(control_id: str, modes: str = "|") -> bytes:
    return f"MSH|^~\\&|PS|HERE|EPIC|CLINIC|20260301||ADT^A08|{control_id}|P|2.5.1|||{modes}\rPID|1\r".encode()


def acknowledgment(code: str, control_id: str) -> bytes:
    return mllp.encode(f"MSH|^~\\&|EPIC|CLINIC|PS|HERE|20260301||ACK|x|P|2.5.1\rMSA|{code}|{control_id}\r".encode())


@dataclass
class Stored:
    candidate: Candidate
    body: bytes
    state: State = State.QUEUED


@dataclass
class Queue:
    """The store's part, as the adapter does it: states, order per key, keys held behind a parked message."""

    parked_holds_key: bool = True
    rows: dict[str, Stored] = field(default_factory=dict)
    ends: list[tuple[str, End, str | None]] = field(default_factory=list)

    def add(self, key: str, control_id: str | None = None, modes: str = "|") -> str:
        number = len(self.rows) + 1
        name = f"m{number}"
        control_id = control_id or name
        held = self.parked_holds_key and any(
            row.candidate.key == key and row.state in {State.PARKED, State.HELD} for row in self.rows.values()
        )
        made = Stored(Candidate(name, number, key, control_id), body(control_id, modes))
        made.state = State.HELD if held else State.QUEUED
        self.rows[name] = made
        return name

    def read(self, read: Fetch | FetchKey) -> list[Candidate]:
        queued = [row.candidate for row in self.rows.values() if row.state is State.QUEUED]
        if isinstance(read, Fetch):
            found = [one for one in queued if one.sequence > read.after and one.key not in read.without]
        else:
            found = [one for one in queued if one.key == read.key and read.after < one.sequence <= read.up_to]
        return sorted(found, key=lambda one: one.sequence)[: read.limit]

    def write(self, write: Write) -> dict[str, bytes]:
        for settlement in write.settlements:
            row = self.rows[settlement.candidate.id]
            assert row.state is State.IN_FLIGHT
            row.state = settlement.state
            row.candidate = replace(settlement.candidate, wait_s=settlement.delay_s)
            self.ends.append((row.candidate.id, settlement.end, settlement.error_code))
            if settlement.state is State.PARKED and self.parked_holds_key:
                for other in self.rows.values():
                    if other.candidate.key == row.candidate.key and other.state is State.QUEUED:
                        other.state = State.HELD
        begun = {}
        for candidate in write.begin:
            row = self.rows[candidate.id]
            earlier = [
                one
                for one in self.rows.values()
                if one.candidate.key == candidate.key
                and one.candidate.sequence < candidate.sequence
                and one.state in UNSETTLED - (set() if self.parked_holds_key else {State.PARKED})
            ]
            if row.state in {State.QUEUED, State.IN_FLIGHT} and not earlier:
                row.state = State.IN_FLIGHT
                begun[candidate.id] = row.body
        return begun

    def recover(self) -> None:
        for row in self.rows.values():
            if row.state is State.IN_FLIGHT:
                row.state = State.QUEUED

    def states(self) -> dict[str, State]:
        return {name: row.state for name, row in self.rows.items()}


class Bench:
    """A delivery with its queue, driven by hand."""

    def __init__(self, queue: Queue | None = None, **changed: Any) -> None:
        self.now = 0.0
        self.queue = queue or Queue(changed.get("parked_holds_key", True))
        self.delivery = Delivery(rules(**changed), self.now, Window(messages_max=6, key_messages_max=3))
        self.sent: list[bytes] = []
        self.connects: list[int] = []
        self.closed: list[int] = []

    def run(self, *, connect: bool = True) -> None:
        """Do what is asked for until nothing is."""
        for _ in range(1000):
            actions = self.delivery.actions(self.now)
            if not actions:
                return
            for action in actions:
                self.do(action, connect)
        raise AssertionError("it never comes to rest")

    def do(self, action: Any, connect: bool) -> None:
        if isinstance(action, Connect):
            self.connects.append(action.generation)
            if connect:
                self.delivery.connected(action.generation, self.now)
        elif isinstance(action, Close):
            self.closed.append(action.generation)
        elif isinstance(action, Write):
            self.delivery.written(self.queue.write(action), self.now)
        elif isinstance(action, Transmit):
            self.sent.append(action.frame)
        else:
            self.delivery.fetched(action, self.queue.read(action), self.now)

    def answer(self, code: str, control_id: str, *, generation: int | None = None) -> None:
        self.raw(acknowledgment(code, control_id), generation=generation)

    def raw(self, data: bytes, *, generation: int | None = None) -> None:
        self.delivery.received(self.delivery.generation if generation is None else generation, data, self.now, 0.0)
        self.run()

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.delivery.tick(self.now, 0.0)
        self.run()

    @property
    def ids(self) -> list[str]:
        return [frame.split(b"|")[9].decode() for frame in self.sent]


def test_one_after_the_other_in_order() -> None:
    bench = Bench()
    for key in ("a", "b", "a"):
        bench.queue.add(key)
    bench.run()
    assert bench.ids == ["m1"]
    bench.answer("AA", "m1")
    bench.answer("AA", "m2")
    assert bench.ids == ["m1", "m2", "m3"]
    bench.answer("AA", "m3")
    assert set(bench.queue.states().values()) == {State.DELIVERED}
    assert bench.connects == [1]


def test_more_in_flight_only_across_keys() -> None:
    bench = Bench(in_flight_max=3)
    for key in ("a", "a", "b", "c", "d"):
        bench.queue.add(key)
    bench.run()
    assert bench.ids == ["m1", "m3", "m4"]
    bench.answer("AA", "m4")
    assert bench.ids[3:] == ["m5"]
    bench.answer("AA", "m1")
    assert bench.ids[4:] == ["m2"]


def test_messages_of_other_keys_are_begun_before_their_turn_and_sent_at_it() -> None:
    bench = Bench()
    for key in ("a", "b", "a", "c"):
        bench.queue.add(key)
    bench.run()
    assert bench.ids == ["m1"]
    begun = [name for name, state in bench.queue.states().items() if state is State.IN_FLIGHT]
    assert begun == ["m1", "m2", "m4"]
    bench.delivery.stop(bench.now)
    bench.run()
    assert bench.queue.states()["m2"] is State.QUEUED
    bench.answer("AA", "m1")
    assert bench.delivery.stopped


def test_bodies_that_are_begun_ahead_are_bounded_in_bytes() -> None:
    bench = Bench()
    for number in range(4):
        name = bench.queue.add(f"key{number}")
        row = bench.queue.rows[name]
        row.candidate = replace(row.candidate, size_bytes=3 * 1024 * 1024)
    bench.run()
    begun = [name for name, state in bench.queue.states().items() if state is State.IN_FLIGHT]
    assert begun == ["m1", "m2", "m3"]


def test_an_answer_for_another_message_is_not_credited_and_named_when_time_is_up() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    bench.answer("AA", "other")
    assert bench.queue.states() == {"m1": State.IN_FLIGHT}
    assert bench.delivery.counts.answers_foreign == 1
    bench.later(ACK_TIMEOUT_S)
    assert bench.queue.ends == [("m1", End.NO_ANSWER, FOREIGN)]
    assert bench.closed == [1]


def test_after_a_time_out_the_late_answer_finds_no_connection() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.queue.add("b")
    bench.run()
    bench.later(ACK_TIMEOUT_S)
    assert bench.queue.ends == [("m1", End.NO_ANSWER, NO_ACKNOWLEDGMENT)]
    assert (bench.closed, bench.delivery.link) == ([1], Link.DOWN)
    bench.later(1.0)
    assert bench.connects == [1, 2]
    bench.answer("AA", "m1", generation=1)
    assert bench.queue.states()["m1"] is not State.DELIVERED


@pytest.mark.parametrize(
    ("changed", "code", "end"),
    [
        ({"on_error": {"action": "retry", "retries": 2}}, "AE", State.PARKED),
        ({"on_error": {"action": "park"}}, "AE", State.PARKED),
        ({"on_error": {"action": "drop"}}, "AE", State.DROPPED),
        ({"on_reject": {"action": "drop"}}, "AR", State.DROPPED),
        ({"on_reject": {"action": "park"}}, "CR", State.PARKED),
        ({"on_error": {"action": "retry", "retries": 0}}, "CE", State.PARKED),
    ],
)
def test_policies_for_refusals(changed: dict[str, Any], code: str, end: State) -> None:
    bench = Bench(**changed)
    bench.queue.add("a")
    bench.run()
    for _ in range(10):
        if bench.queue.states()["m1"] is end:
            break
        bench.answer(code, "m1")
        bench.later(20.0)
    assert bench.queue.states() == {"m1": end}
    tries = next(iter(changed.values())).get("retries", 0) + 1
    error = ERROR if code.endswith("E") else REJECTED
    assert bench.queue.ends == [("m1", End.REFUSED, error)] * tries
    assert bench.ids == ["m1"] * tries
    assert bench.connects == list(range(1, tries + 1))  # a control id is sent once per connection


def test_a_message_that_waits_for_its_next_try_holds_up_its_own_key_only() -> None:
    bench = Bench()
    for key in ("a", "a", "b"):
        bench.queue.add(key)
    bench.run()
    bench.answer("AE", "m1")
    assert bench.ids == ["m1", "m3"]
    bench.answer("AA", "m3")
    bench.later(1.0)
    assert bench.ids == ["m1", "m3", "m1"]
    bench.answer("AA", "m1")
    assert bench.ids[3:] == ["m2"]


@pytest.mark.parametrize(("holds", "sent"), [(True, ["m1", "m3"]), (False, ["m1", "m3", "m2"])])
def test_a_parked_message_holds_its_key_when_so_configured(holds: bool, sent: list[str]) -> None:
    bench = Bench(parked_holds_key=holds)
    for key in ("a", "a", "b"):
        bench.queue.add(key)
    bench.run()
    bench.answer("AR", "m1")
    for name in sent[1:]:
        bench.answer("AA", name)
    assert bench.ids == sent
    assert bench.queue.states()["m2"] is (State.HELD if holds else State.DELIVERED)


def test_of_those_in_flight_only_the_late_one_is_blamed() -> None:
    bench = Bench(in_flight_max=2, on_no_answer={"action": "park"})
    bench.queue.add("a")
    bench.run()
    bench.later(5.0)
    bench.queue.add("b")
    bench.delivery.wake()
    bench.run()
    assert bench.ids == ["m1", "m2"]
    bench.later(5.0)
    assert bench.queue.states() == {"m1": State.PARKED, "m2": State.QUEUED}
    bench.later(1.0)
    assert bench.ids == ["m1", "m2", "m2"]


def test_a_receiver_that_closes_at_once_is_not_asked_without_pause() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    for pause_s in (1.0, 2.0, 4.0, 4.0):
        bench.delivery.ended(bench.delivery.generation, Ending.CLOSED, bench.now, 0.0)
        bench.run()
        before = len(bench.connects)
        assert bench.delivery.deadline(bench.now) == bench.now + pause_s
        bench.later(pause_s)
        assert len(bench.connects) == before + 1
    assert {end for _, end, _ in bench.queue.ends} == {End.NO_ANSWER}
    assert {code for _, _, code in bench.queue.ends} == {CUT}


def test_refused_connections_back_off_and_count_for_nobody() -> None:
    bench = Bench()
    bench.queue.add("a")
    for pause_s in (1.0, 2.0, 4.0, 4.0):
        bench.run(connect=False)
        bench.delivery.connect_failed(bench.delivery.generation, "peer.connect", bench.now, 0.0)
        assert bench.delivery.deadline(bench.now) == bench.now + pause_s
        bench.now += pause_s
    bench.run()
    assert bench.ids == ["m1"]
    assert bench.queue.ends == []


@pytest.mark.parametrize(
    ("modes", "answers", "state"),
    [
        ("|", ["AA"], State.DELIVERED),
        ("|", ["CA"], State.DELIVERED),
        ("AL|NE", ["CA"], State.DELIVERED),
        ("AL|AL", ["CA"], State.IN_FLIGHT),
        ("AL|AL", ["CA", "AA"], State.DELIVERED),
        ("AL|AL", ["AA"], State.DELIVERED),
        ("AL|AL", ["CA", "CA"], State.IN_FLIGHT),
        ("AL|AL", ["CE"], State.QUEUED),
        ("AL|AL", ["CR"], State.PARKED),
        ("AL|AL", ["CA", "AR"], State.PARKED),
        ("NE|AL", ["CA"], State.IN_FLIGHT),
        ("NE|AL", ["AA"], State.DELIVERED),
        ("NE|NE", [], State.DELIVERED),
        ("ER|NE", [], State.IN_FLIGHT),
        ("ER|NE", ["CE"], State.QUEUED),
        ("AL|ER", ["CA"], State.DELIVERED),
        ("XX|NE", ["CA"], State.DELIVERED),
    ],
)
def test_answers_by_mode(modes: str, answers: list[str], state: State) -> None:
    bench = Bench()
    bench.queue.add("a", modes=modes)
    bench.run()
    for code in answers:
        bench.answer(code, "m1")
    assert bench.queue.states() == {"m1": state}


def test_where_only_errors_are_answered_silence_is_consent() -> None:
    bench = Bench()
    bench.queue.add("a", modes="ER|NE")
    bench.run()
    bench.later(ACK_TIMEOUT_S)
    assert (bench.queue.states(), bench.closed) == ({"m1": State.DELIVERED}, [])


def test_the_application_has_its_own_time() -> None:
    bench = Bench()
    bench.queue.add("a", modes="AL|AL")
    bench.run()
    bench.later(9.0)
    bench.answer("CA", "m1")
    bench.later(9.0)
    assert bench.queue.states() == {"m1": State.IN_FLIGHT}
    bench.answer("AA", "m1")
    assert bench.queue.states() == {"m1": State.DELIVERED}


def test_two_messages_with_one_control_id_never_share_a_connection() -> None:
    bench = Bench(in_flight_max=4)
    for key in ("a", "b", "c"):
        bench.queue.add(key, "same" if key != "b" else None)
    bench.run()
    assert bench.ids == ["same", "m2"]
    bench.answer("AA", "same")
    assert bench.ids == ["same", "m2"]
    bench.answer("AA", "same")  # the first one's again
    bench.answer("AA", "m2")
    assert (bench.ids, bench.closed) == (["same", "m2", "same"], [1])
    assert bench.delivery.counts.answers_repeated == 1
    assert bench.queue.states()["m3"] is State.IN_FLIGHT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NO_ACKNOWLEDGMENT),
        (mllp.encode(b"HELLO WORLD"), UNREADABLE),
        (mllp.encode(b"MSH|^~\\&|a|b|c|d|e||ACK|1|P|2.5\rMSA|OK|m1\r"), UNREADABLE),
        (b"\x0bMSH|^~\\&|half an acknow", NO_ACKNOWLEDGMENT),
        (b"\x0b\x0b\x0b", UNREADABLE),
    ],
)
def test_junk_is_no_answer(data: bytes, reason: str) -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    bench.raw(data)
    bench.later(ACK_TIMEOUT_S)
    assert bench.queue.ends == [("m1", End.NO_ANSWER, reason)]


def test_an_endless_answer_ends_the_connection() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    bench.raw(b"\x0b" + b"x" * (1024 * 1024 + 10))
    assert (bench.closed, bench.queue.ends) == ([1], [("m1", End.NO_ANSWER, UNREADABLE)])


def test_a_stop_waits_for_what_is_in_flight() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.queue.add("b")
    bench.run()
    bench.delivery.stop(bench.now)
    bench.run()
    assert not bench.delivery.stopped
    bench.answer("AA", "m1")
    assert bench.delivery.stopped
    assert bench.queue.states() == {"m1": State.DELIVERED, "m2": State.QUEUED}


def test_given_up_it_goes_back_to_the_queue() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    bench.delivery.stop(bench.now)
    bench.delivery.give_up(bench.now)
    bench.run()
    assert bench.delivery.stopped
    assert bench.queue.states() == {"m1": State.QUEUED}
    assert bench.queue.ends[0][1] is End.INTERRUPTED


def test_an_idle_connection_is_closed_and_made_again_when_needed() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.run()
    bench.answer("AA", "m1")
    assert bench.delivery.deadline(bench.now) == 1000.0
    bench.later(1000.0)
    assert (bench.closed, bench.connects) == ([1], [1])
    bench.queue.add("a")
    bench.delivery.wake()
    bench.run()
    assert bench.connects == [1, 2]
    assert bench.ids == ["m1", "m2"]


def test_a_write_that_failed_is_repeated_as_it_was() -> None:
    bench = Bench()
    bench.queue.add("a")
    bench.queue.add("b")
    actions: list[Any] = []
    for _ in range(10):
        actions = bench.delivery.actions(bench.now)
        for action in actions:
            if isinstance(action, Write):
                bench.delivery.unwritten(action)
            else:
                bench.do(action, True)
    assert isinstance(actions[0], Write)
    assert bench.sent == []
    bench.run()
    assert bench.ids == ["m1"]


class Receiver:
    """What a receiver may do, and what it was sent: one row per transmission."""

    def __init__(self) -> None:
        self.transmissions: list[tuple[int, str, str]] = []  # generation, message, control id
        self.on_the_way: list[tuple[int, int, str]] = []  # transmission, generation, code


class Simulation:
    """One interleaving: the steps choose, the checks hold after each of them."""

    def __init__(self, in_flight_max: int, holds: bool) -> None:
        self.changed = {
            "in_flight_max": in_flight_max,
            "parked_holds_key": holds,
            "on_error": {"action": "retry", "retries": 1},
            "on_no_answer": {"action": "retry", "retries": 3},
        }
        self.queue = Queue(holds)
        self.in_flight_max = in_flight_max
        self.receiver = Receiver()
        self.pending: list[Any] = []
        self.now = 0.0
        self.generations = 0
        self.start()

    def start(self) -> None:
        self.queue.recover()
        self.pending.clear()
        self.delivery = Delivery(rules(**self.changed), self.now, Window(messages_max=5, key_messages_max=2))
        self.delivery.generation = self.generations  # connections of an earlier life are other connections
        self.alive: int | None = None

    def collect(self) -> None:
        for action in self.delivery.actions(self.now):
            if isinstance(action, Transmit):
                self.transmitted(action)
            elif isinstance(action, Close):
                self.alive = None if self.alive == action.generation else self.alive
            else:
                self.pending.append(action)
        self.generations = self.delivery.generation

    def transmitted(self, action: Transmit) -> None:
        control_id = action.frame.split(b"|")[9].decode()
        mine = [row for row in self.queue.rows.values() if action.frame == mllp.encode(row.body)]
        (row,) = [one for one in mine if one.state is State.IN_FLIGHT]
        assert action.generation == self.alive
        unsettled = UNSETTLED - (set() if self.queue.parked_holds_key else {State.PARKED})
        for other in self.queue.rows.values():
            before = other.candidate.key == row.candidate.key and other.candidate.sequence < row.candidate.sequence
            assert not (before and other.state in unsettled), "order of a key broken"
        assert all((one[0], one[2]) != (action.generation, control_id) for one in self.receiver.transmissions)
        self.receiver.transmissions.append((action.generation, row.candidate.id, control_id))

    def step(self, what: int, which: int) -> None:
        steps = (
            self.work, self.work, self.work, self.add, self.add, self.do_pending, self.fail_pending, self.answer_last,
            self.answer_last, self.say, self.say, self.repeat, self.arrive, self.arrive, self.arrive, self.close,
            self.wait, self.wait, self.die, self.retry_parked, self.discard,
        )  # fmt: skip
        steps[what % len(steps)](which)
        self.collect()
        flying = [row.candidate.key for row in self.queue.rows.values() if row.state is State.IN_FLIGHT]
        assert len(flying) == len(set(flying))
        assert self.delivery.in_flight <= self.in_flight_max

    def add(self, which: int) -> None:
        self.queue.add(f"key{which % 3}", f"id{which % 5}" if which % 2 else None)
        # Two bodies that are the same could not be told apart by the check above.
        name = f"m{len(self.queue.rows)}"
        row = self.queue.rows[name]
        row.body = row.body + f"ZZZ|{name}\r".encode()
        self.delivery.wake()

    def do_pending(self, which: int) -> None:
        if not self.pending:
            return
        action = self.pending.pop(which % len(self.pending))
        if isinstance(action, Connect):
            self.delivery.connected(action.generation, self.now)
            if self.delivery.link is Link.UP and self.delivery.generation == action.generation:
                self.alive = action.generation
        elif isinstance(action, Write):
            self.delivery.written(self.queue.write(action), self.now)
        else:
            self.delivery.fetched(action, self.queue.read(action), self.now)

    def fail_pending(self, which: int) -> None:
        if not self.pending:
            return
        action = self.pending.pop(which % len(self.pending))
        if isinstance(action, Connect):
            self.delivery.connect_failed(action.generation, "peer.connect", self.now, 0.5)
        elif isinstance(action, Write):
            self.delivery.unwritten(action)
        else:
            self.delivery.unread()

    def say(self, which: int) -> None:
        """The receiver answers something it was sent; the answer is on the way on that connection."""
        sent = self.receiver.transmissions
        if sent:
            number = which % len(sent)
            code = ("AA", "AE", "AR", "CA")[which % 4]
            self.receiver.on_the_way.append((number, sent[number][0], code))

    def work(self, _: int) -> None:
        """Everything that is asked for is done."""
        for _ in range(20):
            self.collect()
            if not self.pending:
                return
            self.do_pending(0)

    def answer_last(self, which: int) -> None:
        """What was sent last is answered at once."""
        self.work(0)
        sent = self.receiver.transmissions
        if sent:
            code = "AE" if which % 5 == 0 else "AA"
            self.receiver.on_the_way.append((len(sent) - 1, sent[-1][0], code))
            self.arrive(len(self.receiver.on_the_way) - 1)

    def repeat(self, which: int) -> None:
        if self.receiver.on_the_way:
            self.receiver.on_the_way.append(self.receiver.on_the_way[which % len(self.receiver.on_the_way)])

    def arrive(self, which: int) -> None:
        if not self.receiver.on_the_way:
            return
        number, generation, code = self.receiver.on_the_way.pop(which % len(self.receiver.on_the_way))
        sent_on, message, control_id = self.receiver.transmissions[number]
        before = {one.candidate.id for one in self.delivery._ended}
        self.delivery.received(generation, acknowledgment(code, control_id), self.now, 0.5)
        for settlement in self.delivery._ended:
            if settlement.candidate.id not in before:
                last = max(i for i, one in enumerate(self.receiver.transmissions) if one[1] == settlement.candidate.id)
                assert (settlement.candidate.id, last) == (message, number), "credited to another message or try"
                assert sent_on == self.delivery.generation

    def close(self, _: int) -> None:
        if self.alive is not None:
            self.delivery.ended(self.alive, Ending.RESET, self.now, 0.5)

    def wait(self, which: int) -> None:
        self.now += (0.5, 5.0, 11.0)[which % 3]
        self.delivery.tick(self.now, 0.5)

    def die(self, which: int) -> None:
        """The process ends without a word, and begins anew: connections are gone, the store stays."""
        if which % 4 == 0:
            self.generations += 1
            self.start()

    def retry_parked(self, which: int) -> None:
        """A person has a parked message sent again; what was held behind it goes on."""
        parked = [row for row in self.queue.rows.values() if row.state is State.PARKED]
        if parked:
            self.release(parked[which % len(parked)], State.QUEUED)

    def discard(self, which: int) -> None:
        """A person takes a message out of the queue."""
        left = [row for row in self.queue.rows.values() if row.state in {State.PARKED, State.QUEUED, State.HELD}]
        if left:
            self.release(left[which % len(left)], State.DISCARDED)

    def release(self, row: Stored, state: State) -> None:
        row.state = state
        mine = [one for one in self.queue.rows.values() if one.candidate.key == row.candidate.key]
        if not any(one.state is State.PARKED for one in mine):
            for one in mine:
                one.state = State.QUEUED if one.state is State.HELD else one.state
        self.delivery.rescan()

    def finish(self) -> None:
        """From here on everything works: all that is not parked must be delivered."""
        self.receiver.on_the_way.clear()
        for _ in range(400):
            self.collect()
            if not self.pending:
                generation, sent = self.delivery.generation, self.receiver.transmissions
                waiting = [one for one in sent if one[0] == generation]
                for _, _, control_id in waiting:
                    self.delivery.received(generation, acknowledgment("AA", control_id), self.now, 0.5)
                self.collect()
                if not self.pending:
                    self.now += 11.0
                    self.delivery.tick(self.now, 0.5)
            while self.pending:
                self.do_pending(0)


STEPS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 59)), min_size=20, max_size=150)


@settings(max_examples=400)
@given(STEPS, st.integers(1, 3), st.booleans())
def test_any_interleaving(steps: list[tuple[int, int]], in_flight_max: int, holds: bool) -> None:
    simulation = Simulation(in_flight_max, holds)
    for what, which in steps:
        simulation.step(what, which)
    simulation.finish()
    left = set(simulation.queue.states().values())
    assert left <= {State.DELIVERED, State.DISCARDED, State.PARKED, *([State.HELD] if holds else [])}
    for row in simulation.queue.rows.values():
        if row.state is State.HELD:
            assert any(
                one.state is State.PARKED and one.candidate.key == row.candidate.key
                for one in simulation.queue.rows.values()
            )
