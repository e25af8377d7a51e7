"""A message: bytes and a lazy index. Nothing is split or decoded before it is asked for.

The first segment of a name is looked for as bytes and split into fields when one of its fields is read; all segments
are split only when a second one of a name, or a list of them, is wanted, or something is written. Character sets in
which a delimiter's byte can be part of another character (UTF-16, GB 18030, Shift JIS, …) are carried as UTF-8 inside;
segments that nothing was written to go out as they came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hl7v2 import charset
from hl7v2.escape import Delimiters, escape, unescape_checked
from hl7v2.path import Path, parse_path

_HEADERS: Final = (b"MSH", b"BHS", b"FHS")
"""Segments whose field 1 is the field separator itself, and whose field 2 are the encoding characters."""
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


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


class _Segments:
    """All segments of a message: their texts, what ends each, their fields once read, where a name stands."""

    __slots__ = ("changed", "ends", "fields", "positions", "texts")

    def __init__(self, texts: list[bytes], ends: list[bytes]) -> None:
        self.texts = texts
        self.ends = ends
        self.fields: dict[int, list[bytes]] = {}
        self.positions: dict[bytes, list[int]] = {}
        self.changed: set[int] = set()
        for index, text in enumerate(texts):
            self.positions.setdefault(text[:3], []).append(index)


class Message:
    """See the module's text; made by `hl7v2.parse`."""

    __slots__ = (
        "_all", "_body", "_byte_order_mark", "_codec", "_data", "_firsts", "_inner", "_line_feeds", "delimiters",
        "tolerated",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        mark: bytes,
        body: bytes,
        delimiters: Delimiters,
        codec: str,
        tolerated: list[str],
        *,
        header: list[bytes],
        line_feeds: bool,
    ) -> None:
        """`data` as it came, its byte order mark, the rest in an ASCII-transparent codec, and MSH split into fields."""
        self._data = data
        self._byte_order_mark = mark
        self._body = body
        self._line_feeds = line_feeds
        self._codec = codec
        self._inner = codec if charset.transparent(codec) else "utf-8"
        self._firsts: dict[str, list[bytes] | None] = {"MSH": header}
        self._all: _Segments | None = None
        self.delimiters = delimiters
        self.tolerated = tolerated
        """Deviations that were tolerated, by name; `escape-unterminated` joins them when such a field is read."""

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
        fields = self._segment(place.segment, place.occurrence)
        return "" if fields is None else self._read(fields, place)

    def field(self, path: str) -> Field:
        """What stands at a path, telling absent, empty, null and a value apart. Raises ValueError for no path."""
        place = parse_path(path)
        fields = self._segment(place.segment, place.occurrence)
        raw = None if fields is None else self._raw(fields, place)
        if fields is None or raw is None:
            return Field(FieldState.ABSENT, "", "")
        if not raw:
            return Field(FieldState.EMPTY, "", "")
        text = charset.decode(raw, self._inner)
        if text == '""':
            return Field(FieldState.NULL, "", text)
        return Field(FieldState.VALUE, self._read(fields, place), text)

    def segments(self, name: str) -> list[Segment]:
        """All segments of a name, in order."""
        return [Segment(self, index) for index in self._split().positions.get(name.encode("ascii", "replace"), ())]

    def segment_names(self) -> list[str]:
        """The names of all segments, in order."""
        return [self.segment_name(index) for index in range(len(self._split().texts))]

    def segment_name(self, index: int) -> str:
        """The name of a segment."""
        return charset.decode(self._split().texts[index][:3], self._inner)

    def repetitions(self, path: str) -> int:
        """How many repetitions the field of a path has, 0 when it is absent or empty."""
        place = parse_path(path)
        fields = self._segment(place.segment, place.occurrence)
        return 0 if fields is None else self._repetitions(fields, place.field)

    def repetitions_at(self, index: int, field: int) -> int:
        """How many repetitions a field of a segment has."""
        return self._repetitions(self._fields_at(index), field)

    def read(self, index: int, place: Path) -> str:
        """Decoded text of a place in one segment."""
        return self._read(self._fields_at(index), place)

    def set(self, path: str, value: str | None) -> None:
        """Write a value (escaped) at a path; None writes the null `""`. Only that field is touched.

        Raises ValueError for no path, a segment that the message does not have, MSH-1 and MSH-2, or a character that
        the message's character set can not write.
        """
        place = parse_path(path)
        found = self._split().positions.get(place.segment.encode(), ())
        if place.occurrence > len(found):
            raise ValueError(f"the message has no segment {place.segment}[{place.occurrence}]")
        index = found[place.occurrence - 1]
        if _is_encoding_field(self._fields_at(index), place.field):
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
                    "fields": [charset.decode(part, self._inner) for part in self._as_written(index)[1:]],
                }
                for index in range(len(self._split().texts))
            ],
        }

    def __bytes__(self) -> bytes:
        """The message as it came, with what `set` has changed."""
        if self._all is None or not self._all.changed:
            return self._data
        written = self._all.texts if self._inner == self._codec else self._written_back(self._all)
        ends = map(self._encoded, self._all.ends)
        return self._byte_order_mark + b"".join(part for pair in zip(written, ends, strict=True) for part in pair)

    def _written_back(self, segments: _Segments) -> list[bytes]:
        """The segments in the message's codec; those that did not change byte for byte."""
        came: list[bytes] = []
        if not self._codec.startswith("utf-16"):  # there, a line end's bytes may be part of characters
            came = _cut(self._data, self._line_feeds)[0]
        if len(came) != len(segments.texts):
            return [self._encoded(text) for text in segments.texts]
        changed = segments.changed
        return [self._encoded(text) if index in changed else came[index] for index, text in enumerate(segments.texts)]

    def _encoded(self, inner: bytes) -> bytes:
        return inner if self._inner == self._codec else charset.encode(inner.decode(self._inner), self._codec)

    def _split(self) -> _Segments:
        if self._all is None:
            self._all = _Segments(*_cut(self._body, self._line_feeds))
        return self._all

    def _segment(self, name: str, occurrence: int) -> list[bytes] | None:
        """The fields of a segment, each at its number; None when there is no such segment."""
        if occurrence == 1 and self._all is None and not self._line_feeds:
            try:
                return self._firsts[name]
            except KeyError:
                return self._first(name)
        found = self._split().positions.get(name.encode())
        return self._fields_at(found[occurrence - 1]) if found and occurrence <= len(found) else None

    def _first(self, name: str) -> list[bytes] | None:
        """The first segment of a name, found without splitting the message."""
        body = self._body
        start = body.find(b"\r" + name.encode()) + 1
        fields = None
        if start:
            end = body.find(b"\r", start)
            fields = self._taken_apart(body[start : end if end >= 0 else None])
        self._firsts[name] = fields
        return fields

    def _fields_at(self, index: int) -> list[bytes]:
        segments = self._split()
        fields = segments.fields.get(index)
        if fields is None:
            fields = segments.fields[index] = self._taken_apart(segments.texts[index])
        return fields

    def _taken_apart(self, segment: bytes) -> list[bytes]:
        mark = self.delimiters.marks[0]
        fields = segment.split(mark)
        if fields[0] in _HEADERS:  # field 1 is the separator itself
            fields.insert(1, mark)
        return fields

    def _as_written(self, index: int) -> list[bytes]:
        """The fields of a segment without the one that is the separator."""
        fields = self._fields_at(index)
        return fields[:1] + fields[2:] if fields[0] in _HEADERS else fields

    def _repetitions(self, fields: list[bytes], field: int) -> int:
        raw = fields[field] if field < len(fields) else b""
        if not raw:
            return 0
        mark = self.delimiters.marks[2]
        return raw.count(mark) + 1 if mark and not _is_encoding_field(fields, field) else 1

    def _read(self, fields: list[bytes], place: Path) -> str:
        raw = self._raw(fields, place)
        if not raw or raw == b'""':
            return ""
        text = raw.decode(self._inner, "replace")
        marks = self.delimiters
        if place.component is not None and place.subcomponent is None and marks.subcomponent:
            # a component that is asked for whole is its first subcomponent, as a reader of the standard expects of a
            # simple data type that was later given parts (HL7 v2.5.1 §2.8)
            text = text.split(marks.subcomponent, 1)[0]
        if not marks.escape or marks.escape not in text or _is_encoding_field(fields, place.field):
            return text
        meant, terminated = unescape_checked(text, marks, self._codec)
        if not terminated and "escape-unterminated" not in self.tolerated:
            self.tolerated.append("escape-unterminated")
        return meant

    def _raw(self, fields: list[bytes], place: Path) -> bytes | None:
        if place.field >= len(fields):
            return None
        raw = fields[place.field]
        if place.field <= 2 and _is_encoding_field(fields, place.field):
            return raw
        _, component, repetition, subcomponent = self.delimiters.marks
        found: bytes | None = raw
        if place.repetition != 1 or repetition in raw:
            found = _part(raw, place.repetition, repetition)
        if place.component is not None:
            found = _part(found, place.component, component)
            if place.subcomponent is not None:
                found = _part(found, place.subcomponent, subcomponent)
        return found

    def _write(self, index: int, place: Path, value: bytes) -> None:
        fields = list(self._fields_at(index))
        fields += [b""] * (place.field + 1 - len(fields))
        mark, component, repetition, subcomponent = self.delimiters.marks
        levels = [(place.repetition, repetition)]
        if place.component is not None:
            levels.append((place.component, component))
        if place.subcomponent is not None:
            levels.append((place.subcomponent, subcomponent))
        fields[place.field] = _replaced(fields[place.field], levels, value)
        segments = self._split()
        segments.fields[index] = fields
        segments.texts[index] = mark.join(self._as_written(index))
        segments.changed.add(index)


