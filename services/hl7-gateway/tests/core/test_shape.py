"""What follows from a header: the same for every message of a sender, and the same as without the short cut."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from common.models.identifiers import type_id, uuid7
from hl7_gateway.core.acknowledgment import Outcome
from hl7_gateway.core.answer import answer
from hl7_gateway.core.message import read_header
from hl7_gateway.core.rejection import Rejection, type_rejection
from hl7_gateway.core.senders import InboundChannel
from hl7_gateway.core.shape import Shape, header_parts, shape_of, time_text

CHANNEL = InboundChannel("ten", "int", "in")
NOW = datetime(2026, 3, 1, 9, 30, 7, 123_000, tzinfo=UTC)
MESSAGE_ID = type_id("msg", uuid7(1_772_000_000_000, 77))


def shape(body: bytes, rejection: Rejection | None = None, channel: InboundChannel = CHANNEL) -> Shape:
    parsed = hl7v2.parse(body)
    return shape_of(parsed, read_header(parsed), channel, rejection)


def answered(body: bytes, outcome: Outcome, rejection: Rejection | None) -> bytes:
    parsed = hl7v2.parse(body)
    return answer(parsed, read_header(parsed), outcome, rejection, message_id=MESSAGE_ID, now=NOW).frames


@pytest.mark.parametrize("modes", ["", "AL|NE", "AL|AL", "NE|NE", "ER|AL", "SU|SU"])
@pytest.mark.parametrize("kind", ["ADT^A08^ADT_A01", "BAR^P01", "ADT^A37", "ADT"])
@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "8859/1", "", "GB 18030-2000"])
@pytest.mark.parametrize("sender", ["EPIC|CLINIC", "A%b%s\\T\\B|", "EPIC^1.2^ISO|CLÍNICA"])
def test_the_template_says_what_the_answer_would(
    message: Callable[..., bytes], modes: str, kind: str, charset: str, sender: str
) -> None:
    first = message("first-1", modes=modes, kind=kind, charset=charset, sender=sender)
    header = read_header(hl7v2.parse(first))
    rejection = type_rejection(header.message_type, header.trigger_event)
    known = shape(first, rejection)
    assert known.accepted is not None
    for control_id in ("2", "a-Z_0.9:x", "9" * 199):
        body = message(control_id, modes=modes, kind=kind, charset=charset, sender=sender)
        parts = header_parts(body)
        assert parts is not None
        assert parts.control_id == control_id.encode()
        filled = known.accepted.fill(MESSAGE_ID, time_text(NOW), parts.control_id)
        assert filled.frames == answered(body, known.outcome, rejection)


CHARACTERS = st.text(alphabet="AB1|^~\\&#%é\r\n\x00.-", max_size=40)


@given(head=CHARACTERS, first=CHARACTERS, second=CHARACTERS, marks=st.sampled_from(["|^~\\&", "#^~\\&", "|#$%&", "|"]))
def test_whatever_the_header_is_a_short_cut_says_the_same(head: str, first: str, second: str, marks: str) -> None:
    """Two messages with the same key are answered alike, and as if each were composed."""
    bodies = [
        f"MSH{marks}{marks[0]}{head}{marks[0]}A|||20260301||ADT^A08|{control}|P|2.5\r".replace("|", marks[0]).encode()
        for control in (first, second)
    ]
    parts = [header_parts(body) for body in bodies]
    if parts[0] is None or parts[1] is None or parts[0].key != parts[1].key:
        return
    try:
        known = shape(bodies[0])
    except hl7v2.ParseError:
        return
    if known.accepted is not None:
        filled = known.accepted.fill(MESSAGE_ID, time_text(NOW), parts[1].control_id)
        assert filled.frames == answered(bodies[1], Outcome.ACCEPTED, None)


@pytest.mark.parametrize("control_id", ["", "two words", "a^b", "a\\F\\b", "Ñ", "x" * 200, "new\nline"], ids=range(7))
def test_a_control_id_out_of_the_ordinary_takes_no_short_cut(message: Callable[..., bytes], control_id: str) -> None:
    assert header_parts(message(control_id)) is None


@pytest.mark.parametrize("body", [b"", b"MSH", b"MSH|", b"HELLO WORLD", b"MSH|^~\\&|A|B\r", b"\x00" * 50])
def test_what_is_no_header_takes_no_short_cut(body: bytes) -> None:
    assert header_parts(body) is None


def test_delimiters_decide_too(message: Callable[..., bytes]) -> None:
    usual = header_parts(message("1"))
    other = header_parts(message("1").replace(b"|", b"#"))
    assert usual is not None
    assert other is not None
    assert usual.key != other.key


def test_a_delimiter_that_may_stand_in_control_ids_is_composed_each_time(message: Callable[..., bytes]) -> None:
    assert shape(message("1").replace(b"MSH|^~\\&", b"MSH|.~\\&")).accepted is None


def test_a_sender_that_writes_our_marks_is_composed_each_time(message: Callable[..., bytes]) -> None:
    assert shape(message("1", sender="SAMPLE-7f3a-CONTROL-e19c-ID|X")).accepted is None


def test_a_repetition_is_the_same_message_of_the_same_sender(message: Callable[..., bytes]) -> None:
    def key(body: bytes, rejection: Rejection | None = None, channel: InboundChannel = CHANNEL) -> bytes:
        return shape(body, rejection, channel).duplicate_key(body)

    first = message("7")
    assert key(first) == key(message("7"))
    assert len(key(first)) == 16
    assert key(first) != key(message("8"))
    assert key(first) != key(message("7", name="OTHER^NAME"))
    assert key(first) != key(message("7", sender="OTHER|CLINIC"))
    assert key(first) != key(first, type_rejection("BAR", "P01"))
    assert key(first) != key(first, channel=InboundChannel("ten", "int", "other"))
