"""A message for a person at a terminal: a line per value that is there, with its path."""

from __future__ import annotations

from collections.abc import Iterator

from hl7v2.message import FieldState, Message, Segment
from hl7v2.path import HEADER_NAMES

_NULL = '"" (delete)'
_CHARACTERS_MAX = 500
"""Of one value; a document in OBX-5 would bury the rest."""


def title(message: Message) -> str:
    """Type, control id, version, character set and what was tolerated, in one line."""
    kind = "^".join(part for part in message.type if part) or "no message type"
    parts = [kind, f"control id {message.control_id or 'missing'}", f"version {message.version or 'missing'}"]
    parts.append(message.codec)
    if message.tolerated:
        parts.append(f"tolerated: {', '.join(message.tolerated)}")
    return printable(", ".join(parts))


def outline(message: Message) -> Iterator[str]:
    """The lines of all segments."""
    for segment in message:
        yield printable(segment.key)
        yield from (f"  {printable(path):<18} {_shown(text)}" for path, text in _values(segment, message))


def _values(segment: Segment, message: Message) -> Iterator[tuple[str, str]]:
    """Path and text of every value of a segment, as deep as it has parts."""
    marks = message.delimiters
    for number in range(1, len(segment.values()) + 1):
        declares = segment.name in HEADER_NAMES and number <= 2
        count = segment.repetitions(number)
        for repetition in range(1, count + 1):
            place = f"{number}[{repetition}]" if count > 1 else str(number)
            raw = segment.field(place).raw
            if declares or not marks.component or marks.component not in raw:
                yield from _component(segment, place, raw, "" if declares else marks.subcomponent)
                continue
            for component, part in enumerate(raw.split(marks.component), 1):
                yield from _component(segment, f"{place}.{component}", part, marks.subcomponent)


def _component(segment: Segment, place: str, raw: str, mark: str) -> Iterator[tuple[str, str]]:
    if not mark or mark not in raw:
        if raw:
            found = segment.field(place)
            yield f"{segment.key}-{place}", _NULL if found.state is FieldState.NULL else found.text
        return
    deeper = place if "." in place else f"{place}.1"
    for number, part in enumerate(raw.split(mark), 1):
        if part:
            yield f"{segment.key}-{deeper}.{number}", segment[f"{deeper}.{number}"]


def _shown(text: str) -> str:
    if len(text) <= _CHARACTERS_MAX:
        return printable(text)
    return f"{printable(text[:_CHARACTERS_MAX])} … ({len(text)} characters)"


def printable(text: str) -> str:
    """The text without characters that a terminal would obey."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
