"""A message's bytes in a form that can be taken apart: without a byte order mark, in a codec that ASCII is a part of.

Character sets in which a delimiter's byte can be part of another character (UTF-16, GB 18030, Shift JIS, ISO 2022, …)
are carried as UTF-8. Which set it is, is decided at once for them, and for the others when somebody has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from hl7v2 import charset
from hl7v2.encoding import USUAL, Encoding, ParseError, encoding_of
from hl7v2.segments import Segments

_BOMS: Final = {
    b"\xff\xfe\x00\x00": "utf-32-le", b"\x00\x00\xfe\xff": "utf-32-be",  # before the shorter one that they begin with
    b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be",
}  # fmt: skip
_STARTS: Final = (*_BOMS, *charset.WIDE_STARTS)
_FREQUENT: Final = ("utf-8", "iso8859-1")
_CHARSET_FIELD: Final = 18
_SHIFTS_MAX: Final = 20
"""Separators in the characters of one header that are looked past."""
_LINE_FEED: Final = 0x0A
_ESCAPE: Final = 0x1B


class Settled(NamedTuple):
    """The codecs that a message is written in and carried in, what was tolerated of it, the byte order mark."""

    codec: str
    inner: str
    note: str | None
    mark: bytes


class Body:
    """See the module's text. `declared` is MSH-18; `segments` are all of them, once they are cut apart."""

    __slots__ = (
        "_settled", "declared", "encoding", "has_line_feeds", "is_ascii", "is_plain", "is_unterminated", "kept",
        "segments", "text",
    )  # fmt: skip

    def __init__(
        self,
        text: bytes,
        is_ascii: bool,
        encoding: Encoding,
        declared: charset.Declared,
        settled: Settled | None = None,
    ) -> None:
        self.text = text
        self.encoding = encoding
        self.declared = declared
        self.is_ascii = is_ascii
        self.is_plain = is_ascii and encoding is USUAL
        """Whether it is ASCII with the usual delimiters."""
        self.has_line_feeds = _LINE_FEED in text
        self.is_unterminated = False
        """Whether an escape sequence was read that does not end."""
        self.segments: Segments | None = None
        self.kept: dict[str, list[bytes]] = {}
        """Fields of segments that were read, by the segment's key."""
        self._settled = settled

    @property
    def settled(self) -> Settled:
        """The character set; decided now where that was not needed before."""
        if self._settled is None:
            codec, note = charset.choose(self.text, self.declared)
            # ASCII of a set that has to be carried as UTF-8 is that already; what is written to it must be, too.
            self._settled = Settled(codec, codec if charset.transparent(codec) else "utf-8", note, b"")
        return self._settled

    def decoded(self, raw: bytes) -> str:
        """Text of some bytes of it; what can not be decoded becomes U+FFFD."""
        if self.is_ascii or raw.isascii():
            return raw.decode()
        if self._settled is None:  # two sets are so frequent that the rest of the message need not be looked at:
            codec = self.declared.codec
            if codec in _FREQUENT:
                text = raw.decode("utf-8", "replace")
                broken = "\ufffd" in text
                if codec == "utf-8" and not broken:  # it is what it is said to be
                    return text
                if codec == "iso8859-1" and broken and not charset.has_c1(raw):  # it can not be UTF-8 or Windows-1252
                    return raw.decode("iso8859-1")
        return raw.decode(self._reading(raw), "replace")

    def _reading(self, raw: bytes) -> str:
        """The codec of some bytes: UTF-8 where that was declared and they are, whatever else is broken."""
        inner = self.settled.inner
        return (
            "utf-8" if inner != "utf-8" and self.declared.codec == "utf-8" and charset.decodes(raw, "utf-8") else inner
        )

    def decoded_strictly(self, raw: bytes) -> str:
        """Text of some bytes of it. Raises UnicodeDecodeError."""
        return raw.decode("utf-8" if self.is_ascii or self.declared.codec == "utf-8" else self.settled.inner)


def body_of(data: bytes, encoding: Encoding, header: Sequence[bytes] | None = None) -> Body:
    """The body of a message that begins with the bytes `MSH`. `header`: that segment, split at all separators."""
    declared = _declared(_header(data, encoding) if header is None else header, encoding)
    is_ascii = data.isascii()
    if declared.is_transparent or (is_ascii and _ESCAPE not in data):
        return Body(data, is_ascii, encoding, declared)
    codec, note = charset.choose(data, declared)
    if charset.transparent(codec):
        return Body(data, is_ascii, encoding, declared, Settled(codec, codec, note, b""))
    text = data.decode(codec).encode()
    return Body(text, text.isascii(), encoding, declared, Settled(codec, "utf-8", note, b""))


def marked_body(data: bytes, byte_order_mark: bool) -> tuple[Body, Encoding] | None:
    """The body of bytes that say their codec themselves, by a mark or by characters of two or four bytes; else None.

    Raises ParseError where there is no usable MSH, or a byte order mark that is not tolerated.
    """
    if not data.startswith(_STARTS):
        return None
    mark = next((mark for mark in _BOMS if data.startswith(mark)), b"")
    if mark and not byte_order_mark:
        raise ParseError("byte-order-mark")
    codec = _BOMS[mark] if mark else next(one for start, one in charset.WIDE_STARTS.items() if data.startswith(start))
    rest = data[len(mark) :]
    text = rest if charset.transparent(codec) else rest.decode(codec, "replace").encode()
    encoding = encoding_of(text)
    declared = _declared(_header(text, encoding), encoding)
    note = charset.note_on(codec, declared) if charset.decodes(rest, codec) else charset.CONTRADICTED
    return Body(text, text.isascii(), encoding, declared, Settled(codec, "utf-8", note, mark)), encoding


def _header(text: bytes, encoding: Encoding) -> Sequence[bytes]:
    """The first segment, split."""
    end = text.find(b"\r")
    header = text if end < 0 else text[:end]
    if _LINE_FEED in header:
        header = header[: header.index(b"\n")]
    return header.split(encoding.field)


def _declared(header: Sequence[bytes], encoding: Encoding) -> charset.Declared:
    """MSH-18."""
    if len(header) < _CHARSET_FIELD or encoding.name != "MSH":
        return charset.NOTHING
    said = charset.declared(header[_CHARSET_FIELD - 1], encoding.repetition)  # MSH-1 is the separator itself
    return _behind(header, encoding) or said if said.codec is None and len(header) > _CHARSET_FIELD else said


def _behind(header: Sequence[bytes], encoding: Encoding) -> charset.Declared | None:
    """MSH-18 where a character before it has a byte that is a separator (in Shift JIS, `|` may be half of a letter).

    It then stands some places further on; it is that, if it is in its place once the header is read as it says.
    """
    for value in header[_CHARSET_FIELD : _CHARSET_FIELD + _SHIFTS_MAX]:
        said = charset.declared(value, encoding.repetition)
        if said.codec is None or said.is_transparent:
            continue
        try:
            fields = encoding.field.join(header).decode(said.codec).encode().split(encoding.field)
        except UnicodeDecodeError:
            continue
        if len(fields) >= _CHARSET_FIELD and fields[_CHARSET_FIELD - 1] == value:
            return said
    return None
