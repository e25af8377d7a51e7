"""A message: bytes and a lazy index. Nothing is split or decoded before it is asked for.

Theory of operation. Of a usual message the parser keeps the bytes and the front of MSH, where all that decides where a
message goes is found. A segment that is asked for is split no further than the field that is asked for (a
whole one once a field behind that is read); what was found is kept by the segment's key. As long as all that is read
is ASCII, nothing else is looked at. `Body` is the message as a whole: made when a byte beyond ASCII is read, or
somebody asks for the character set. All segments are cut apart only when a second one of a name, or a list of them,
is wanted, when there are line feeds, or when something is written. Segments that nothing was written to go out as they
came.

Fields lie in lists with the segment's name in front. The last may be all the rest of the segment, with separators in
it, until a field there is asked for. In a header (MSH, BHS, FHS) field 1 is the separator itself, so that field n is
at n - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hl7v2 import charset
from hl7v2.body import Body, body_of
from hl7v2.encoding import USUAL, Encoding
from hl7v2.escape import Delimiters, escape, unescape_checked
from hl7v2.path import HEADER_NAMES, PLACES, Path, parse_path, segment_key
from hl7v2.segments import Segments, cut, cut_lines, cut_wide, missing_parts, part, replaced

if TYPE_CHECKING:
    from hl7v2.charset_report import CharsetReport

NULL: Final = '""'
"""What a field says that the receiver shall delete what it has (HL7 v2.5.1 §2.5.3.3)."""
_NULL_BYTES: Final = b'""'
_ESCAPE: Final = 0x1B
_SEPARATOR: Final = ord("|")
_UNTERMINATED: Final = "escape-unterminated"
_IN_HEADER: Final = parse_path("MSH-9")
_CHARSET_INDEX: Final = 17
"""Of MSH-18 in a header that is split."""
_UTF_8: Final = charset.Declared(True, "utf-8")
_HEADERS: Final = frozenset(name.encode() for name in HEADER_NAMES)


class FieldState(StrEnum):
    """What a field says: nothing (absent, empty), "delete what you have" (null, `""`), or a value."""

    ABSENT = "absent"
    EMPTY = "empty"
    NULL = "null"
    VALUE = "value"


class Field(NamedTuple):
    """A place of a message: its state, its text (decoded, unescaped) and its raw text."""

    state: FieldState
    text: str
    raw: str


_ABSENT: Final = Field(FieldState.ABSENT, "", "")
_EMPTY: Final = Field(FieldState.EMPTY, "", "")


class Segment:
    """One segment of a message, to read: `segment["5.1"]` is the path below its name."""

    __slots__ = ("_index", "_message", "_prefix", "key", "name")

    def __init__(self, message: Message, index: int, name: str, key: str) -> None:
        self._message = message
        self._index = index
        self._prefix = name if name in HEADER_NAMES else "ZZZ"  # a name from the field may be none that paths have
        self.name = name
        self.key = key
        """What a path to it begins with: `PID`, `OBX[3]`."""

    def __getitem__(self, below: str) -> str:
        """Decoded text at a path without segment, e.g. `5[2].1`; "" when absent."""
        return self._message.read(self._index, parse_path(f"{self._prefix}-{below}"))

    def field(self, below: str) -> Field:
        """What stands at a path without segment, telling absent, empty, null and a value apart."""
        return self._message.field_at(self._index, parse_path(f"{self._prefix}-{below}"))

    def repetitions(self, field: int) -> int:
        """How many repetitions a field has, 0 when it is absent or empty."""
        return self._message.repetitions_at(self._index, field)

    def raw(self, field: int) -> str:
        """A field as it is written, all repetitions, with delimiters and escape sequences; "" when it is absent."""
        return self._message.raw_at(self._index, Path(self._prefix, 1, field, 1))

    def meaning(self, raw: str) -> str:
        """What a part of `raw` without delimiters means: its escape sequences replaced."""
        return self._message.meaning(raw)

    def values(self) -> list[str]:
        """The text of every field as `segment["n"]` gives it: the first is that of field 1."""
        return self._message.values_at(self._index)

    def __bytes__(self) -> bytes:
        """The segment without its end, in the codec that the message is carried in (`Message.inner_codec`)."""
        return self._message.text_at(self._index)


class Message:
    """See the module's text; made by `hl7v2.parse`."""

    __slots__ = ("_body", "_data", "_found", "_header", "_key", "_unread")

    # There is no __init__: a class without one is made in half the time, and of a usual message that is all there is
    # to do. The parser puts in what it found; `message_of` is for all other messages.
    _data: bytes
    """The message as it came."""
    _body: Body | None
    _header: list[bytes] | None
    _key: str | None
    _found: list[bytes]
    """The fields of the segment that was read last; `_key` says which it is."""
    _unread: int
    """Where MSH ends, as long as nothing behind it was looked at; then 0."""

    @property
    def _encoding(self) -> Encoding:
        return USUAL if self._body is None else self._body.encoding

    @property
    def has_line_feeds(self) -> bool:
        """Whether there are line feeds, be they ends of segments or not."""
        return self._whole_body().has_line_feeds

    @property
    def is_ended(self) -> bool:
        """Whether something ends the last segment."""
        return self._text.endswith((b"\r", b"\n"))

    @property
    def delimiters(self) -> Delimiters:
        """MSH-1 and MSH-2."""
        return self._encoding.delimiters

    @property
    def codec(self) -> str:
        """The Python codec that the message is written in."""
        return self._whole_body().settled.codec

    @property
    def inner_codec(self) -> str:
        """The codec of `raw_segments`: the message's own, or UTF-8 where delimiters can not be found in that."""
        return self._whole_body().settled.inner

    @property
    def tolerated(self) -> list[str]:
        """Deviations that were tolerated, by name; `escape-unterminated` joins them when such a field was read."""
        settled = self._whole_body().settled
        found = ["byte-order-mark"] if settled.mark else []
        if settled.note is not None:
            found.append(settled.note)
        if self.has_line_feeds:
            segments = self._split()
            if any(b"\n" in end for end in segments.ends or ()):
                found.append("line-feeds")
            if any(b"\n" in text for text in segments.texts):
                found.append("line-feeds-in-fields")
        if not self.is_ended:
            found.append("missing-final-cr")
        if self._whole_body().is_unterminated:
            found.append(_UNTERMINATED)
        return found

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
        try:
            place = PLACES[path]
        except KeyError:
            place = parse_path(path)
        fields = self._header if place.is_msh else self._found if place.key is self._key else None
        if fields is None:
            fields = self._locate(place)
        if place.next >= len(fields):  # the last one may be all the rest
            fields = self._complete(place, fields)
            if place.index >= len(fields):
                return ""
        if not place.is_whole:
            return self._read(fields, place)
        raw = fields[place.index]
        if not raw:
            return ""
        body = self._body
        if body is not None and not body.is_plain:
            return self._meant_whole(body.decoded(raw))
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = self._decoded(raw)
        # ASCII (or UTF-8) and the usual delimiters; most often there is nothing to interpret.
        return self._meant_whole(text) if "\\" in text or "~" in text or text == NULL else text

    def field(self, path: str) -> Field:
        """What stands at a path, telling absent, empty, null and a value apart. Raises ValueError for no path."""
        place = parse_path(path)
        return self._field(self._whole(place), place)

    def segments(self, name: str | None = None) -> list[Segment]:
        """All segments of a name, or all there are but empty lines, in order."""
        if name is None:
            return list(self)
        found = self._split().positions.get(name.encode("ascii", "replace"), ())
        return [Segment(self, index, name, segment_key(name, number)) for number, index in enumerate(found, 1)]

    def __iter__(self) -> Iterator[Segment]:
        """The segments in order, without empty lines."""
        counts: dict[bytes, int] = {}
        for index, raw in enumerate(self._split().names):
            if not raw:
                continue
            counts[raw] = counts.get(raw, 0) + 1
            name = self._decoded(raw)
            yield Segment(self, index, name, segment_key(name, counts[raw]))

    def segment_names(self) -> list[str]:
        """The names of all segments, in order; that of an empty line is empty."""
        return [self._decoded(name) for name in self._split().names]

    def segment_name(self, index: int) -> str:
        """The name of a segment."""
        return self._decoded(self._split().names[index])

    def raw_segments(self) -> list[bytes]:
        """The segments as bytes in `inner_codec`, without their ends and without empty lines; not to be changed."""
        body = self._whole_body()
        texts = cut(body.text) if body.segments is None and not body.has_line_feeds else self._split().texts
        return [text for text in texts if text] if b"" in texts else texts

    def repetitions(self, path: str) -> int:
        """How many repetitions the field of a path has, 0 when it is absent or empty."""
        place = parse_path(path)
        return self._repetitions(self._whole(place), place)

    def repetitions_at(self, index: int, field: int) -> int:
        """How many repetitions a field of a segment has."""
        name = "MSH" if self._split().names[index] in _HEADERS else "ZZZ"
        return self._repetitions(self._fields_at(index), Path(name, 1, field, 1))

    def read(self, index: int, place: Path) -> str:
        """Decoded text of a place in one segment."""
        return self._read(self._fields_at(index), place)

    def field_at(self, index: int, place: Path) -> Field:
        """What stands at a place of one segment."""
        return self._field(self._fields_at(index), place)

    def raw_at(self, index: int, place: Path) -> str:
        """A whole field of one segment as it is written."""
        fields = self._fields_at(index)
        if place.declares and place.field == 1:
            return self._encoding.delimiters.field
        return self._decoded(fields[place.index]) if place.index < len(fields) else ""

    def meaning(self, raw: str) -> str:
        """What a written text without delimiters means."""
        return self._meant(raw)

    def values_at(self, index: int) -> list[str]:
        """The texts of a segment's fields; the first is that of field 1."""
        encoding = self._encoding
        segments = self._split()
        mark = encoding.delimiters.field
        text, values = self._texts(segments.texts[index], mark)
        declaring = 0
        if segments.names[index] in _HEADERS:
            values[0] = mark
            declaring = 2
        else:
            del values[0]
        if declaring or encoding.escape in text or encoding.text_repetition in text or NULL in text:
            special = (encoding.escape, encoding.text_repetition, NULL)
            for number in range(declaring, len(values)):
                value = values[number]
                if value and any(one in value for one in special):
                    values[number] = self._meant_whole(value)
        return values

    def text_at(self, index: int) -> bytes:
        """A segment as bytes in `inner_codec`, without its end."""
        return self._split().texts[index]

    def set(self, path: str, value: str | None) -> None:
        """Write a value (escaped) at a path; None, or the text `""`, writes the null. Only that field is touched.

        What a segment lacks up to there (fields, repetitions, components) is made, empty. Raises ValueError for no
        path, a segment that the message does not have, MSH-1 and MSH-2, a place that is far behind all that there is
        (`PARTS_MADE_MAX`), or a character that the message's character set can not write.
        """
        place = parse_path(path)
        found = self._split().positions.get(place.name, ())
        if place.occurrence > len(found):
            raise ValueError(f"the message has no segment {place.segment}[{place.occurrence}]")
        if place.declares:
            raise ValueError(f"{place.segment}-1 and {place.segment}-2 are what the message is written with")
        text = NULL if value is None else escape(value, self.delimiters)
        charset.encode(text, self.codec)  # refuse before anything changes
        self._write(found[place.occurrence - 1], place, charset.encode(text, self.inner_codec))

    def charset_report(self) -> CharsetReport:
        """What MSH-18 says, what the bytes say, and where characters were broken before they came (mojibake)."""
        from hl7v2.charset_report import examine

        body = self._whole_body()
        return examine(self._data, self.codec, body.declared, body.settled.note)

    def as_json(self) -> dict[str, Any]:
        """The message as JSON values (`hl7v2.json_form`); `hl7v2.from_json` gives the same bytes again."""
        from hl7v2.json_form import to_json

        return to_json(self)

    def __bytes__(self) -> bytes:
        """The message as it came, with what `set` has changed."""
        body = self._body
        if body is None or body.segments is None or not body.segments.changed:
            return self._data
        texts, ends = self.segment_bytes()
        return self._whole_body().settled.mark + b"".join(
            text for pair in zip(texts, ends, strict=True) for text in pair
        )

    def segment_bytes(self) -> tuple[list[bytes], list[bytes]]:
        """Every segment in the message's own codec, and what ends it; those that did not change byte for byte."""
        segments = self._split()
        ends = segments.endings(self._text)
        settled = self._whole_body().settled
        if settled.inner == settled.codec:
            return segments.texts, ends
        came = self._data[len(settled.mark) :]
        if charset.unit_bytes(settled.codec) > 1:
            texts = cut_wide(came, settled.codec, ends)
        else:
            texts = cut_lines(came, self._encoding.field)[0] if self.has_line_feeds else cut(came)
        for index in segments.changed:
            texts[index] = segments.texts[index].decode(settled.inner).encode(settled.codec, "replace")
        return texts, [end.decode().encode(settled.codec) for end in ends]

    @property
    def _text(self) -> bytes:
        return self._data if self._body is None else self._body.text

    def _whole_body(self) -> Body:
        if self._body is None:
            header = self._complete(_IN_HEADER, self._header or [])
            self._body = body_of(self._data, self._encoding, header)
            self._unread = 0
        return self._body

    def _split(self) -> Segments:
        body = self._whole_body()
        if body.segments is None:
            mark = self._encoding.field
            if body.has_line_feeds:
                body.segments = Segments(*cut_lines(body.text, mark), mark)
            else:
                body.segments = Segments(cut(body.text), None, mark)
        return body.segments

    def _locate(self, place: Path) -> list[bytes]:
        """The fields of a segment, at least up to the place's; none when there is no such segment."""
        unread = self._unread
        if not unread or place.is_later or place.is_header:
            kept = self._kept(place)
            return self._found_in_body(place) if kept is None else kept
        # A first segment of a message of which only the header was read before.
        text = self._data
        start = text.find(place.needle, unread)
        end = text.find(b"\r", start + 4)
        if start < 0 or end < 0 or text[start + 4] != _SEPARATOR:  # a longer name that begins so, or no fields
            return self._found_in_body(place)
        line = text[start + 1 : end]
        # Where it is ASCII a line can be split in every character set; of others it has to be known which it is.
        if (
            (not line.isascii() or _ESCAPE in line)
            and not self._declares_utf_8()
            and self._whole_body().text is not text
        ):
            return self._found_in_body(place)
        self._unread = 0
        self._key = place.key
        fields = self._found = line.split(b"|", place.next)
        return fields

    def _declares_utf_8(self) -> bool:
        """Whether MSH-18 says so; of a message of which only the header was read."""
        header = self._header or []
        if len(header) <= _CHARSET_INDEX and header:
            header = header[:-1] + header[-1].split(b"|")
        return len(header) > _CHARSET_INDEX and charset.declared(header[_CHARSET_INDEX], b"~") == _UTF_8

    def _found_in_body(self, place: Path) -> list[bytes]:
        """The fields of a segment that was not read before."""
        body = self._whole_body()
        if place.is_later or place.is_header or body.has_line_feeds or body.segments is not None:
            return self._indexed(place)
        text = body.text
        start = text.find(place.needle) + 1
        if not start:
            return self._keep(place, [])
        end = text.find(b"\r", start)
        line = text[start:end] if end >= 0 else text[start:]
        mark = self._encoding.field
        if line[3:4] != mark:  # a longer name that begins so, or a segment without fields
            return self._indexed(place)
        return self._keep(place, line.split(mark, place.next))

    def _indexed(self, place: Path) -> list[bytes]:
        found = self._split().positions.get(place.name, ())
        fields = self._fields_at(found[place.occurrence - 1]) if place.occurrence <= len(found) else []
        return self._keep(place, fields)

    def _complete(self, place: Path, fields: list[bytes]) -> list[bytes]:
        """All fields of a segment of which the last may be all the rest."""
        encoding = self._encoding
        if fields and encoding.field_code in fields[-1]:
            return self._keep(place, fields[:-1] + fields[-1].split(encoding.field))
        return fields

    def _kept(self, place: Path) -> list[bytes] | None:
        """The fields of a segment that was read before."""
        if place.is_msh:
            return self._header
        if place.key == self._key:
            return self._found
        return None if self._body is None else self._body.kept.get(place.key)

    def _keep(self, place: Path, fields: list[bytes]) -> list[bytes]:
        """Keep the fields of a segment that was read: the last one's at hand, others in a dictionary."""
        if place.is_msh:
            self._header = fields
            return fields
        if self._key is not None and self._key != place.key:
            self._whole_body().kept[self._key] = self._found
        self._key = place.key
        self._found = fields
        return fields

    def _whole(self, place: Path) -> list[bytes]:
        """All fields of the segment of a place; none when there is no such segment."""
        return self._complete(place, self._locate(place))

    def _fields_at(self, index: int) -> list[bytes]:
        segments = self._split()
        fields = segments.fields.get(index)
        if fields is None:
            fields = segments.fields[index] = segments.texts[index].split(self._encoding.field)
        return fields

    def _repetitions(self, fields: list[bytes], place: Path) -> int:
        raw = fields[place.index] if place.index < len(fields) else b""
        if not raw:
            return 0
        mark = self._encoding.repetition
        return raw.count(mark) + 1 if mark and not place.declares else 1

    def _field(self, fields: list[bytes], place: Path) -> Field:
        raw = self._raw(fields, place)
        if not raw:
            return _ABSENT if raw is None else _EMPTY
        text = self._decoded(raw)
        if text == NULL:
            return Field(FieldState.NULL, "", text)
        return Field(FieldState.VALUE, self._read(fields, place), text)

    def _read(self, fields: list[bytes], place: Path) -> str:
        raw = self._raw(fields, place)
        if not raw or raw == _NULL_BYTES:
            return ""
        text = self._decoded(raw)
        if place.declares:
            return text
        subcomponent = self._encoding.delimiters.subcomponent
        if place.subcomponent is None and place.component is not None and subcomponent and subcomponent in text:
            # a component that is asked for whole is its first subcomponent, as a reader of the standard expects of a
            # simple data type that was later given parts (HL7 v2.5.1 §2.8)
            text = text.split(subcomponent, 1)[0]
        return self._meant(text)

    def _meant_whole(self, text: str) -> str:
        """What a field's text means, of its first repetition."""
        encoding = self._encoding
        if encoding.text_repetition:
            text = text.split(encoding.text_repetition, 1)[0]
        if text == NULL:
            return ""
        return self._meant(text) if encoding.escape in text else text

    def _meant(self, text: str) -> str:
        marks = self._encoding.delimiters
        mark = marks.escape
        if not mark or mark not in text:
            return text
        # The codec is asked for only where there may be bytes of it: it may not be settled yet.
        has_bytes = any(f"{mark}{kind}" in text for kind in "XCM")
        meant, terminated = unescape_checked(text, marks, self.codec if has_bytes else "utf-8")
        if not terminated:
            self._whole_body().is_unterminated = True
        return meant

    def _decoded(self, raw: bytes) -> str:
        return raw.decode() if self._body is None and raw.isascii() else self._whole_body().decoded(raw)

    def _texts(self, segment: bytes, mark: str) -> tuple[str, list[str]]:
        """A segment's text, whole and by field. What is broken in one field must not change how another is read."""
        body = self._whole_body()
        try:
            text = segment.decode() if body.is_ascii else body.decoded_strictly(segment)
        except UnicodeDecodeError:
            values = [body.decoded(raw) for raw in segment.split(self._encoding.field)]
            return mark.join(values), values
        return text, text.split(mark)

    def _raw(self, fields: list[bytes], place: Path) -> bytes | None:
        if place.index >= len(fields):
            return None
        if place.declares:
            return self._encoding.field if place.field == 1 else fields[place.index]
        encoding = self._encoding
        found: bytes | None = part(fields[place.index], place.repetition, encoding.repetition)
        if place.component is not None:
            found = part(found, place.component, encoding.component)
            if place.subcomponent is not None:
                found = part(found, place.subcomponent, encoding.subcomponent)
        return found

    def _write(self, index: int, place: Path, value: bytes) -> None:
        fields = list(self._fields_at(index))
        fields += missing_parts(place.next, len(fields))
        encoding = self._encoding
        levels = [(place.repetition, encoding.repetition)]
        if place.component is not None:
            levels.append((place.component, encoding.component))
        if place.subcomponent is not None:
            levels.append((place.subcomponent, encoding.subcomponent))
        fields[place.index] = replaced(fields[place.index], levels, value)
        body, segments = self._whole_body(), self._split()
        segments.fields[index] = self._keep(place, fields)
        segments.texts[index] = encoding.field.join(fields)
        segments.changed.add(index)
        if not value.isascii():
            body.is_ascii = body.is_plain = False


def message_of(data: bytes, encoding: Encoding, body: Body | None = None) -> Message:
    """A message that is not of the usual kind: `data` as it came, and its body where that is known."""
    message = Message()
    message._data = data
    message._body = body or body_of(data, encoding)
    message._header = message._key = None
    message._unread = 0
    return message
