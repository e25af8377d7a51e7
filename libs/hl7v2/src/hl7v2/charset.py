"""Character sets: MSH-18 (HL7 table 0211, and spellings seen in the field) → a Python codec.

What MSH-18 says is believed unless the bytes contradict it: then what the bytes are is used, and reported.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

_PARTS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
# Table 0211 by its value without punctuation and case; then what senders write instead: names of ISO registrations,
# of DICOM, of Oracle, Java and Windows.
_CODECS: Final[dict[str, str]] = {
    "ASCII": "ascii", "USASCII": "ascii", "ANSIX34": "ascii", "ISO646": "ascii", "7BITASCII": "ascii",
    "ISOIR6": "ascii", "ISO2022IR6": "ascii", "US7ASCII": "ascii", "ANSIX341968": "ascii",
    **{f"8859{part}": f"iso8859-{part}" for part in _PARTS},
    **{f"ISO8859{part}": f"iso8859-{part}" for part in _PARTS},
    **{f"WE8ISO8859P{part}": f"iso8859-{part}" for part in (1, 9, 15)}, "EE8ISO8859P2": "iso8859-2",
    "LATIN1": "iso8859-1", "LATIN2": "iso8859-2", "LATIN9": "iso8859-15", "L1": "iso8859-1", "IBM819": "iso8859-1",
    "ISO88591LATIN1": "iso8859-1", "ISO88591HL7": "iso8859-1", "ISO885911987": "iso8859-1",
    "ISOIR100": "iso8859-1", "ISOIR101": "iso8859-2", "ISOIR109": "iso8859-3", "ISOIR110": "iso8859-4",
    "ISOIR144": "iso8859-5", "ISOIR127": "iso8859-6", "ISOIR126": "iso8859-7", "ISOIR138": "iso8859-8",
    "ISOIR148": "iso8859-9", "ISOIR203": "iso8859-15",
    **{f"ISO2022IR{number}": f"iso8859-{part}" for number, part in (
        (100, 1), (101, 2), (109, 3), (110, 4), (144, 5), (127, 6), (126, 7), (138, 8), (148, 9),
    )},
    "UNICODEUTF8": "utf-8", "UTF8": "utf-8", "ISOIR192": "utf-8", "UTF8UNICODE": "utf-8", "AL32UTF8": "utf-8",
    "ISO10646UTF8": "utf-8", "CP65001": "utf-8", "65001": "utf-8",
    "UNICODE": "utf-16", "UTF16": "utf-16", "UNICODEUTF16": "utf-16", "ISO10646UCS2": "utf-16", "UCS2": "utf-16",
    "UTF16LE": "utf-16", "UTF16BE": "utf-16", "UTF32": "utf-32", "UNICODEUTF32": "utf-32", "UCS4": "utf-32",
    "GB18030": "gb18030", "GB180302000": "gb18030", "GB180302005": "gb18030", "GB2312": "gb18030",
    "GB231280": "gb18030", "GBK": "gb18030", "CP936": "gb18030", "ISOIR58": "gb18030",
    "BIG5": "cp950", "CP950": "cp950", "BIG5HKSCS": "big5hkscs",
    "CNS116431992": "euc_tw", "CNS11643": "euc_tw", "EUCTW": "euc_tw",
    "KSX1001": "euc_kr", "EUCKR": "euc_kr", "KSC5601": "euc_kr", "KSC56011987": "euc_kr", "ISOIR149": "euc_kr",
    "CP949": "cp949", "MS949": "cp949",
    "ISOIR14": "iso2022_jp_ext", "ISOIR87": "iso2022_jp_ext", "ISOIR159": "iso2022_jp_ext",
    "ISOIR13": "iso2022_jp_ext", "ISO2022JP": "iso2022_jp_ext", "JAS2020": "iso2022_jp_ext", "JIS": "iso2022_jp_ext",
    "JISX0201": "iso2022_jp_ext", "JISX0202": "iso2022_jp_ext", "JISX0208": "iso2022_jp_ext",
    "JISX0212": "iso2022_jp_ext", "ISO2022IR13": "iso2022_jp_ext", "ISO2022IR87": "iso2022_jp_ext",
    "ISO2022IR159": "iso2022_jp_ext",
    # Windows' forms of Shift JIS and Big5: they hold the standard's characters and those that names are written with.
    "SHIFTJIS": "cp932", "SJIS": "cp932", "CP932": "cp932", "MS932": "cp932", "WINDOWS31J": "cp932", "EUCJP": "euc_jp",
    **{f"{name}{page}": f"cp{page}" for name in ("WINDOWS", "CP", "WIN", "ANSI") for page in range(1250, 1259)},
    "ANSI": "cp1252", "WE8MSWIN1252": "cp1252", "EE8MSWIN1250": "cp1250",
    "CP437": "cp437", "IBM437": "cp437", "CP850": "cp850", "IBM850": "cp850",
    "TIS620": "tis_620", "ISOIR166": "tis_620", "KOI8R": "koi8_r",
}  # fmt: skip

_SINGLE_BYTE: Final = frozenset(
    {"ascii", "tis_620", "koi8_r", "cp437", "cp850"}
    | {f"cp{page}" for page in range(1250, 1259)}
    | {f"iso8859-{part}" for part in range(1, 17)}
)
# Codecs in which every byte below 0x80 is the ASCII character, also inside a multi-byte character: such a message
# can be taken apart as bytes. In cp949 it may be a letter, which no delimiter is. All others are taken apart as text.
_ASCII_TRANSPARENT: Final = _SINGLE_BYTE | {"utf-8", "euc_kr", "cp949", "euc_jp", "euc_tw"}
_OURS: Final = "euc_tw"
"""Python has no codec of this name: `hl7v2.cns11643` makes one when it is asked for."""
_ISO_2022: Final = "iso2022_jp_ext"
_UNICODE_WIDE: Final = ("utf-16", "utf-32")
# What Windows sends under the name of an ISO set: letters at the same places, quotation marks and dashes (in 8859/2
# some letters too) where ISO has control characters that nobody sends. And the Korean set with what that one lacks.
_ON_WINDOWS: Final = {
    "iso8859-1": "cp1252", "iso8859-15": "cp1252", "iso8859-2": "cp1250", "iso8859-7": "cp1253", "iso8859-8": "cp1255",
    "iso8859-9": "cp1254", "iso8859-13": "cp1257", "euc_kr": "cp949",
}  # fmt: skip
WIDE_STARTS: Final = {
    b"M\x00\x00\x00S\x00\x00\x00H\x00\x00\x00": "utf-32-le", b"\x00\x00\x00M\x00\x00\x00S\x00\x00\x00H": "utf-32-be",
    b"M\x00S\x00H\x00": "utf-16-le", b"\x00M\x00S\x00H": "utf-16-be",
}  # fmt: skip
"""How a message begins whose characters have two or four bytes."""
_FALLBACK: Final = "cp1252"
_DECLARED_BYTES_MAX: Final = 200
_CHUNK_BYTES: Final = 1 << 20
# Leaves of a message's bytes only what tells whether 0x80 to 0x9F are among them, faster than to take them out.
_C1: Final = bytes(0x80 if 0x80 <= byte < 0xA0 else 0 for byte in range(256))
_KATAKANA: Final = bytes(range(0xA1, 0xE0))

UNDECLARED: Final = "charset-undeclared"
UNKNOWN: Final = "charset-unknown"
CONTRADICTED: Final = "charset-contradicted"


def codec_of(value: str) -> str | None:
    """The codec of an MSH-18 value, None when it is unknown."""
    codec = _CODECS.get("".join(character for character in value.upper() if character.isalnum()))
    if codec == _OURS:
        _register()
    return codec


@lru_cache(maxsize=1)
def _register() -> None:
    from hl7v2.cns11643 import register

    register()


def transparent(codec: str) -> bool:
    """Whether delimiters can be looked for in the bytes."""
    return codec in _ASCII_TRANSPARENT


def unit_bytes(codec: str) -> int:
    """How many bytes a code unit has: 4 in UTF-32, 2 in UTF-16, else 1."""
    return 4 if codec.startswith("utf-32") else 2 if codec.startswith("utf-16") else 1


def decodes(data: bytes, codec: str) -> bool:
    """Whether the bytes are of a codec."""
    try:
        if codec != "utf-8" or len(data) <= _CHUNK_BYTES:
            data.decode(codec)
        else:
            _decode_in_chunks(data)
    except UnicodeError:
        return False
    return True


def _decode_in_chunks(data: bytes) -> None:
    """One character beyond the first plane would make the text of a large message four times its size."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _CHUNK_BYTES):
        decoder.decode(data[start : start + _CHUNK_BYTES], start + _CHUNK_BYTES >= len(data))


