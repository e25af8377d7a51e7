"""What a bad network does to a stream of bytes, in toxiproxy's vocabulary; sans-IO.

A stream is one direction of one connection: bytes go in, steps come out, and whoever has the sockets plays them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from simulator.core.fault_row import Parameter

TOXICS_MAX: Final = 20
_SLICE_S: Final = 0.1
"""Bandwidth is kept in slices of so long."""
_SLICE_BYTES_MIN: Final = 1

Chance = Callable[[], float]
"""A number from 0 up to, not including, 1."""


class Direction(StrEnum):
    """Of a stream: towards the client, or towards the server."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"


class End(StrEnum):
    """How a connection ends, or that it does nothing any more."""

    CLOSE = "close"
    RESET = "reset"
    HOLD = "hold"


class Listening(StrEnum):
    """What a port does with those who come: takes them, refuses them (B2), or says nothing at all (B3)."""

    OPEN = "open"
    CLOSED = "closed"
    DROPPING = "dropping"


class Certificate(StrEnum):
    """Which certificate a port shows that speaks TLS: a good one, or one that is wrong in one way."""

    GOOD = "good"
    EXPIRED = "expired"
    OTHER_HOST = "other-host"
    NO_INTERMEDIATE = "no-intermediate"
    INTERCEPTION = "interception"


CERTIFICATES: Final[Mapping[Certificate, tuple[str, str]]] = {
    Certificate.GOOD: ("", "The handshake succeeds for who trusts the simulator's root."),
    Certificate.EXPIRED: ("B5", "Test Connection fails at tls: the certificate has expired, with its date."),
    Certificate.OTHER_HOST: (
        "B6",
        "Test Connection fails at tls: the certificate is for another host, with its names.",
    ),
    Certificate.NO_INTERMEDIATE: ("B7", "Test Connection fails at tls: an intermediate certificate is left out."),
    Certificate.INTERCEPTION: ("B8", "Test Connection fails at tls: something in between opens the connection."),
}
"""Certificate → (cause in the fault catalogue, what is expected to be seen)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Wait, then send; then perhaps an end, after which nothing of this stream counts."""

    delay_s: float = 0.0
    data: bytes = b""
    end: End | None = None


@dataclass(frozen=True, slots=True)
class ToxicRow:
    """One kind of toxic: its attributes with their bounds, the cause in the fault catalogue that it reproduces."""

    kind: str
    title: str
    cause: str
    expected: str
    attributes: tuple[Parameter, ...] = ()


