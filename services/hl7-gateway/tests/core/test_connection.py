"""One connection without its socket."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7_gateway.core.connection import (
    TRANSITIONS,
    Connection,
    Cut,
    Event,
    Limits,
    LocalProtocolError,
    Outside,
    State,
    TooLarge,
    transition,
)
from hl7v2.mllp import Frame

LIMITS = Limits(frame_bytes_max=64, frame_timeout_s=10.0, idle_timeout_s=100.0)
START, END = b"\x0b", b"\x1c\r"


def _frame(body: bytes) -> bytes:
    return START + body + END


def _bodies(found: list[object]) -> list[bytes]:
    return [received.body for received in found if isinstance(received, Frame)]


def test_a_miss_in_the_table_names_event_and_state() -> None:
    with pytest.raises(LocalProtocolError, match="all-answered in state idle"):
        transition(State.IDLE, Event.ALL_ANSWERED)
    assert set(TRANSITIONS) == set(State)


def test_every_state_ends() -> None:
    for state in State:
        assert transition(state, Event.LOST) is State.CLOSED


def test_frames_come_in_order_and_junk_is_counted() -> None:
    connection = Connection(LIMITS, 0.0)
    found = connection.receive_data(b"junk" + _frame(b"one") + _frame(b"two"), 0.0)
    assert _bodies(found) == [b"one", b"two"]
    assert Outside(4) in found
    assert connection.owed == 2
    assert connection.state is State.IDLE


def test_a_frame_over_the_cap_ends_the_connection_after_its_answer() -> None:
    connection = Connection(LIMITS, 0.0)
    found = connection.receive_data(_frame(b"x") + START + bytes(100), 0.0)
    assert _bodies(found) == [b"x"]
    assert isinstance(found[-1], TooLarge)
    assert connection.state is State.DRAINING
    assert connection.receive_data(_frame(b"more"), 0.0) == []
    connection.answered()
    assert connection.state is State.DRAINING
    connection.answered()
    assert connection.state is State.CLOSED


def test_the_peer_ends_and_is_still_answered() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive_data(_frame(b"x") + START + b"half", 0.0)
    assert connection.receive_eof() == [Cut()]
    assert connection.state is State.DRAINING
    connection.answered()
    assert connection.state is State.CLOSED


def test_a_last_frame_without_its_carriage_return_is_answered() -> None:
    connection = Connection(LIMITS, 0.0)
    assert connection.receive_data(START + b"last\x1c", 0.0) == []
    assert _bodies(connection.receive_eof()) == [b"last"]
    assert connection.state is State.DRAINING
    connection.answered()
    assert connection.state is State.CLOSED


def test_a_frame_whose_start_was_lost_is_junk() -> None:
    connection = Connection(LIMITS, 0.0)
    found = connection.receive_data(b"lost" + END + _frame(b"whole"), 0.0)
    assert (found[0], _bodies(found)) == (Outside(6), [b"whole"])


def test_a_stop_waits_for_the_frame_in_hand() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive_data(START + b"ha", 0.0)
    connection.stop()
    assert connection.state is State.FINISHING
    assert _bodies(connection.receive_data(b"lf" + END, 1.0)) == [b"half"]
    assert connection.state is State.DRAINING
    connection.answered()
    assert connection.state is State.CLOSED


def test_a_stop_of_an_idle_connection_closes_it() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.stop()
    assert connection.state is State.CLOSED


def test_a_trickling_frame_is_too_slow_however_busy() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive_data(START, 0.0)
    for second in range(1, 10):
        connection.receive_data(b"x", float(second))
        assert connection.check_time(float(second)) is None
    assert connection.check_time(10.0) is Event.TOO_SLOW
    assert connection.state is State.CLOSED


def test_time_in_which_nobody_read_is_not_the_peers() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive_data(START, 0.0)
    assert connection.check_time(50.0, paused=True) is None
    assert connection.check_time(59.0) is None
    assert connection.check_time(60.0) is Event.TOO_SLOW


def test_junk_does_not_keep_a_connection_open_and_an_owed_answer_does() -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive_data(b"junk", 99.0)
    assert connection.check_time(100.0) is Event.TOO_IDLE
    owing = Connection(LIMITS, 0.0)
    owing.receive_data(_frame(b"x"), 0.0)
    assert owing.check_time(1000.0) is None


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_any_bytes_in_any_pieces_are_named_events(data: bytes, cuts: list[int]) -> None:
    limits = Limits(frame_bytes_max=1000, frame_timeout_s=10.0, idle_timeout_s=100.0)
    whole = Connection(limits, 0.0)
    expected = _bodies(whole.receive_data(data, 0.0))
    connection = Connection(limits, 0.0)
    found: list[bytes] = []
    for start, end in pairwise(sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})):
        found += _bodies(connection.receive_data(data[start:end], 0.0))
    assert found == expected
    connection.receive_eof()
    for _ in range(connection.owed):
        connection.answered()
    assert connection.state is State.CLOSED


_PIECES = st.sampled_from([START, END, b"abc", _frame(b"m"), START + bytes(80), b"\x1c", b"\r"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), _PIECES),
        st.tuples(st.sampled_from(["eof", "stop", "answer", "time", "lost"]), st.just(b"")),
    ),
    max_size=30,
)


@given(steps=_STEPS)
def test_no_order_of_events_breaks_a_connection(steps: list[tuple[str, bytes]]) -> None:
    connection = Connection(LIMITS, 0.0)
    now = 0.0
    for step, data in steps:
        now += 3.0
        before = connection.state
        if step == "data":
            connection.receive_data(data, now)
        elif step == "eof":
            connection.receive_eof()
        elif step == "stop":
            connection.stop()
        elif step == "answer" and connection.owed and connection.state is not State.CLOSED:
            connection.answered()
        elif step == "time":
            connection.check_time(now)
        elif step == "lost":
            connection.lost()
        assert before is not State.CLOSED or connection.state is State.CLOSED
        assert connection.owed >= 0
