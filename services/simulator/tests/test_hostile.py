"""Hostile senders and receivers without sockets: the steps and replies of each fault."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.faults import FAULTS
from simulator.core.hl7_faults import RECEIVER_FAULTS, SENDER_FAULTS
from simulator.core.hl7_feed import MessageKind, compose, frame, read_acknowledgment
from simulator.core.hostile_receiver import RECORDS_MAX, Inbox, Reading, reply_to
from simulator.core.hostile_sender import TRICKLE_S_MAX, Expect, GiveUp, Wait, Write, steps_of
from simulator.core.practice import make_practice

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
PRACTICE = make_practice("demo", 7, patients=20)
MESSAGES = [
    compose(MessageKind.UPDATE, PRACTICE, patient, now=NOW, control_id=f"c{number}")
    for number, patient in enumerate(PRACTICE.patients.values())
]
MESSAGE = MESSAGES[0]


def defaults(name: str) -> dict[str, int]:
    return {each.name: each.default for each in FAULTS[name].parameters}


def test_without_faults_all_is_well() -> None:
    assert steps_of(MESSAGE, {}) == (Write(frame(MESSAGE)), Expect())
    inbox = Inbox()
    reply = reply_to(MESSAGE, {}, inbox, NOW)
    assert reply is not None
    assert (reply.delay_s, reply.close) == (0.0, False)
    acknowledgment = read_acknowledgment(reply.data[1:-2])
    assert acknowledgment is not None
    assert (acknowledgment.code, acknowledgment.control_id) == ("AA", "c0")
    (got,) = inbox.records
    assert (got.control_id, got.message_type, got.answered, got.size_bytes) == ("c0", "ADT^A08", "AA", len(MESSAGE))


@pytest.mark.parametrize("row", SENDER_FAULTS, ids=lambda row: row.name)
def test_each_senders_fault_changes_what_is_sent(row) -> None:
    assert steps_of(MESSAGE, {row.name: defaults(row.name)}) != steps_of(MESSAGE, {})


def test_a_trickle_ends() -> None:
    slow = steps_of(MESSAGE, {"hl7-trickle": {"pause_ms": 5000}})
    assert slow[-1] == GiveUp()
    assert sum(step.duration_s for step in slow if isinstance(step, Wait)) <= TRICKLE_S_MAX
    assert steps_of(MESSAGE, {"hl7-trickle": {"pause_ms": 1}})[-1] == Expect()


@pytest.mark.parametrize("row", RECEIVER_FAULTS, ids=lambda row: row.name)
def test_each_receivers_fault_changes_the_reply_or_is_the_sockets(row) -> None:
    changed = reply_to(MESSAGE, {row.name: defaults(row.name)}, Inbox(), NOW) != reply_to(MESSAGE, {}, Inbox(), NOW)
    assert changed != (row.name in {"hl7-one-connection", "hl7-receiver-half-open"})


def test_certain_contents_fail_and_always_the_same() -> None:
    faults = {"hl7-application-error": {"every_patients": 3}}

    def failed() -> list[bool]:
        replies = [reply_to(message, faults, Inbox(), NOW) for message in MESSAGES]
        return [reply is not None and b"MSA|AE|" in reply.data for reply in replies]

    assert failed() == failed()
    assert 0 < sum(failed()) < len(MESSAGES)


def test_a_type_is_rejected() -> None:
    for number, code in ((1, b"MSA|AR|"), (2, b"MSA|AA|"), (0, b"MSA|AR|")):
        reply = reply_to(MESSAGE, {"hl7-application-reject": {"type_number": number}}, Inbox(), NOW)
        assert reply is not None
        assert code in reply.data


def test_the_inbox_counts_repetitions_and_is_bounded() -> None:
    inbox = Inbox()
    for message in (MESSAGE, MESSAGES[1], MESSAGE):
        reply_to(message, {}, inbox, NOW)
    assert (inbox.counters["messages"], inbox.counters["repeated"]) == (3, 1)
    for _ in range(RECORDS_MAX):
        inbox.note(inbox.records[-1])
    assert len(inbox.records) == RECORDS_MAX
    assert sum(inbox.times_seen.values()) == RECORDS_MAX
    inbox.empty()
    assert not inbox.records
    assert not inbox.times_seen


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20))
def test_any_bytes_are_read_and_answered(chunks: list[bytes]) -> None:
    reading, inbox = Reading(), Inbox()
    for chunk in [*chunks, b"\x0bMSH|" + b"|".join(chunks) + b"\x1c\r"]:
        for body in reading.receive_data(chunk):
            assert reply_to(body, {}, inbox, NOW) is not None


def test_frames_come_whole_whatever_the_chunks() -> None:
    stream = b"junk" + frame(MESSAGE) + frame(MESSAGES[1])
    reading = Reading()
    assert [body for byte in stream for body in reading.receive_data(bytes([byte]))] == [MESSAGE, MESSAGES[1]]
