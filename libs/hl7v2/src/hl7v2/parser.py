"""Bytes → Message. Only the header is looked at; what deviates from the standard and is tolerated is named.

Tolerances (all on by default): `line_feeds` (LF or CRLF as segment end), `missing_final_cr`, `byte_order_mark`. With a
tolerance off, the deviation is a ParseError.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hl7v2 import charset
from hl7v2.escape import Delimiters
from hl7v2.message import Message

_BOMS: Final = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_STARTS: Final = (*_BOMS, *charset.UTF_16_STARTS)
_HEADER_BYTES_MIN: Final = 8
_DECLARATION_BYTES_MAX: Final = 10
"""`MSH`, the separator, at most five encoding characters, the separator again."""
_CHARSET_FIELD: Final = 18


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
    body, mark, codec = data, b"", None
    if data.startswith(_STARTS):
        mark, codec = _start(data)
        if mark:
            tolerated.append(_tolerate("byte-order-mark", byte_order_mark))
            body = data[len(mark) :]
        if not charset.transparent(codec):
            body = body.decode(codec, "replace").encode()
    delimiters = _delimiters(body)
    header = _header(body, delimiters.marks[0])
    value = header[_CHARSET_FIELD] if len(header) > _CHARSET_FIELD else b""
    declared = charset.declared(value, delimiters.marks[2])
    if codec is None:
        codec, note = charset.choose(body, declared)
        if not charset.transparent(codec):
            body = body.decode(codec).encode()
            header = _header(body, delimiters.marks[0])
    else:
        note = charset.note_on(codec, declared)
        if not charset.decodes(data[len(mark) :], codec):
            note = charset.CONTRADICTED
    if note is not None:
        tolerated.append(note)
    separated = b"\n" in body
    if separated:
        tolerated.append(_tolerate("line-feeds", line_feeds))
    if not body.endswith((b"\r", b"\n")):
        tolerated.append(_tolerate("missing-final-cr", missing_final_cr))
    return Message(data, mark, body, delimiters, codec, tolerated, header=header, line_feeds=separated)


def _tolerate(name: str, allowed: bool) -> str:
    if not allowed:
        raise ParseError(name)
    return name


def _start(data: bytes) -> tuple[bytes, str]:
    """(byte order mark or nothing, codec) of bytes that begin with one or the other of `_STARTS`."""
    for mark, codec in _BOMS.items():
        if data.startswith(mark):
            return mark, codec
    return b"", charset.UTF_16_STARTS[data[:6]]


def _delimiters(body: bytes) -> Delimiters:
    if not body:
        raise ParseError("empty")
    return _declaration(body[:_DECLARATION_BYTES_MAX])


@lru_cache(maxsize=256)
def _declaration(start: bytes) -> Delimiters:
    """What the first bytes of a message declare: MSH-1 and MSH-2, up to the next separator or the segment's end."""
    if not start.startswith(b"MSH"):
        raise ParseError("no-msh")
    if len(start) < _HEADER_BYTES_MIN:
        raise ParseError("short-msh")
    ends = [end for mark in (start[3:4], b"\r", b"\n") if (end := start.find(mark, 4)) >= 0]
    written = start[3 : min(ends)] if ends else b""
    if len(written) < 2 or not written.isascii():
        raise ParseError("bad-delimiters")
    chosen = written.decode()
    if len(set(chosen)) != len(chosen) or any(one.isalnum() or one.isspace() or one == '"' for one in chosen):
        raise ParseError("bad-delimiters")
    if not chosen[0].isprintable():
        raise ParseError("bad-delimiters")
    # v2.1 and lazy senders leave out what they do not use: then there is no such delimiter.
    return Delimiters(*(*chosen, "", "", "", "", "")[:6])


def _header(body: bytes, mark: bytes) -> list[bytes]:
    """MSH in its fields, each at its number: MSH-1 is the separator itself."""
    end = body.find(b"\r")
    header = body if end < 0 else body[:end]
    if b"\n" in header:
        header = header[: header.index(b"\n")]
    fields = header.split(mark)
    fields.insert(1, mark)
    return fields
