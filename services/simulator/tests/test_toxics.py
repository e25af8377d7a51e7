"""Toxics: what becomes of bytes; every stream without an end keeps its bytes, in order."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.toxics import ROWS, Direction, End, Step, Stream, Toxic

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM


def toxic(kind: str, direction: Direction = DOWN, toxicity: float = 1.0, **attributes: int) -> Toxic:
    row = ROWS[kind]
    return Toxic(kind, row, direction, {one.name: one.default for one in row.attributes} | attributes, toxicity)


def stream(*toxics: Toxic, chance: float = 0.5) -> Stream:
    return Stream(toxics, DOWN, lambda: chance)


def passed(steps: list[Step]) -> bytes:
    return b"".join(step.data for step in steps)


@pytest.mark.parametrize(
    ("kind", "attributes", "steps"),
    [
        ("latency", {"latency": 250}, [Step(0.25, b"abcdef")]),
        ("latency", {"latency": 100, "jitter": 500}, [Step(0.1, b"abcdef")]),
        ("bandwidth", {"rate": 1}, [Step(0.006, b"abcdef")]),
        ("timeout", {}, [Step(0, b"", End.HOLD)]),
        ("timeout", {"timeout": 1500}, [Step(1.5, b"", End.CLOSE)]),
        ("reset_peer", {"timeout": 20}, [Step(0.02, b"", End.RESET)]),
        ("slicer", {"average_size": 4, "delay": 1000}, [Step(0, b"abcd"), Step(0.001, b"ef")]),
        ("limit_data", {"bytes": 4}, [Step(0, b"abcd", End.CLOSE)]),
        ("limit_data", {"bytes": 6}, [Step(0, b"abcdef")]),
        ("stall_data", {"bytes": 5}, [Step(0, b"", End.HOLD)]),
        ("stall_data", {"bytes": 6}, [Step(0, b"abcdef")]),
        ("slow_close", {}, [Step(0, b"abcdef")]),
    ],
)
def test_what_a_toxic_does(kind: str, attributes: dict[str, int], steps: list[Step]) -> None:
    assert stream(toxic(kind, **attributes)).receive(b"abcdef") == steps
    assert stream(toxic(kind, UP, **attributes)).receive(b"abcdef") == [Step(0, b"abcdef")], "the other direction"


def test_the_end_of_the_other_side() -> None:
    assert stream().closed() == [Step(0, b"", End.CLOSE)]
    assert stream(toxic("slow_close", delay=700)).closed() == [Step(0.7, b"", End.CLOSE)]
    assert stream(toxic("timeout")).closed() == [Step(0, b"", End.HOLD)]


def test_bytes_are_counted_over_pieces() -> None:
    limited = stream(toxic("limit_data", bytes=5))
    assert limited.receive(b"abc") == [Step(0, b"abc")]
    assert limited.receive(b"defg") == [Step(0, b"de", End.CLOSE)]


def test_some_connections_only() -> None:
    drawn = count()
    met = [
        Stream([toxic("timeout", toxicity=0.25)], DOWN, lambda: (next(drawn) % 4) / 4).receive(b"x")[0].end
        for _ in range(8)
    ]
    assert met.count(End.HOLD) == 2


_HARMLESS = st.sampled_from(["latency", "bandwidth", "slicer", "slow_close"])


@given(st.lists(_HARMLESS, max_size=4), st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.floats(0, 0.99))
def test_no_byte_is_lost_or_moved(kinds: list[str], pieces: list[bytes], chance: float) -> None:
    one = stream(*(toxic(kind, **_swinging(kind)) for kind in kinds), chance=chance)
    steps = [step for piece in pieces for step in one.receive(piece)]
    assert passed(steps) == b"".join(pieces)
    assert all(step.delay_s >= 0 and step.end is None for step in steps)


def _swinging(kind: str) -> dict[str, Any]:
    return {"latency": {"jitter": 5000}, "slicer": {"size_variation": 200}}.get(kind, {})
