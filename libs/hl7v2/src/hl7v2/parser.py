"""Bytes → Message. Only the header is looked at; what deviates from the standard and is tolerated is named.

Tolerances (all on by default): `line_feeds` (LF or CRLF as segment end), `missing_final_cr`, `byte_order_mark`. With a
tolerance off, the deviation is a ParseError.
"""

from __future__ import annotations

import re
from typing import Final

from hl7v2 import charset
from hl7v2.escape import Delimiters
from hl7v2.message import Message

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SEGMENT_END: Final = re.compile(rb"\r\n|\r|\n")
_HEADER_BYTES_MIN: Final = 8
_CHARSET_FIELD: Final = 17  # MSH-18, counted after the name


class ParseError(ValueError):
    """There is no usable MSH. `code`: empty, no-msh, short-msh, bad-delimiters, or a tolerance that is off."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def parse(
    data: bytes, *, line_feeds: bool = True, missing_final_cr: bool = True, byte_order_mark: bool = True
) -> Message:
    """The message of these bytes. Raises ParseError when there is no usable MSH; nothing else, whatever the bytes."""
    tolerated: list[str] = []
    codec: str | None = None
    body = data
    for mark, named in _BOMS:
        if data.startswith(mark):
            tolerated.append(_tolerate("byte-order-mark", byte_order_mark))
            codec = named
            body = data if named == "utf-16" else data[len(mark) :]
    if not body:
        raise ParseError("empty")
    if codec is None and body.startswith(charset.UTF_16_STARTS):
        codec = "utf-16-le" if body.startswith(charset.UTF_16_STARTS[0]) else "utf-16-be"
    if codec is not None and not charset.transparent(codec):
        body = body.decode(codec, "replace").encode()
    delimiters = _delimiters(body)
    if codec is None:
        codec, notes = charset.choose(body, _declared(body, delimiters))
        tolerated += notes
        if not charset.transparent(codec):
            body = body.decode(codec, "replace").encode()
    segments, ends = _segments(body, tolerated, line_feeds=line_feeds, missing_final_cr=missing_final_cr)
    return Message(data, segments, ends, delimiters, codec, tolerated)


def _tolerate(name: str, allowed: bool) -> str:
    if not allowed:
        raise ParseError(name)
    return name


def _delimiters(body: bytes) -> Delimiters:
    if not body.startswith(b"MSH"):
        raise ParseError("no-msh")
    if len(body) < _HEADER_BYTES_MIN:
        raise ParseError("short-msh")
    field = chr(body[3])
    end = body.find(body[3:4], 4)
    encoding = body[4 : end if end >= 0 else None].split(b"\r", 1)[0]
    if end < 0 or not 1 <= len(encoding) <= 5 or not encoding.isascii():
        raise ParseError("bad-delimiters")
    # v2.1 and lazy senders leave out what they do not use: then there is no such delimiter.
    component, repetition, mark, subcomponent, truncation = (*encoding.decode(), "", "", "", "", "")[:5]
    chosen = [field, *encoding.decode()]
    if len(set(chosen)) != len(chosen) or any(one.isalnum() or one.isspace() or one == '"' for one in chosen):
        raise ParseError("bad-delimiters")
    if not field.isascii() or not field.isprintable():
        raise ParseError("bad-delimiters")
    return Delimiters(field, component, repetition, mark, subcomponent, truncation)


def _declared(body: bytes, delimiters: Delimiters) -> str:
    header = _SEGMENT_END.split(body[:4096], maxsplit=1)[0]
    fields = header.split(delimiters.field.encode(), _CHARSET_FIELD + 1)
    if len(fields) <= _CHARSET_FIELD:
        return ""
    value = fields[_CHARSET_FIELD].decode("ascii", "replace")
    return value.split(delimiters.repetition, 1)[0] if delimiters.repetition else value


def _segments(
    body: bytes, tolerated: list[str], *, line_feeds: bool, missing_final_cr: bool
) -> tuple[list[bytes], list[bytes] | None]:
    """Segments and, where they do not all end in one CR, their ends."""
    if b"\n" not in body:
        segments = body.split(b"\r")
        if segments[-1]:
            tolerated.append(_tolerate("missing-final-cr", missing_final_cr))
            return segments, [b"\r"] * (len(segments) - 1) + [b""]
        segments.pop()
        return segments, None
    tolerated.append(_tolerate("line-feeds", line_feeds))
    segments, ends, position = [], [], 0
    for match in _SEGMENT_END.finditer(body):
        segments.append(body[position : match.start()])
        ends.append(match.group())
        position = match.end()
    if position < len(body):
        tolerated.append(_tolerate("missing-final-cr", missing_final_cr))
        segments.append(body[position:])
        ends.append(b"")
    return segments, ends
