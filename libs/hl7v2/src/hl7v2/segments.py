"""A message cut into its segments: where they end, what they are called, and how one part of a field is replaced.

Where a message has line feeds: one ends a segment behind a carriage return, before something that looks like a segment,
an empty line or the end; any other is part of a field (reports are sent so).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from hl7v2.charset import unit_bytes

if TYPE_CHECKING:
    import re

PARTS_MADE_MAX: Final = 10_000
"""Empty fields, repetitions or components that one edit makes to reach its place."""


class Segments:
    """All segments of a message: their texts, what ends each (None: a carriage return), where a name stands."""

    __slots__ = ("changed", "ends", "fields", "names", "positions", "texts")

    def __init__(self, texts: list[bytes], ends: list[bytes] | None, mark: bytes) -> None:
        self.texts = texts
        self.ends = ends
        self.names = [text[:3] if text[3:4] == mark else text.split(mark, 1)[0] for text in texts]
        self.fields: dict[int, list[bytes]] = {}
        """Those that were taken apart, by number of the segment."""
        self.positions: dict[bytes, list[int]] = {}
        self.changed: set[int] = set()
        positions = self.positions
        for index, name in enumerate(self.names):
            if name in positions:
                positions[name].append(index)
            else:
                positions[name] = [index]

    def endings(self, body: bytes) -> list[bytes]:
        """What ends each segment; nothing, where the last one is not ended."""
        if self.ends is not None:
            return self.ends
        ends = [b"\r"] * len(self.texts)
        if ends and not body.endswith(b"\r"):
            ends[-1] = b""
        return ends


def cut(body: bytes) -> list[bytes]:
    """Segments; each but perhaps the last is ended by a carriage return."""
    texts = body.split(b"\r")
    if not texts[-1]:
        del texts[-1]
    return texts


def cut_lines(body: bytes, mark: bytes) -> tuple[list[bytes], list[bytes]]:
    """Segments and what ends each of them (nothing, where the last one is not ended), where there are line feeds."""
    texts, ends, position = [], [], 0
    for match in _line_end(mark).finditer(body):
        texts.append(body[position : match.start()])
        ends.append(match.group())
        position = match.end()
    if position < len(body):
        texts.append(body[position:])
        ends.append(b"")
    return texts, ends


@lru_cache(maxsize=64)
def _line_end(mark: bytes) -> re.Pattern[bytes]:
    import re

    segment = rb"[A-Z][A-Z0-9]{2}(?:" + re.escape(mark) + rb"|[\r\n]|\Z)"
    return re.compile(rb"\r\n|\r|\n(?=" + segment + rb"|[\r\n]|\Z)")


def cut_wide(data: bytes, codec: str, ends: Sequence[bytes]) -> list[bytes]:
    """Segments of bytes in UTF-16 or UTF-32, where what ends each of them is known."""
    texts, position, unit = [], 0, unit_bytes(codec)
    for end in ends:
        mark = end.decode().encode(codec)
        found = data.find(mark, position) if mark else len(data)
        while mark and found >= 0 and found % unit:
            found = data.find(mark, found + 1)
        texts.append(data[position:found])
        position = found + len(mark)
    return texts


def part(raw: bytes | None, number: int, mark: bytes) -> bytes | None:
    """One of the parts of a text, None when it has not so many."""
    if raw is None:
        return None
    if not mark or mark not in raw:
        return raw if number == 1 else None
    parts = raw.split(mark, number)
    return parts[number - 1] if number <= len(parts) else None


def missing_parts(wanted: int, found: int) -> list[bytes]:
    """The empty parts that are to be made so that there are as many as wanted. Raises ValueError for too many."""
    if wanted - found > PARTS_MADE_MAX:
        raise ValueError(f"part {wanted} where there are {found}: at most {PARTS_MADE_MAX} empty ones are made")
    return [b""] * (wanted - found)


def replaced(raw: bytes, levels: Sequence[tuple[int, bytes]], value: bytes) -> bytes:
    """The raw text with one part replaced, filled up with empty parts where it was shorter.

    `levels` are number and delimiter, from the outside in. Raises ValueError where a part is asked for whose delimiter
    the message does not declare, or that is far behind the last.
    """
    if not levels:
        return value
    (number, mark), *deeper = levels
    if not mark:
        if number > 1:
            raise ValueError("the message declares no such delimiter")
        return replaced(raw, deeper, value)
    parts = raw.split(mark)
    parts += missing_parts(number, len(parts))
    parts[number - 1] = replaced(parts[number - 1], deeper, value)
    return mark.join(parts)
