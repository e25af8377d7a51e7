r"""A message as JSON values and back, without loss: `from_json(to_json(message))` has the same bytes.

{
    "type": ["ADT", "A08", "ADT_A01"], "charset": "utf-8", "tolerated": [],      # to read; of these only charset counts
    "delimiters": "|^~\\&",
    "segments": [
        {"name": "MSH", "fields": ["|", "^~\\&", "EPIC", …]},                   # field n is fields[n - 1]
        {"name": "PID", "fields": ["1", "", [["4711", "", "", ["EPIC", "1.2.3", "ISO"], "MR"]], …]},
    ]
}

A field is a value, or a list of repetitions; a repetition is a value, or a list of components; a component is a value,
or a list of subcomponents. A value is a text (unescaped), null for HL7's `""`, or {"raw": …, "text": …} where the
message spells the text otherwise than `escape` does. A segment has "end" where that is no carriage return, and
"base64" (its bytes, which then count) where they are not of the message's character set. "byte_order_mark" is true
where there is one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from hl7v2.charset import codec_of
from hl7v2.escape import Delimiters, escape, unescape
from hl7v2.message import NULL, Message
from hl7v2.parser import ParseError, delimiters_of, parse
from hl7v2.path import HEADER_NAMES

_ENDS: Final = ("\r", "\n", "\r\n", "")
_CODEC_CHARACTERS_MAX: Final = 40


class JsonFormError(ValueError):
    """What is no message in JSON form: `where` it is wrong (`segments[2].fields[4]`), and what is expected there."""

    def __init__(self, where: str, expected: str) -> None:
        self.where = where
        self.expected = expected
        super().__init__(f"{where}: expected {expected}")


def to_json(message: Message) -> dict[str, Any]:
    """See the module's text."""
    marks = message.delimiters
    texts, ends = message.segment_bytes()
    tolerated = message.tolerated
    document: dict[str, Any] = {
        "type": list(message.type),
        "charset": message.codec,
        "tolerated": tolerated,
        "delimiters": marks.field + marks.encoding_characters,
        "segments": [_segment(text, end, message.codec, marks) for text, end in zip(texts, ends, strict=True)],
    }
    if "byte-order-mark" in tolerated:
        document["byte_order_mark"] = True
    return document


def from_json(document: Any) -> Message:
    """The message of a document. Raises JsonFormError when it is none, ParseError when its header is not usable."""
    if not isinstance(document, dict):
        raise JsonFormError("document", "an object")
    codec = _codec(document.get("charset", "utf-8"))
    marks = _delimiters(document.get("delimiters", "|^~\\&"))
    segments = document.get("segments")
    if not isinstance(segments, list):
        raise JsonFormError("segments", "a list")
    data = b"".join(
        _segment_bytes(segment, f"segments[{number}]", codec, marks) for number, segment in enumerate(segments)
    )
    mark = "\ufeff".encode(codec) if document.get("byte_order_mark") is True else b""
    return parse(mark + data)


def _segment(raw: bytes, end: bytes, codec: str, marks: Delimiters) -> dict[str, Any]:
    text = raw.decode(codec, "replace")
    name, *fields = text.split(marks.field)
    document: dict[str, Any] = {"name": name}
    if name in HEADER_NAMES:
        document["fields"] = [marks.field, *fields[:1], *(_field(field, codec, marks) for field in fields[1:])]
    else:
        document["fields"] = [_field(field, codec, marks) for field in fields]
    ending = end.decode(codec)
    if ending != "\r":
        document["end"] = ending
    if _encoded(text, codec) != raw:
        document["base64"] = base64.b64encode(raw).decode()
    return document


def _encoded(text: str, codec: str) -> bytes | None:
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        return None


def _field(text: str, codec: str, marks: Delimiters) -> Any:
    return _parts(text, (marks.repetition, marks.component, marks.subcomponent), codec, marks)


def _parts(text: str, levels: Sequence[str], codec: str, marks: Delimiters) -> Any:
    """A value, or the list of what the delimiters of any of the levels part."""
    if not any(mark and mark in text for mark in levels):
        return _value(text, codec, marks)
    mark, *deeper = levels
    return [_parts(piece, deeper, codec, marks) for piece in (text.split(mark) if mark else [text])]