def _is_encoding_field(fields: list[bytes], field: int) -> bool:
    return field <= 2 and fields[0] in _HEADERS


def _part(raw: bytes | None, number: int, mark: bytes) -> bytes | None:
    """One of the parts of a text, None when it has not so many."""
    if raw is None:
        return None
    if not mark or mark not in raw:
        return raw if number == 1 else None
    parts = raw.split(mark, number)
    return parts[number - 1] if number <= len(parts) else None


def _replaced(raw: bytes, levels: list[tuple[int, bytes]], value: bytes) -> bytes:
    """The raw text with one part replaced, filled up with empty parts where it was shorter."""
    if not levels:
        return value
    (number, mark), *deeper = levels
    if not mark:
        if number > 1:
            raise ValueError("the message declares no such delimiter")
        return _replaced(raw, deeper, value)
    parts = raw.split(mark)
    parts += [b""] * (number - len(parts))
    parts[number - 1] = _replaced(parts[number - 1], deeper, value)
    return mark.join(parts)


def _cut(body: bytes, line_feeds: bool) -> tuple[list[bytes], list[bytes]]:
    """Segments and what ends each of them (nothing, where the last one is not ended)."""
    if not line_feeds:
        segments = body.split(b"\r")
        ends = [b"\r"] * len(segments)
        if segments[-1]:
            ends[-1] = b""
        else:
            del segments[-1], ends[-1]
        return segments, ends
    segments, ends, position = [], [], 0
    for match in _LINE_END.finditer(body):
        segments.append(body[position : match.start()])
        ends.append(match.group())
        position = match.end()
    if position < len(body):
        segments.append(body[position:])
        ends.append(b"")
    return segments, ends
