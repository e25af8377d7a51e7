"""A message for a person at a terminal: a line per value that is there, with its path."""

from __future__ import annotations

from collections.abc import Iterator

from hl7v2.message import NULL, Message, Segment
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
    """Path and text of every value of a segment, as deep as it has parts; in time linear in its length."""
    marks = message.delimiters
    for number in range(1, len(segment.values()) + 1):
        field, raw = f"{segment.key}-{number}", segment.raw(number)
        if segment.name in HEADER_NAMES and number <= 2:
            yield field, raw
            continue
        repetitions = raw.split(marks.repetition) if marks.repetition else [raw]
        for repetition, one in enumerate(repetitions, 1):
            place = f"{field}[{repetition}]" if len(repetitions) > 1 else field
            if not marks.component or marks.component not in one:
                yield from _component(segment, place, one, marks.subcomponent, f"{place}.1")
                continue
            for component, part in enumerate(one.split(marks.component), 1):
                yield from _component(segment, f"{place}.{component}", part, marks.subcomponent, f"{place}.{component}")


def _component(segment: Segment, path: str, raw: str, mark: str, deeper: str) -> Iterator[tuple[str, str]]:
    if not mark or mark not in raw:
        if raw:
            yield path, _meaning(segment, raw)
        return
    for number, part in enumerate(raw.split(mark), 1):
        if part:
            yield f"{deeper}.{number}", _meaning(segment, part)


def _meaning(segment: Segment, raw: str) -> str:
    return _NULL if raw == NULL else segment.meaning(raw)


def _shown(text: str) -> str:
    if len(text) <= _CHARACTERS_MAX:
        return printable(text)
    return f"{printable(text[:_CHARACTERS_MAX])} … ({len(text)} characters)"


def printable(text: str) -> str:
    """The text without characters that a terminal would obey."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