def _value(raw: str, codec: str, marks: Delimiters) -> Any:
    if raw == NULL:
        return None
    text = unescape(raw, marks, codec)
    return text if _written(text, marks) == raw else {"raw": raw, "text": text}


def _written(text: str, marks: Delimiters) -> str | None:
    try:
        return escape(text, marks)
    except ValueError:
        return None


def _segment_bytes(document: Any, where: str, codec: str, marks: Delimiters) -> bytes:
    if not isinstance(document, dict):
        raise JsonFormError(where, "an object")
    end = document.get("end", "\r")
    if end not in _ENDS:
        raise JsonFormError(f"{where}.end", "a carriage return, a line feed, both, or nothing")
    if "base64" in document:
        return _bytes(document["base64"], f"{where}.base64") + _in_codec(end, f"{where}.end", codec)
    name, fields = document.get("name"), document.get("fields")
    if not isinstance(name, str) or any(one in name for one in (marks.field, "\r")):
        raise JsonFormError(f"{where}.name", "the name of a segment")
    if not isinstance(fields, list):
        raise JsonFormError(f"{where}.fields", "a list")
    written = [name]
    declaring = fields[:2] if name in HEADER_NAMES else []
    if declaring:
        written += _declaring(declaring, where, marks)
    for number in range(len(declaring), len(fields)):
        written.append(_field_text(fields[number], f"{where}.fields[{number}]", marks))
    return _in_codec(marks.field.join(written) + end, where, codec)


def _declaring(fields: list[Any], where: str, marks: Delimiters) -> list[str]:
    """Field 2 of a header as it stands; field 1 is the separator, which is between all of them."""
    if fields[0] != marks.field:
        raise JsonFormError(f"{where}.fields[0]", "the first of `delimiters`")
    for field in fields[1:]:
        if not isinstance(field, str) or marks.field in field or "\r" in field:
            raise JsonFormError(f"{where}.fields[1]", "the other delimiters")
    return fields[1:]


def _field_text(field: Any, where: str, marks: Delimiters) -> str:
    return _joined(field, where, (marks.repetition, marks.component, marks.subcomponent), marks)


def _joined(value: Any, where: str, levels: Sequence[str], marks: Delimiters) -> str:
    if not isinstance(value, list):
        return _value_text(value, where, marks)
    if not levels:
        raise JsonFormError(where, "a value: subcomponents have no parts")
    mark, *deeper = levels
    if not value or (not mark and len(value) > 1):
        raise JsonFormError(where, "at least one part, and no more than one where no delimiter is declared")
    return mark.join(_joined(piece, f"{where}[{number}]", deeper, marks) for number, piece in enumerate(value))


def _value_text(value: Any, where: str, marks: Delimiters) -> str:
    if value is None:
        return NULL
    if isinstance(value, str):
        written = _written(value, marks)
        if written is None:
            raise JsonFormError(where, "a text without delimiters: no escape character is declared")
        return written
    raw = value.get("raw") if isinstance(value, dict) else None
    if not isinstance(raw, str):
        raise JsonFormError(where, 'a text, null, a list, or an object with "raw"')
    apart = (marks.field, marks.repetition, marks.component, marks.subcomponent, "\r")
    if any(one and one in raw for one in apart):
        raise JsonFormError(f"{where}.raw", "a text without delimiters")
    return raw


def _delimiters(text: Any) -> Delimiters:
    if not isinstance(text, str):
        raise JsonFormError("delimiters", "MSH-1 and MSH-2 as one text")
    try:
        return delimiters_of(text)
    except ParseError:
        raise JsonFormError("delimiters", "two to six different characters, none a letter or digit") from None


def _codec(name: Any) -> str:
    if not isinstance(name, str) or len(name) > _CODEC_CHARACTERS_MAX:
        raise JsonFormError("charset", "the name of a Python codec")
    codec_of(name)  # makes a codec known that Python has not
    try:
        if "".encode(name) == b"":
            return name
    except (LookupError, ValueError):
        pass
    raise JsonFormError("charset", "the name of a Python codec, with its byte order if it has one")


def _in_codec(text: str, where: str, codec: str) -> bytes:
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        raise JsonFormError(where, f"characters of {codec}") from None


def _bytes(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise JsonFormError(where, "base64") from None
