"""Character sets: MSH-18 (HL7 table 0211, and spellings seen in the field) → a Python codec.

What MSH-18 says is believed unless the bytes contradict it: then what the bytes are is used, and reported.
"""

from __future__ import annotations

import codecs
from typing import Final

# Table 0211 by its value without punctuation and case; then what senders write instead.
_CODECS: Final[dict[str, str]] = {
    "ASCII": "ascii", "USASCII": "ascii", "ANSIX34": "ascii", "ISO646": "ascii", "7BITASCII": "ascii",
    **{f"8859{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"ISO8859{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    "LATIN1": "iso8859-1", "LATIN9": "iso8859-15",
    "UNICODEUTF8": "utf-8", "UTF8": "utf-8",
    "UNICODE": "utf-16", "UTF16": "utf-16", "UNICODEUTF16": "utf-16", "ISO10646UCS2": "utf-16",
    "UTF32": "utf-32", "UNICODEUTF32": "utf-32",
    "GB18030": "gb18030", "GB180302000": "gb18030", "GB2312": "gb18030", "GBK": "gb18030",
    "BIG5": "big5", "CNS116431992": "euc_tw",
    "KSX1001": "euc_kr", "EUCKR": "euc_kr",
    "ISOIR14": "iso2022_jp", "ISOIR87": "iso2022_jp", "ISOIR159": "iso2022_jp_1", "ISOIR13": "iso2022_jp",
    "ISO2022JP": "iso2022_jp", "SHIFTJIS": "shift_jis", "SJIS": "shift_jis", "EUCJP": "euc_jp",
    "WINDOWS1252": "cp1252", "CP1252": "cp1252", "ANSI": "cp1252", "WINDOWS1250": "cp1250", "WINDOWS1251": "cp1251",
    "TIS620": "tis_620",
}  # fmt: skip

# Codecs in which every byte below 0x80 is the ASCII character, also inside a multi-byte character: such a message
# can be taken apart as bytes. All others are taken apart as text.
_ASCII_TRANSPARENT: Final = frozenset(
    {
        "ascii",
        "utf-8",
        "cp1252",
        "cp1250",
        "cp1251",
        "tis_620",
        "euc_kr",
        "euc_jp",
        *(f"iso8859-{part}" for part in range(1, 17)),
    }
)
_SINGLE_BYTE: Final = frozenset(
    {"ascii", "cp1252", "cp1250", "cp1251", "tis_620", *(f"iso8859-{part}" for part in range(1, 17))}
)
UTF_16_STARTS: Final = (b"M\x00S\x00H\x00", b"\x00M\x00S\x00H")
_FALLBACK: Final = "cp1252"


def codec_of(value: str) -> str | None:
    """The codec of an MSH-18 value, None when it is unknown."""
    return _CODECS.get("".join(character for character in value.upper() if character.isalnum()))


def transparent(codec: str) -> bool:
    """Whether delimiters can be looked for in the bytes."""
    return codec in _ASCII_TRANSPARENT


def _decodes(data: bytes, codec: str) -> bool:
    try:
        codecs.decode(data, codec)
    except (UnicodeError, LookupError):
        return False
    return True


def choose(data: bytes, declared: str) -> tuple[str, list[str]]:
    """(codec, what was tolerated) for a message without byte order mark and its MSH-18 (first repetition, may be "").

    Names: `charset-undeclared` (non-ASCII without MSH-18), `charset-unknown`, `charset-contradicted` (the bytes are not
    what MSH-18 says: a UTF-8 text declared as a single-byte set, or bytes that its codec can not decode).
    """
    named = codec_of(declared) if declared else None
    tolerated = ["charset-unknown"] if declared and named is None else []
    if named is not None and not transparent(named):
        if _decodes(data, named):
            return named, tolerated
        tolerated.append("charset-contradicted")
        named = None
    if data.isascii():
        return named or "ascii", tolerated
    if _decodes(data, "utf-8"):
        if named in _SINGLE_BYTE:
            tolerated.append("charset-contradicted")
        elif named is None and not tolerated:
            tolerated.append("charset-undeclared")
        return ("utf-8" if named is None or named in _SINGLE_BYTE else named), tolerated
    if named is not None and _decodes(data, named):
        return named, tolerated
    if named is not None:
        tolerated.append("charset-contradicted")
    elif not tolerated:
        tolerated.append("charset-undeclared")
    return _FALLBACK, tolerated


def decode(data: bytes, codec: str) -> str:
    """Text of a field; what can not be decoded becomes U+FFFD."""
    return data.decode(codec, "replace")


def encode(text: str, codec: str) -> bytes:
    """Bytes of a text; raises ValueError when the codec has no bytes for a character (the text is not repeated)."""
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        raise ValueError(f"a character cannot be written in {codec}") from None
