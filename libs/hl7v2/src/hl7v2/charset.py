"""Character sets: MSH-18 (HL7 table 0211, and spellings seen in the field) → a Python codec.

What MSH-18 says is believed unless the bytes contradict it: then what the bytes are is used, and reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Table 0211 by its value without punctuation and case; then what senders write instead.
_CODECS: Final[dict[str, str]] = {
    "ASCII": "ascii", "USASCII": "ascii", "ANSIX34": "ascii", "ISO646": "ascii", "7BITASCII": "ascii",
    "ISOIR6": "ascii",
    **{f"8859{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    **{f"ISO8859{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    "LATIN1": "iso8859-1", "LATIN9": "iso8859-15", "ISOIR100": "iso8859-1", "ISOIR101": "iso8859-2",
    "ISOIR144": "iso8859-5", "ISOIR127": "iso8859-6", "ISOIR126": "iso8859-7", "ISOIR138": "iso8859-8",
    "ISOIR148": "iso8859-9",
    "UNICODEUTF8": "utf-8", "UTF8": "utf-8", "ISOIR192": "utf-8",
    "UNICODE": "utf-16", "UTF16": "utf-16", "UNICODEUTF16": "utf-16", "ISO10646UCS2": "utf-16",
    "UTF32": "utf-32", "UNICODEUTF32": "utf-32",
    "GB18030": "gb18030", "GB180302000": "gb18030", "GB2312": "gb18030", "GBK": "gb18030",
    "BIG5": "cp950",
    "KSX1001": "euc_kr", "EUCKR": "euc_kr",
    "ISOIR14": "iso2022_jp_ext", "ISOIR87": "iso2022_jp_ext", "ISOIR159": "iso2022_jp_ext",
    "ISOIR13": "iso2022_jp_ext", "ISO2022JP": "iso2022_jp_ext",
    # Windows' forms of Shift JIS and Big5: they hold the standard's characters and those that names are written with.
    "SHIFTJIS": "cp932", "SJIS": "cp932", "CP932": "cp932", "WINDOWS31J": "cp932", "EUCJP": "euc_jp",
    "WINDOWS1252": "cp1252", "CP1252": "cp1252", "ANSI": "cp1252", "WINDOWS1250": "cp1250", "CP1250": "cp1250",
    "WINDOWS1251": "cp1251", "CP1251": "cp1251",
    "TIS620": "tis_620",
}  # fmt: skip

_SINGLE_BYTE: Final = frozenset(
    {"ascii", "cp1252", "cp1250", "cp1251", "tis_620", *(f"iso8859-{part}" for part in range(1, 17))}
)
# Codecs in which every byte below 0x80 is the ASCII character, also inside a multi-byte character: such a message
# can be taken apart as bytes. All others are taken apart as text.
_ASCII_TRANSPARENT: Final = _SINGLE_BYTE | {"utf-8", "euc_kr", "euc_jp"}
_ISO_2022: Final = "iso2022_jp_ext"
UTF_16_STARTS: Final = {b"M\x00S\x00H\x00": "utf-16-le", b"\x00M\x00S\x00H": "utf-16-be"}
_FALLBACK: Final = "cp1252"
_DECLARED_BYTES_MAX: Final = 200
_C1: Final = bytes(range(0x80, 0xA0))

UNDECLARED: Final = "charset-undeclared"
UNKNOWN: Final = "charset-unknown"
CONTRADICTED: Final = "charset-contradicted"


def codec_of(value: str) -> str | None:
    """The codec of an MSH-18 value, None when it is unknown."""
    return _CODECS.get("".join(character for character in value.upper() if character.isalnum()))


def transparent(codec: str) -> bool:
    """Whether delimiters can be looked for in the bytes."""
    return codec in _ASCII_TRANSPARENT


def decodes(data: bytes, codec: str) -> bool:
    """Whether the bytes are of a codec."""
    try:
        data.decode(codec)
    except UnicodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Declared:
    """What MSH-18 says: whether anything, and the codec, None when it is unknown."""

    anything: bool
    codec: str | None


NOTHING: Final = Declared(False, None)


def declared(value: bytes, repetition: bytes) -> Declared:
    """What MSH-18 says. Of a value that is no list of names any more, the end is not looked at."""
    return _declared(value[:_DECLARED_BYTES_MAX], repetition) if value else NOTHING


@lru_cache(maxsize=256)
def _declared(value: bytes, repetition: bytes) -> Declared:
    names = [name.decode("ascii", "replace") for name in (value.split(repetition) if repetition else [value])]
    first, *others = map(codec_of, names)
    # The first is the message's, the others are switched to by escape sequences: `~ISO IR87` (as in Japan) is ASCII
    # with ISO 2022 sequences, which is one codec here.
    if first in {None, "ascii"} and _ISO_2022 in others:
        return Declared(True, _ISO_2022)
    return Declared(any(names), first)


def note_on(codec: str, said: Declared) -> str | None:
    """What is to be said of MSH-18 when the bytes themselves say their codec (a byte order mark, UTF-16)."""
    if not said.anything:
        return None if codec == "utf-8" else UNDECLARED
    if said.codec is None:
        return UNKNOWN
    return None if codec.startswith(said.codec) else CONTRADICTED


def choose(data: bytes, said: Declared) -> tuple[str, str | None]:
    """(codec, what was tolerated) for a message that begins with the bytes `MSH`, by its MSH-18.

    What is tolerated: `charset-undeclared` (non-ASCII without MSH-18), `charset-unknown`, `charset-contradicted` (the
    bytes are not what MSH-18 says: UTF-8 declared as another set, Windows-1252 declared as 8859/1, bytes that its codec
    can not decode, or UTF-16 declared where every character is one byte).
    """
    named = said.codec
    if named is not None and not _contradicted(data, named):
        return named, None
    note = CONTRADICTED if named is not None else UNKNOWN if said.anything else None
    if data.isascii():
        return "ascii", note
    return ("utf-8" if decodes(data, "utf-8") else _FALLBACK), note or UNDECLARED


def _contradicted(data: bytes, named: str) -> bool:
    if named.startswith(("utf-16", "utf-32")):
        return True
    if data.isascii() and named != _ISO_2022:
        return False
    if not decodes(data, named) or (named != "utf-8" and _is_utf_8(data, named)):
        return True
    # 8859/1 has controls there that nobody sends; Windows has quotation marks and dashes.
    return named == "iso8859-1" and len(data.translate(None, _C1)) != len(data) and decodes(data, _FALLBACK)


def _is_utf_8(data: bytes, named: str) -> bool:
    """Whether the bytes are rather UTF-8 than what was declared.

    Text of a single-byte set is UTF-8 by accident hardly ever. Two bytes of an East Asian set are so often; but UTF-8
    writes East Asian characters as three, and all of them being three by accident is as rare.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if text.isascii():
        return False
    return named in _SINGLE_BYTE or not any("\x80" <= character < "\u0800" for character in text)


def decode(data: bytes, codec: str) -> str:
    """Text of a field; what can not be decoded becomes U+FFFD."""
    return data.decode(codec, "replace")


def encode(text: str, codec: str) -> bytes:
    """Bytes of a text; raises ValueError when the codec has no bytes for a character (the text is not repeated)."""
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        raise ValueError(f"a character cannot be written in {codec}") from None