class Declared(NamedTuple):
    """What MSH-18 says: whether anything, the codec (None: unknown), and codecs of its other repetitions."""

    anything: bool
    codec: str | None
    others: tuple[str, ...] = ()
    is_transparent: bool = True
    """Whether delimiters can be looked for in the bytes, whichever of the codecs it is."""


NOTHING: Final = Declared(False, None)


def declared(value: bytes, repetition: bytes) -> Declared:
    """What MSH-18 says. Of a value that is no list of names any more, the end is not looked at."""
    return _declared(value[:_DECLARED_BYTES_MAX], repetition) if value else NOTHING


@lru_cache(maxsize=256)
def _declared(value: bytes, repetition: bytes) -> Declared:
    names = [name.decode("ascii", "replace") for name in (value.split(repetition) if repetition else [value])]
    if not any(names):
        return NOTHING
    # The first is the message's, ASCII where it is left out; the others are switched to by escapes (§2.15.9.18).
    # `~ISO IR87` (as in Japan) is ASCII with ISO 2022 sequences, which is one codec here.
    first = codec_of(names[0]) if names[0] else "ascii"
    others = tuple(codec for codec in map(codec_of, names[1:]) if codec)
    if first in {None, "ascii"} and _ISO_2022 in others:
        return Declared(True, _ISO_2022, (), False)
    return Declared(True, first, others, all(codec is None or transparent(codec) for codec in (first, *others)))


