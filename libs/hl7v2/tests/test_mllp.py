"""Frames out of any byte stream, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7v2.mllp import Decoder, EndInsideFrame, Frame, FrameTooLarge, JunkBeforeStart, MissingEnd, MissingStart, encode

BODIES = st.binary(max_size=60).map(lambda body: body.replace(b"\x0b", b"").replace(b"\x1c", b""))


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(BODIES, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_come_out_whole_whatever_the_chunks(bodies: list[bytes], cuts: list[int]) -> None:
    decoder = Decoder()
    events = [event for chunk in chunks(b"".join(map(encode, bodies)), cuts) for event in decoder.receive_data(chunk)]
    assert events == [Frame(body) for body in bodies]
    assert decoder.receive_eof() == []
    assert not decoder.inside_frame


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_bytes_give_the_same_frames_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Decoder(frame_bytes_max=50), Decoder(frame_bytes_max=50)
    at_once = whole.receive_data(data) + whole.receive_eof()
    in_parts = [event for chunk in chunks(data, cuts) for event in pieces.receive_data(chunk)] + pieces.receive_eof()
    assert [one for one in at_once if isinstance(one, Frame)] == [one for one in in_parts if isinstance(one, Frame)]


@given(st.binary(max_size=300))
def test_one_byte_at_a_time_never_raises(data: bytes) -> None:
    decoder = Decoder(frame_bytes_max=20)
    events = [event for byte in data for event in decoder.receive_data(bytes([byte]))]
    assert all(len(event.body) <= 20 for event in events if isinstance(event, Frame))


def test_junk_is_counted() -> None:
    assert Decoder().receive_data(b"GET / HTTP/1.1" + encode(b"MSH")) == [JunkBeforeStart(14), Frame(b"MSH")]


def test_an_end_block_outside_a_frame_means_that_its_start_was_lost() -> None:
    assert Decoder().receive_data(b"MSH|lost\x1c\r" + encode(b"whole")) == [MissingStart(10), Frame(b"whole")]
    decoder = Decoder()
    assert decoder.receive_data(b"MSH|lo") == [JunkBeforeStart(6)]
    assert decoder.receive_data(b"st\x1c") == [JunkBeforeStart(3)]
    assert decoder.receive_data(b"\r\x1c\r") == [MissingStart(1), JunkBeforeStart(2)]


@pytest.mark.parametrize("bare", [b"\x1c", b"\x1c\n"])
def test_an_end_block_without_its_carriage_return_is_tolerated_by_name(bare: bytes) -> None:
    tolerant, strict = Decoder(), Decoder(end_without_cr=False)
    sent = b"\x0bfirst" + bare + encode(b"second")
    assert tolerant.receive_data(sent) == [Frame(b"first", ("end-without-cr",)), Frame(b"second")]
    assert strict.receive_data(sent) == [MissingEnd(5 + len(bare)), Frame(b"second")]
    assert tolerant.receive_data(b"\x0blast\x1c") == strict.receive_data(b"\x0blast\x1c") == []
    assert tolerant.receive_eof() == [Frame(b"last", ("end-without-cr",))]
    assert strict.receive_eof() == [EndInsideFrame(5)]


def test_an_end_block_in_the_middle_of_a_message_is_part_of_it() -> None:
    assert Decoder().receive_data(encode(b"one\x1ctwo")) == [Frame(b"one\x1ctwo")]


@given(st.lists(BODIES, min_size=1, max_size=4), st.booleans())
def test_whole_frames_are_the_same_by_the_short_way_and_by_the_long(bodies: list[bytes], junk: bool) -> None:
    data = b"junk" * junk + b"".join(map(encode, bodies))
    by_byte = Decoder()
    slowly = [event for byte in data for event in by_byte.receive_data(bytes([byte]))]
    assert [one for one in slowly if isinstance(one, Frame)] == [
        one for one in Decoder().receive_data(data) if isinstance(one, Frame)
    ]


def test_a_start_inside_a_frame_means_the_end_was_lost() -> None:
    assert Decoder().receive_data(b"\x0bfirst" + encode(b"second")) == [MissingEnd(5), Frame(b"second")]


def test_the_stream_may_end_inside_a_frame() -> None:
    decoder = Decoder()
    assert decoder.receive_data(b"\x0bhalf") == []
    assert decoder.inside_frame
    assert decoder.receive_eof() == [EndInsideFrame(4)]


def test_a_frame_over_the_cap_is_given_up_once_and_the_next_one_is_read() -> None:
    decoder = Decoder(frame_bytes_max=10)
    events = [
        event for _ in range(10) for event in decoder.receive_data(b"\x0b" * (not decoder.inside_frame) + b"x" * 8)
    ]
    assert len([event for event in events if isinstance(event, FrameTooLarge)]) == 1
    assert decoder.receive_data(b"\x1c\r" + encode(b"small")) == [Frame(b"small")]


def test_exactly_the_cap_is_no_byte_too_many() -> None:
    assert Decoder(frame_bytes_max=5).receive_data(encode(b"12345")) == [Frame(b"12345")]
    assert Decoder(frame_bytes_max=5).receive_data(encode(b"123456")) == [FrameTooLarge(6)]
    for body, whole in ((b"12345", True), (b"123456", False)):
        slowly, ended = Decoder(frame_bytes_max=5), Decoder(frame_bytes_max=5)
        found = [event for byte in encode(body) for event in slowly.receive_data(bytes([byte]))]
        assert [event for event in found if isinstance(event, Frame)] == [Frame(body)] * whole
        last = ended.receive_data(b"\x0b" + body + b"\x1c") + ended.receive_eof()
        assert (Frame(body, ("end-without-cr",)) in last) is whole


def outline(events: Sequence[object]) -> tuple[list[object], int]:
    """Events without what depends on the chunks, and how many bytes were junk."""
    junk = sum(event.count for event in events if isinstance(event, JunkBeforeStart))
    junk += sum(event.size_bytes for event in events if isinstance(event, MissingStart))
    kept = [
        type(event) if isinstance(event, FrameTooLarge | MissingStart) else event
        for event in events
        if not isinstance(event, JunkBeforeStart)
    ]
    return kept, junk


HOSTILE = st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", b"\x1c\r", b"ab", b"x" * 9]), max_size=40).map(
    b"".join
)


@given(HOSTILE, st.lists(st.integers(0, 10_000), max_size=20))
def test_the_same_events_whatever_the_chunks(data: bytes, cuts: list[int]) -> None:
    whole, pieces, single = (Decoder(frame_bytes_max=8) for _ in range(3))
    at_once = whole.receive_data(data) + whole.receive_eof()
    in_parts = [event for chunk in chunks(data, cuts) for event in pieces.receive_data(chunk)] + pieces.receive_eof()
    by_byte = [event for byte in data for event in single.receive_data(bytes([byte]))] + single.receive_eof()
    assert outline(at_once) == outline(in_parts) == outline(by_byte)


@pytest.mark.parametrize("pattern", [b"\x0b", b"\x0bx", b"\x1c", b"\x0b\x1c", b"x", b"\x0b\x1c\r"])
def test_a_hostile_stream_costs_no_more_than_its_length(pattern: bytes) -> None:
    def cost(repeats: int) -> float:
        data, took = b"\x0b" + pattern * repeats, []
        for _ in range(3):
            began = thread_time()
            Decoder().receive_data(data)
            took.append(thread_time() - began)  # not the clock: others may be busy
        return min(took)

    # Eight times as much: linear is 8, quadratic was 64 (and 80 kB of start blocks took seconds).
    assert cost(32_000) < 30 * cost(4_000) + 0.01
