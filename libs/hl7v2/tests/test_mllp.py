"""Frames out of any byte stream, however it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hl7v2.mllp import Decoder, EndInsideFrame, Frame, FrameTooLarge, JunkBeforeStart, MissingEnd, encode

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
