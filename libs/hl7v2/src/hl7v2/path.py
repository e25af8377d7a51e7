"""Paths into a message: `PID-5`, `PID-5[2].1.1`, `OBX[3]-5`, `MSH-9.2`.

Segment, its occurrence, field, repetition, component, subcomponent; numbers count from 1 as in the standard.
"""

from __future__ import annotations

from sys import intern
from typing import Final

_PLACES_MAX: Final = 8192
_DIGITS_MAX: Final = 9
"""Of a number: more segments, fields or repetitions than that a message can not have."""


class Path:
    """A place in a message. Component and subcomponent may be left out. Never changes."""

    __slots__ = (
        "component", "declares", "field", "index", "is_header", "is_later", "is_msh", "is_whole", "key", "name",
        "needle", "next", "occurrence", "repetition", "segment", "subcomponent",
    )  # fmt: skip

    def __init__(
        self,
        segment: str,
        occurrence: int,
        field: int,
        repetition: int,
        component: int | None = None,
        subcomponent: int | None = None,
    ) -> None:
        self.segment = segment
        self.occurrence = occurrence
        self.field = field
        self.repetition = repetition
        self.component = component
        self.subcomponent = subcomponent
        self.is_header = segment in HEADER_NAMES
        self.index = field - 1 if self.is_header else field
        """Where the field is in the segment that was split at its separators."""
        self.next = self.index + 1
        self.key = segment_key(segment, occurrence)
        """Names the segment; one segment of a message has one key."""
        self.name = segment.encode()
        self.needle = b"\r" + self.name
        """What the segment begins with, behind another one."""
        self.is_later = occurrence > 1
        self.is_msh = self.key == "MSH"
        self.declares = self.is_header and field <= 2
        """Whether it is one of the fields that say how the message is written."""
        self.is_whole = repetition == 1 and component is None and not self.declares
        """Whether a field is meant as it stands, of its first repetition."""


HEADER_NAMES: Final = frozenset({"MSH", "BHS", "FHS"})
"""Segments whose field 1 is the field separator itself, and whose field 2 are the encoding characters."""
PLACES: Final[dict[str, Path]] = {}
"""Paths that were asked for, by their text; thrown away when there are too many."""


def segment_key(segment: str, occurrence: int) -> str:
    """`PID` for the first segment of a name, `OBX[3]` for a later one."""
    return intern(segment if occurrence == 1 else f"{segment}[{occurrence}]")


def parse_path(text: str) -> Path:
    """The path of a text; raises ValueError when it is none."""
    known = PLACES.get(text)
    if known is not None:
        return known
    place = _path(text)
    if place is None:
        raise ValueError(f"not a path into a message: {text!r} (expected e.g. PID-5[2].1)")
    if len(PLACES) >= _PLACES_MAX:
        PLACES.clear()
    PLACES[text] = place
    return place


def location_parts(text: str) -> list[str]:
    """What an error location (ERL) says of a path or of a segment alone; raises ValueError when it is neither."""
    segment = _segment(text)
    if segment is not None:
        return [segment[0], str(segment[1])]
    place = parse_path(text)
    parts = [place.segment, str(place.occurrence), str(place.field), str(place.repetition)]
    return parts + [str(part) for part in (place.component, place.subcomponent) if part is not None]


def _path(text: str) -> Path | None:
    name, dash, below = text.partition("-")
    segment = _segment(name)
    first, *deeper = below.split(".")
    field, repetition = _counted(first)
    numbers = [_number(part) for part in deeper]
    if segment is None or not dash or not field or not repetition or len(numbers) > 2 or 0 in numbers:
        return None
    component, subcomponent = (*(number for number in numbers), None, None)[:2]
    return Path(*segment, field, repetition, component, subcomponent)


def _segment(text: str) -> tuple[str, int] | None:
    """Name and occurrence: an upper-case letter and two upper-case letters or digits, perhaps a number in brackets."""
    name = text[:3]
    if len(name) != 3 or not name.isascii() or not name.isalnum() or name != name.upper() or not name[0].isalpha():
        return None
    occurrence = _bracketed(text[3:])
    return (name, occurrence) if occurrence else None


def _counted(text: str) -> tuple[int, int]:
    number, bracket, rest = text.partition("[")
    return _number(number), _bracketed(bracket + rest)


def _bracketed(text: str) -> int:
    """1 of nothing, 3 of `[3]`, 0 of what is neither."""
    if not text:
        return 1
    return _number(text[1:-1]) if text[0] == "[" and text[-1] == "]" else 0


def _number(text: str) -> int:
    """A number from 1 on without leading zeros, 0 of what is none."""
    plain = text.isascii() and text.isdecimal() and text[0] != "0" and len(text) <= _DIGITS_MAX
    return int(text) if plain else 0
