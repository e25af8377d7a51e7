"""What a sender does with a message: the steps on its connection, right or wrong as the faults say that are on.

Changes to the message come first, in the order of the rows, then the last fault of framing or of behaviour decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from simulator.core.hl7_feed import frame, with_delimiters

Active = Mapping[str, Mapping[str, int]]
"""Faults that are on, with their parameters."""
TRICKLE_S_MAX: Final = 55.0
WRONG_END: Final = b"\r\n"
UNKNOWN_VERSION: Final = b"9.9"
OTHER_DELIMITERS: Final = "#*!%@"


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for the acknowledgement's frame."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Close without one."""


Step = Write | Wait | Expect | GiveUp


def steps_of(message: bytes, faults: Active) -> tuple[Step, ...]:
    """The steps that send one message; without faults: its frame, and the wait for the acknowledgement."""
    for name, change in _CHANGES.items():
        if name in faults:
            message = change(message, faults[name])
    for name, behave in _BEHAVIOURS.items():
        if name in faults:
            return behave(message, faults[name])
    return Write(frame(message)), Expect()


def _rows(message: bytes) -> list[bytes]:
    return message.rstrip(b"\r").split(b"\r")


def _joined(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\r" for row in rows)


def _place(rows: list[bytes], name: bytes = b"PID") -> int:
    """Where the segment stands; the last one's place when there is none."""
    return next((index for index, row in enumerate(rows) if row.startswith(name)), len(rows) - 1)


def _without_pid(message: bytes, _: Mapping[str, int]) -> bytes:
    return _joined([row for row in _rows(message) if not row.startswith(b"PID")])


def _out_of_order(message: bytes, _: Mapping[str, int]) -> bytes:
    rows = _rows(message)
    place = _place(rows)
    if place + 1 < len(rows):
        rows[place], rows[place + 1] = rows[place + 1], rows[place]
    return _joined(rows)


def _twice(message: bytes, _: Mapping[str, int]) -> bytes:
    rows = _rows(message)
    place = _place(rows)
    return _joined([*rows[: place + 1], rows[place], *rows[place + 1 :]])


def _broken_line(message: bytes, _: Mapping[str, int]) -> bytes:
    rows = _rows(message)
    place = _place(rows)
    fields = rows[place].split(b"|")
    number = min(5, len(fields) - 1)
    fields[number] = b"A line\rbroken in two " + fields[number]
    rows[place] = b"|".join(fields)
    return _joined(rows)


def _delimiters(message: bytes, parameters: Mapping[str, int]) -> bytes:
    if parameters["honest"]:
        return with_delimiters(message, OTHER_DELIMITERS)
    header, end, rest = message.partition(b"\r")
    return with_delimiters(header, OTHER_DELIMITERS) + end + rest


def _field(row: bytes, number: int, value: bytes) -> bytes:
    fields = row.split(b"|")
    fields += [b""] * (number + 1 - len(fields))
    fields[number] = value
    return b"|".join(fields)


def _version(message: bytes, _: Mapping[str, int]) -> bytes:
    rows = _rows(message)
    rows[0] = _field(rows[0], 11, UNKNOWN_VERSION)  # MSH-1 is the separator itself
    return _joined(rows)


def _charset(message: bytes, _: Mapping[str, int]) -> bytes:
    rows = _rows(message)
    rows[0] = _field(rows[0], 17, b"UNICODE UTF-8")
    place = _place(rows)
    fields = rows[place].split(b"|")
    number = min(5, len(fields) - 1)
    fields[number] = b"Ren\xe9" + fields[number].decode().encode("latin-1", "replace")
    rows[place] = b"|".join(fields)
    return _joined(rows)


_CHANGES: Final[dict[str, Callable[[bytes, Mapping[str, int]], bytes]]] = {
    "hl7-segment-missing": _without_pid,
    "hl7-segment-order": _out_of_order,
    "hl7-segment-cardinality": _twice,
    "hl7-line-break": _broken_line,
    "hl7-version": _version,
    "hl7-charset": _charset,
    # Last: what comes before it reads the usual delimiters.
    "hl7-delimiters": _delimiters,
}


def _silent(_: bytes, parameters: Mapping[str, int]) -> tuple[Step, ...]:
    return Wait(parameters["hold_ms"] / 1000), GiveUp()


def _half_open(message: bytes, parameters: Mapping[str, int]) -> tuple[Step, ...]:
    whole = frame(message)
    return Write(whole[: len(whole) // 2]), Wait(parameters["hold_ms"] / 1000), GiveUp()


def _trickle(message: bytes, parameters: Mapping[str, int]) -> tuple[Step, ...]:
    pause = Wait(parameters["pause_ms"] / 1000)
    whole = frame(message)
    # Who asked waits for the end of it: after so many bytes the sender gives up.
    bytes_max = int(TRICKLE_S_MAX / pause.duration_s)
    drops = [step for byte in whole[:bytes_max] for step in (Write(bytes([byte])), pause)]
    return (*drops, Expect() if len(whole) <= bytes_max else GiveUp())


def _repeated(message: bytes, parameters: Mapping[str, int]) -> tuple[Step, ...]:
    once = (Write(frame(message)), Expect())
    return (*once, Wait(parameters["after_ms"] / 1000), *once)


_BEHAVIOURS: Final[dict[str, Callable[[bytes, Mapping[str, int]], tuple[Step, ...]]]] = {
    "hl7-feed-idle": _silent,
    "hl7-half-open": _half_open,
    "hl7-trickle": _trickle,
    "hl7-start-missing": lambda message, _: (Write(frame(message)[1:]), Expect()),
    "hl7-end-wrong": lambda message, _: (Write(frame(message)[:-2] + WRONG_END), Expect()),
    "hl7-duplicates": _repeated,
}
