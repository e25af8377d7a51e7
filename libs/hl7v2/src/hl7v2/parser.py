"""Bytes → Message. Only the header is looked at; what deviates from the standard and is tolerated is named.

Tolerances (all on by default): `line_feeds` (LF or CRLF as segment end), `missing_final_cr`, `byte_order_mark`. With a
tolerance off, the deviation is a ParseError.
"""

from __future__ import annotations

from typing import Final

from hl7v2 import charset
from hl7v2.body import body_of, marked_body
from hl7v2.encoding import USUAL, Encoding, ParseError, delimiters_of, encoding_of
from hl7v2.message import Message, message_of

__all__ = ["Encoding", "ParseError", "delimiters_of", "parse", "parse_assuming", "parse_header"]

_USUAL_START: Final = b"MSH|^~\\&|"
_HEADER_FIELDS: Final = 10
"""Of MSH that are split off at once: up to the control id, which everybody reads."""
_LINE_FEED: Final = 0x0A
_ESCAPE: Final = 0x1B


def parse(data: bytes, line_feeds: bool = True, missing_final_cr: bool = True, byte_order_mark: bool = True) -> Message:
    """The message of these bytes. Raises ParseError when there is no usable MSH; nothing else, whatever the bytes.

    The tolerances are given by name; that Python does not insist on it saves a tenth of the time.
    """
    # What nearly all messages are, found out as cheaply as can be: a byte is looked for as a number, since `in` takes
    # four times as long with a bytes object, and to call the class would take as long as all the rest.
    if data[:9] == _USUAL_START and _LINE_FEED not in data:
        end = data.find(b"\r")
        header = data[:end]
        if end > 0 and header.isascii() and _ESCAPE not in header:
            message = Message()
            message._data = data
            message._body = message._key = None
            message._header = header.split(b"|", _HEADER_FIELDS)
            message._unread = end
        else:
            message = message_of(data, USUAL)
    else:
        marked = marked_body(data, byte_order_mark)
        message = message_of(data, encoding_of(data)) if marked is None else message_of(data, marked[1], marked[0])
    if not (line_feeds and missing_final_cr):
        _refuse(message, line_feeds, missing_final_cr)
    return message


def parse_assuming(data: bytes, encoding: str | None) -> Message:
    """As `parse`; `encoding`, a value of MSH-18, is what the message is in where its own MSH-18 says nothing.

    What MSH-18 or the bytes themselves say (a byte order mark, UTF-16) comes first. Bytes that are not what was assumed
    are read as if MSH-18 had said so: `charset-contradicted`. Raises ParseError as `parse`, ValueError for a value of
    `encoding` that is unknown.
    """
    if encoding is None:
        return parse(data)
    assumed = charset.declared(encoding.encode("ascii", "replace"), b"")
    if assumed.codec is None:
        raise ValueError(f"not a value of MSH-18: {encoding[:40]!r}")
    marked = marked_body(data, True)
    if marked is not None:
        return message_of(data, marked[1], marked[0])
    written = encoding_of(data)
    return message_of(data, written, body_of(data, written, assumed=assumed))


def parse_header(data: bytes) -> Message:
    """The header of a batch or a file (BHS, FHS) as a message of one segment. Raises ParseError when it is none."""
    return message_of(data, encoding_of(data, ("BHS", "FHS")))


def _refuse(message: Message, line_feeds: bool, missing_final_cr: bool) -> None:
    if not line_feeds and message.has_line_feeds:
        raise ParseError("line-feeds")
    if not missing_final_cr and not message.is_ended:
        raise ParseError("missing-final-cr")