def note_on(codec: str, said: Declared) -> str | None:
    """What is to be said of MSH-18 when the bytes themselves say their codec (a byte order mark, UTF-16, UTF-32)."""
    if not said.anything:
        return None if codec == "utf-8" else UNDECLARED
    if said.codec is None:
        return UNKNOWN
    return None if codec.startswith(said.codec) else CONTRADICTED


def choose(data: bytes, said: Declared) -> tuple[str, str | None]:
    """(codec, what was tolerated) for a message that begins with the bytes `MSH`, by its MSH-18.

    What is tolerated: `charset-undeclared` (non-ASCII without MSH-18), `charset-unknown`, `charset-contradicted` (the
    bytes are not what MSH-18 says: UTF-8 declared as another set, Windows' characters declared as 8859, bytes that its
    codec can not decode, or UTF-16 declared where every character is one byte).
    """
    named = said.codec
    if named is not None:
        for one in (named, *said.others):
            if not _contradicted(data, one):
                return one, None
        if named == _ISO_2022 and _is_katakana(data):
            return "cp932", None
    note = CONTRADICTED if named is not None else UNKNOWN if said.anything else None
    if data.isascii():
        return "ascii", note
    if decodes(data, "utf-8"):
        return "utf-8", note or UNDECLARED
    variant = _ON_WINDOWS.get(named or "", _FALLBACK)
    return (variant if decodes(data, variant) else _FALLBACK), note or UNDECLARED


def has_c1(data: bytes) -> bool:
    """Whether there are bytes from 0x80 to 0x9F."""
    return not data.translate(_C1).isascii()


def _is_katakana(data: bytes) -> bool:
    """Whether all beyond ASCII is JIS X 0201 katakana in eight bits, which Shift JIS reads and ISO 2022 does not."""
    return b"\x1b" not in data and not data.isascii() and data.translate(None, _KATAKANA).isascii()


def _contradicted(data: bytes, named: str) -> bool:
    if named.startswith(_UNICODE_WIDE):
        return True
    if data.isascii() and named != _ISO_2022:
        return False
    if (named != "iso8859-1" and not decodes(data, named)) or (named != "utf-8" and _is_utf_8(data, named)):
        return True
    variant = _ON_WINDOWS.get(named) if named in _SINGLE_BYTE else None
    return variant is not None and has_c1(data) and decodes(data, variant)


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