ROWS: Final[Mapping[str, ToxicRow]] = {
    row.kind: row
    for row in (
        ToxicRow(
            "latency", "Every piece comes later", "B13",
            "Connecting, TLS and answers all take longer; time-outs where it is longer than them.",
            (
                Parameter("latency", 1000, 0, 60_000, "delay in milliseconds"),
                Parameter("jitter", 0, 0, 60_000, "up to so much more or less, in milliseconds"),
            ),
        ),
        ToxicRow(
            "bandwidth", "Few bytes per second pass", "B13",
            "Short answers come as ever, long ones late.",
            (Parameter("rate", 10, 1, 1_000_000, "kilobytes per second"),),
        ),
        ToxicRow(
            "slow_close", "The connection is closed late", "B13", "Connections stay open after the answer.",
            (Parameter("delay", 1000, 0, 60_000, "delay in milliseconds"),),
        ),
        ToxicRow(
            "timeout", "Nothing passes, then the connection is closed", "B3",
            "A time-out at the HTTP stage: the connection stands and no byte comes back.",
            (Parameter("timeout", 0, 0, 600_000, "closed after so many milliseconds; 0: never"),),
        ),
        ToxicRow(
            "reset_peer", "The connection is reset", "B2", "The peer breaks the connection off before an answer.",
            (Parameter("timeout", 0, 0, 60_000, "reset so many milliseconds after the first byte"),),
        ),
        ToxicRow(
            "slicer", "Bytes come in small pieces", "B13", "The same answers; a client that waits for one piece fails.",
            (
                Parameter("average_size", 100, 1, 65_536, "bytes of a piece"),
                Parameter("size_variation", 0, 0, 65_536, "up to so many more or fewer"),
                Parameter("delay", 10, 0, 1_000_000, "microseconds between two pieces"),
            ),
        ),
        ToxicRow(
            "limit_data", "The connection is closed after so many bytes", "B15",
            "Short answers pass, long ones are cut: the peer breaks the connection off.",
            (Parameter("bytes", 1000, 0, 1_000_000_000, "bytes that pass"),),
        ),
        ToxicRow(
            "stall_data", "Pieces of more bytes are lost", "B15",
            "Short answers pass, long ones stall until a time-out: large packets are lost (MTU).",
            (Parameter("bytes", 1400, 0, 1_000_000_000, "bytes of a piece that still passes"),),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Toxic:
    """A toxic as it is set; `toxicity`: the share of connections that it meets, 0 to 1."""

    name: str
    row: ToxicRow
    direction: Direction
    attributes: Mapping[str, int]
    toxicity: float = 1.0


Change = Callable[[Step, Mapping[str, int]], list[Step]]


class Stream:
    """One direction of one connection, with the toxics that it met."""

    def __init__(self, toxics: Sequence[Toxic], direction: Direction, chance: Chance) -> None:
        mine = [one for one in toxics if one.direction is direction]
        self._toxics = [one for one in mine if one.toxicity >= 1 or chance() < one.toxicity]
        self._chance = chance
        self._passed = 0
        self._changes: Mapping[str, Change] = {
            "latency": self._late,
            "bandwidth": _at_rate,
            "timeout": _mute,
            "reset_peer": _reset,
            "slicer": self._sliced,
            "limit_data": self._limited,
            "stall_data": _stalled,
        }

    def receive(self, data: bytes) -> list[Step]:
        """What becomes of bytes that came in."""
        steps = [Step(data=data)]
        for toxic in self._toxics:
            steps = [after for step in steps for after in self._apply(toxic, step)]
            steps = _until_end(steps)
        self._passed += len(data)
        return steps

    def closed(self) -> list[Step]:
        """What becomes of the other side's end."""
        if any(one.row.kind == "timeout" for one in self._toxics):
            return [Step(end=End.HOLD)]
        delays = [one.attributes["delay"] / 1000 for one in self._toxics if one.row.kind == "slow_close"]
        return [Step(delay_s=max(delays, default=0.0), end=End.CLOSE)]

    def _apply(self, toxic: Toxic, step: Step) -> list[Step]:
        change = self._changes.get(toxic.row.kind)
        return change(step, toxic.attributes) if change is not None and step.data else [step]

    def _late(self, step: Step, of: Mapping[str, int]) -> list[Step]:
        swing = of["jitter"] * (2 * self._chance() - 1)
        return [Step(step.delay_s + max(of["latency"] + swing, 0.0) / 1000, step.data, step.end)]

    def _limited(self, step: Step, of: Mapping[str, int]) -> list[Step]:
        left = of["bytes"] - self._passed
        return [step] if len(step.data) <= left else [Step(step.delay_s, step.data[: max(left, 0)], End.CLOSE)]

    def _sliced(self, step: Step, of: Mapping[str, int]) -> list[Step]:
        pieces: list[Step] = []
        start = 0
        while start < len(step.data):
            swing = round(of["size_variation"] * (2 * self._chance() - 1))
            size = max(of["average_size"] + swing, 1)
            delay_s = of["delay"] / 1_000_000 if start else step.delay_s
            pieces.append(Step(delay_s, step.data[start : start + size]))
            start += size
        pieces[-1] = Step(pieces[-1].delay_s, pieces[-1].data, step.end)
        return pieces


def _mute(step: Step, of: Mapping[str, int]) -> list[Step]:
    return [Step(step.delay_s + of["timeout"] / 1000, end=End.CLOSE if of["timeout"] else End.HOLD)]


def _stalled(step: Step, of: Mapping[str, int]) -> list[Step]:
    return [step] if len(step.data) <= of["bytes"] else [Step(step.delay_s, end=End.HOLD)]


def _reset(step: Step, of: Mapping[str, int]) -> list[Step]:
    return [Step(step.delay_s + of["timeout"] / 1000, end=End.RESET)]


def _at_rate(step: Step, of: Mapping[str, int]) -> list[Step]:
    bytes_per_s = of["rate"] * 1000
    size = max(int(bytes_per_s * _SLICE_S), _SLICE_BYTES_MIN)
    pieces = [step.data[start : start + size] for start in range(0, len(step.data), size)]
    steps = [Step(len(piece) / bytes_per_s, piece) for piece in pieces]
    steps[0] = Step(steps[0].delay_s + step.delay_s, steps[0].data)
    steps[-1] = Step(steps[-1].delay_s, steps[-1].data, step.end)
    return steps


def _until_end(steps: list[Step]) -> list[Step]:
    """Nothing comes after an end."""
    for number, step in enumerate(steps):
        if step.end is not None:
            return steps[: number + 1]
    return steps
