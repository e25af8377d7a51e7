"""A message: bytes and a lazy index. Nothing is split or decoded before it is asked for.

A segment is split into fields when one of its fields is first read. Character sets in which a delimiter's byte can be
part of another character (UTF-16, GB 18030, Shift JIS, …) are carried as UTF-8 inside and written back as they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hl7v2 import charset
from hl7v2.escape import Delimiters, escape, unescape
from hl7v2.path import Path, parse_path


class FieldState(StrEnum):
    """What a field says: nothing (absent, empty), "delete what you have" (null, `""`), or a value."""

    ABSENT = "absent"
    EMPTY = "empty"
    NULL = "null"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Field:
    """A place of a message: its state, its text (decoded, unescaped) and its raw text."""

    state: FieldState
    text: str
    raw: str


class Segment:
    """One segment of a message, to read: `segment["5.1"]` is the path below its name."""

    __slots__ = ("_index", "_message", "name")

    def __init__(self, message: Message, index: int) -> None:
        self._message = message
        self._index = index
        self.name = message.segment_name(index)

    def __getitem__(self, below: str) -> str:
        """Decoded text at a path without segment, e.g. `5[2].1`; "" when absent."""
        return self._message.read(self._index, parse_path(f"{self.name}-{below}"))

    def repetitions(self, field: int) -> int:
        """How many repetitions a field has, 0 when it is absent or empty."""
        return self._message.repetitions_at(self._index, field)


class Message:
    """See the module's text; made by `hl7v2.parse`."""

    __slots__ = (
        "_changed", "_codec", "_data", "_ends", "_fields", "_inner", "_positions", "_segments",
        "delimiters", "tolerated",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        segments: list[bytes],
        ends: list[bytes] | None,
        delimiters: Delimiters,
        codec: str,
        tolerated: list[str],
    ) -> None:
        self._data = data
        self._segments = segments
        self._ends = ends
        self._codec = codec
        self._inner = codec if charset.transparent(codec) else "utf-8"
        self._fields: dict[int, list[bytes]] = {}
        self._positions: dict[bytes, list[int]] | None = None
        self._changed = False
        self.delimiters = delimiters
        self.tolerated = tolerated

    @property
    def codec(self) -> str:
        """The Python codec that the message is written in."""
        return self._codec

    @property
    def type(self) -> tuple[str, str, str]:
        """MSH-9: message type, trigger event, message structure, e.g. ("ADT", "A01", "ADT_A01")."""
        return self["MSH-9.1"], self["MSH-9.2"], self["MSH-9.3"]

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self["MSH-10"]

    @property
    def version(self) -> str:
        """MSH-12, version id."""
        return self["MSH-12.1"]

    def __getitem__(self, path: str) -> str:
        """Decoded, unescaped text at a path; "" when it is absent, empty or null. Raises ValueError for no path."""
        place = parse_path(path)
        index = self._find(place.segment, place.occurrence)
        return "" if index is None else self.read(index, place)

    def field(self, path: str) -> Field:
        """What stands at a path, telling absent, empty, null and a value apart. Raises ValueError for no path."""
        place = parse_path(path)
        index = self._find(place.segment, place.occurrence)
        raw = None if index is None else self._raw(index, place)
        if raw is None:
            return Field(FieldState.ABSENT, "", "")
        text = charset.decode(raw, self._inner)
        if not text:
            return Field(FieldState.EMPTY, "", "")
        if text == '""':
            return Field(FieldState.NULL, "", text)
        return Field(FieldState.VALUE, self._text(raw, place), text)

    def segments(self, name: str) -> list[Segment]:
        """All segments of a name, in order."""
        return [Segment(self, index) for index in self._index().get(name.encode("ascii", "replace"), ())]

    def segment_names(self) -> list[str]:
        """The names of all segments, in order."""
        return [self.segment_name(index) for index in range(len(self._segments))]

    def segment_name(self, index: int) -> str:
        """The name of a segment."""
        return charset.decode(self._segments[index][:3], self._inner)

    def repetitions(self, path: str) -> int:
        """How many repetitions the field of a path has, 0 when it is absent or empty."""
        place = parse_path(path)
        index = self._find(place.segment, place.occurrence)
        return 0 if index is None else self.repetitions_at(index, place.field)

    def repetitions_at(self, index: int, field: int) -> int:
        """How many repetitions a field of a segment has."""
        raw = self._field(index, field)
        if not raw:
            return 0
        mark = self._mark(self.delimiters.repetition)
        return raw.count(mark) + 1 if mark and not self._is_encoding_field(index, field) else 1

    def read(self, index: int, place: Path) -> str:
        """Decoded text of a place in one segment."""
        raw = self._raw(index, place)
        if not raw or raw == b'""':
            return ""
        return self._text(raw, place)

    def set(self, path: str, value: str | None) -> None:
        """Write a value (escaped) at a path; None writes the null `""`. Only that field is touched.

        Raises ValueError for no path, a segment that the message does not have, MSH-1 and MSH-2, or a character that
        the message's character set can not write.
        """
        place = parse_path(path)
        index = self._find(place.segment, place.occurrence)
        if index is None:
            raise ValueError(f"the message has no segment {place.segment}[{place.occurrence}]")
        if self._is_encoding_field(index, place.field):
            raise ValueError("MSH-1 and MSH-2 are what the message is written with")
        text = '""' if value is None else escape(value, self.delimiters)
        charset.encode(text, self._codec)  # refuse before anything changes
        self._write(index, place, charset.encode(text, self._inner))

    def as_json(self) -> dict[str, Any]:
        """The message as data: a list of segments with name and fields as decoded raw text (delimiters inside)."""
        return {
            "type": list(self.type),
            "charset": self._codec,
            "tolerated": list(self.tolerated),
            "segments": [
                {
                    "name": self.segment_name(index),
                    "fields": [charset.decode(part, self._inner) for part in self._split(index)[1:]],
                }
                for index in range(len(self._segments))
            ],
        }

    def __bytes__(self) -> bytes:
        """The message as it came, with what `set` has changed."""
        if not self._changed:
            return self._data
        if self._ends is None:
            inner = b"\r".join(self._segments) + b"\r"
        else:
            inner = b"".join(part for pair in zip(self._segments, self._ends, strict=True) for part in pair)
        if self._inner == self._codec:
            return inner
        return charset.encode(inner.decode(self._inner), self._codec)

    def _index(self) -> dict[bytes, list[int]]:
        if self._positions is None:
            positions: dict[bytes, list[int]] = {}
            for index, segment in enumerate(self._segments):
                positions.setdefault(segment[:3], []).append(index)
            self._positions = positions
        return self._positions

    def _find(self, name: str, occurrence: int) -> int | None:
        if name == "MSH" and occurrence == 1:
            return 0
        found = self._index().get(name.encode())
        return found[occurrence - 1] if found and occurrence <= len(found) else None

    def _split(self, index: int) -> list[bytes]:
        fields = self._fields.get(index)
        if fields is None:
            fields = self._segments[index].split(self._mark(self.delimiters.field))
            self._fields[index] = fields
        return fields

    def _is_encoding_field(self, index: int, field: int) -> bool:
        return index == 0 and field <= 2

    def _field(self, index: int, field: int) -> bytes | None:
        fields = self._split(index)
        if index == 0:  # MSH-1 is the separator itself, so that MSH's fields lie one place further left
            if field == 1:
                return self._mark(self.delimiters.field)
            field -= 1
        return fields[field] if field < len(fields) else None

    def _raw(self, index: int, place: Path) -> bytes | None:
        raw = self._field(index, place.field)
        if raw is None or self._is_encoding_field(index, place.field):
            return raw
        for number, delimiter in (
            (place.repetition, self.delimiters.repetition),
            (place.component or (1 if place.subcomponent else None), self.delimiters.component),
            (place.subcomponent, self.delimiters.subcomponent),
        ):
            if number is None:
                break
            part = self._part(raw, number, delimiter)
            if part is None:
                return None
            raw = part
        return raw

    def _part(self, raw: bytes, number: int, delimiter: str) -> bytes | None:
        mark = self._mark(delimiter)
        if not mark or mark not in raw:
            return raw if number == 1 else None
        parts = raw.split(mark, number)
        return parts[number - 1] if number <= len(parts) else None

    def _text(self, raw: bytes, place: Path) -> str:
        text = charset.decode(raw, self._inner)
        if place.component is not None and place.subcomponent is None:
            # a component that is asked for whole is its first subcomponent, as a reader of the standard expects of a
            # simple data type that was later given parts (HL7 v2.5.1 §2.8)
            text = text.split(self.delimiters.subcomponent, 1)[0] if self.delimiters.subcomponent else text
        return unescape(text, self.delimiters)

    def _mark(self, delimiter: str) -> bytes:
        return delimiter.encode(self._inner) if delimiter else b""

    def _write(self, index: int, place: Path, value: bytes) -> None:
        fields = list(self._split(index))
        position = place.field - 1 if index == 0 else place.field
        fields += [b""] * (position + 1 - len(fields))
        levels: list[tuple[int, str]] = [(place.repetition, self.delimiters.repetition)]
        if place.component is not None:
            levels.append((place.component, self.delimiters.component))
        if place.subcomponent is not None:
            levels.append((place.subcomponent, self.delimiters.subcomponent))
        fields[position] = self._replaced(fields[position], levels, value)
        self._fields[index] = fields
        self._segments[index] = self._mark(self.delimiters.field).join(fields)
        self._changed = True

    def _replaced(self, raw: bytes, levels: list[tuple[int, str]], value: bytes) -> bytes:
        """The raw text with one part replaced, filled up with empty parts where it was shorter."""
        if not levels:
            return value
        (number, delimiter), *deeper = levels
        mark = self._mark(delimiter)
        if not mark:
            if number > 1:
                raise ValueError("the message declares no such delimiter")
            return self._replaced(raw, deeper, value)
        parts = raw.split(mark)
        parts += [b""] * (number - len(parts))
        parts[number - 1] = self._replaced(parts[number - 1], deeper, value)
        return mark.join(parts)
