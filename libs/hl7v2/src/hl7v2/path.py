"""Paths into a message: `PID-5`, `PID-5[2].1.1`, `OBX[3]-5`, `MSH-9.2`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_PATH: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>[1-9][0-9]{0,5})\])?-(?P<field>[1-9][0-9]{0,3})"
    r"(?:\[(?P<repetition>[1-9][0-9]{0,5})\])?(?:\.(?P<component>[1-9][0-9]{0,3})(?:\.(?P<subcomponent>[1-9][0-9]{0,3}))?)?"
)
_SEGMENT: Final = re.compile(r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>[1-9][0-9]{0,5})\])?")


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a message; numbers count from 1 as in the standard. Component and subcomponent may be left out."""

    segment: str
    occurrence: int
    field: int
    repetition: int
    component: int | None
    subcomponent: int | None


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The path of a text; raises ValueError when it is none."""
    match = _PATH.fullmatch(text)
    if match is None:
        raise ValueError(f"not a path into a message: {text!r} (expected e.g. PID-5[2].1)")
    parts = match.groupdict()
    return Path(
        parts["segment"],
        int(parts["occurrence"] or 1),
        int(parts["field"]),
        int(parts["repetition"] or 1),
        int(parts["component"]) if parts["component"] else None,
        int(parts["subcomponent"]) if parts["subcomponent"] else None,
    )


def location_parts(text: str) -> list[str]:
    """What an error location (ERL) says of a path or of a segment alone; raises ValueError when it is neither."""
    if match := _SEGMENT.fullmatch(text):
        return [match["segment"], match["occurrence"] or "1"]
    place = parse_path(text)
    parts = [place.segment, str(place.occurrence), str(place.field), str(place.repetition)]
    return parts + [str(part) for part in (place.component, place.subcomponent) if part is not None]
