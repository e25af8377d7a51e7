"""Bytes → Message. Only the header is looked at; what deviates from the standard and is tolerated is named.

Tolerances (all on by default): `line_feeds` (LF or CRLF as segment end), `missing_final_cr`, `byte_order_mark`. With a
tolerance off, the deviation is a ParseError.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hl7v2 import charset
from hl7v2.escape import DEFAULT, Delimiters
from hl7v2.message import Encoding, Message

_BOMS: Final = {
    b"\xff\xfe\x00\x00": "utf-32-le", b"\x00\x00\xfe\xff": "utf-32-be",  # before the shorter one that they begin with
    b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be",
}  # fmt: skip
_STARTS: Final = (*_BOMS, *charset.WIDE_STARTS)
_HEADER_BYTES_MIN: Final = 8
_DECLARATION_BYTES_MAX: Final = 10
"""`MSH`, the separator, five encoding characters, the separator again."""
_DELIMITERS_MAX: Final = 6
_USUAL: Final = b"MSH|^~\\&|"
_HEADER_FIELDS: Final = 10
"""Of MSH that are split off at once: up to the control id, which everybody reads."""
_HEADERS: Final = (b"MSH", b"BHS", b"FHS")
_new: Final = object.__new__
_USUAL_ENCODING: Final = Encoding("MSH", DEFAULT)
_CHARSET_FIELD: Final = 18
_LINE_FEED: Final = 0x0A
_ESCAPE: Final = 0x1B


class ParseError(ValueError):
    """There is no usable MSH. `code`: empty, no-msh, short-msh, bad-delimiters, or a tolerance that is off."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def parse(data: bytes, line_feeds: bool = True, missing_final_cr: bool = True, byte_order_mark: bool = True) -> Message:
    """The message of these bytes. Raises ParseError when there is no usable MSH; nothing else, whatever the bytes.

    The tolerances are given by name; that Python does not insist on it saves a tenth of the time.
    """
    # What nearly all messages are, found out as cheaply as can be: a byte is looked for as a number, since `in` takes
    # four times as long with a bytes object, and to call the class would take as long as all the rest.
    if data.startswith(_USUAL) and data.isascii() and _ESCAPE not in data and _LINE_FEED not in data:
        message = _new(Message)
        message._data = data
        message._encoding = _USUAL_ENCODING
        message._is_ascii = True
        end = data.find(b"\r")
        message._fields = {"MSH": (data[:end] if end >= 0 else data).split(b"|", _HEADER_FIELDS)}
        message._rest = None
    else:
        message = _parse_other(data, byte_order_mark)
    if not (line_feeds and missing_final_cr):
        _refuse(message, line_feeds, missing_final_cr)
    return message


def parse_header(data: bytes) -> Message:
    """The header of a batch or a file (BHS, FHS) as a message of one segment. Raises ParseError when it is none."""
    encoding = _encoding(data, ("BHS", "FHS"))
    return Message(data, data, encoding)


def _refuse(message: Message, line_feeds: bool, missing_final_cr: bool) -> None:
    if not line_feeds and message.has_line_feeds:
        raise ParseError("line-feeds")
    if not missing_final_cr and not message.is_ended:
        raise ParseError("missing-final-cr")


def _parse_other(data: bytes, byte_order_mark: bool) -> Message:
    """The message of bytes that are not plain ASCII, or do not begin as nearly all do."""
    mark, codec, body = b"", None, data
    if data.startswith(_STARTS):
        mark, codec = _start(data)
        if mark and not byte_order_mark:
            raise ParseError("byte-order-mark")
        body = data[len(mark) :]
        if not charset.transparent(codec):
            body = body.decode(codec, "replace").encode()
    encoding = _encoding(body, ("MSH",))
    if codec is None and _ESCAPE not in body and body.isascii():
        return Message(data, body, encoding)
    header = _header(body, encoding.field)
    value = header[_CHARSET_FIELD - 1] if len(header) >= _CHARSET_FIELD else b""
    declared = charset.declared(value, encoding.repetition)
    if codec is not None:
        note = charset.note_on(codec, declared)
        if not charset.decodes(data[len(mark) :], codec):
            note = charset.CONTRADICTED
    elif declared.is_transparent:
        return Message(data, body, encoding, header, is_utf_8=declared.codec == "utf-8")
    else:
        codec, note = charset.choose(body, declared)
        if not charset.transparent(codec):
            body = body.decode(codec).encode()
    message = Message(data, body, encoding)
    message.settle(codec, note, mark)
    return message


def _start(data: bytes) -> tuple[bytes, str]:
    """(byte order mark or nothing, codec) of bytes that begin with one or the other of `_STARTS`."""
    for mark, codec in _BOMS.items():
        if data.startswith(mark):
            return mark, codec
    return b"", next(codec for start, codec in charset.WIDE_STARTS.items() if data.startswith(start))


def _encoding(body: bytes, names: tuple[str, ...]) -> Encoding:
    if not body:
        raise ParseError("empty")
    encoding = _declaration(body[:_DECLARATION_BYTES_MAX])
    if encoding.name not in names:
        raise ParseError("no-msh")
    return encoding


@lru_cache(maxsize=256)
def _declaration(start: bytes) -> Encoding:
    """What the first bytes of a message declare: MSH-1 and MSH-2, up to the next separator or the segment's end."""
    if not start.startswith(_HEADERS):
        raise ParseError("no-msh")
    if len(start) < _HEADER_BYTES_MIN:
        raise ParseError("short-msh")
    ends = [end for mark in (start[3:4], b"\r", b"\n") if (end := start.find(mark, 4)) >= 0]
    written = start[3 : min(ends)] if ends else b""
    return Encoding(start[:3].decode(), delimiters_of(written.decode("ascii", "replace")))


def delimiters_of(chosen: str) -> Delimiters:
    """The delimiters that MSH-1 and MSH-2 (one behind the other) are. Raises ParseError when they can not be any."""
    usable = 2 <= len(chosen) <= _DELIMITERS_MAX and len(set(chosen)) == len(chosen) and chosen.isascii()
    if not usable or not chosen[0].isprintable():
        raise ParseError("bad-delimiters")
    if any(one.isalnum() or one.isspace() or one == '"' for one in chosen):
        raise ParseError("bad-delimiters")
    # v2.1 and lazy senders leave out what they do not use: then there is no such delimiter.
    return Delimiters(*(*chosen, "", "", "", "")[:_DELIMITERS_MAX])


def _header(body: bytes, mark: bytes) -> list[bytes]:
    """MSH as a list of fields (`hl7v2.message`), split at least up to MSH-18."""
    end = body.find(b"\r")
    header = body if end < 0 else body[:end]
    if _LINE_FEED in header:
        header = header[: header.index(b"\n")]
    return header.split(mark, _CHARSET_FIELD)
