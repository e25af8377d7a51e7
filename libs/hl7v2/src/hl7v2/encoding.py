"""What the first bytes of a message declare: MSH-1 and MSH-2, with which it is written."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hl7v2.escape import DEFAULT, Delimiters

_BYTES_MIN: Final = 8
_BYTES_MAX: Final = 10
"""`MSH`, the separator, five encoding characters, the separator again."""
_DELIMITERS_MAX: Final = 6
_HEADERS: Final = (b"MSH", b"BHS", b"FHS")


class ParseError(ValueError):
    """There is no usable MSH. `code`: empty, no-msh, short-msh, bad-delimiters, or a tolerance that is off."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Encoding:
    """The delimiters, as text and as bytes, and the segment that declares them. Made once per declaration."""

    __slots__ = (
        "component", "delimiters", "escape", "field", "field_code", "name", "repetition", "subcomponent",
        "text_repetition",
    )  # fmt: skip

    def __init__(self, name: str, delimiters: Delimiters) -> None:
        self.name = name
        """MSH, or the header of a batch or file."""
        self.delimiters = delimiters
        self.field, self.component, self.repetition, self.subcomponent = delimiters.marks
        self.field_code = self.field[0]
        self.escape = delimiters.escape
        self.text_repetition = delimiters.repetition


USUAL: Final = Encoding("MSH", DEFAULT)


def encoding_of(body: bytes, names: tuple[str, ...] = ("MSH",)) -> Encoding:
    """The encoding of a message whose ASCII characters are bytes. Raises ParseError when it has no usable header."""
    if not body:
        raise ParseError("empty")
    encoding = _declaration(body[:_BYTES_MAX])
    if encoding.name not in names:
        raise ParseError("no-msh")
    return encoding


@lru_cache(maxsize=256)
def _declaration(start: bytes) -> Encoding:
    """MSH-1 and MSH-2 go up to the next separator or the segment's end."""
    if not start.startswith(_HEADERS):
        raise ParseError("no-msh")
    if len(start) < _BYTES_MIN:
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
