"""CNS 11643 (HL7 table 0211: CNS 11643-1992) in the form of EUC-TW, which Python has no codec for.

Planes 1 and 2 hold the characters of Big5, nearly in its order: the rows below say which runs of them lie where. The
13,467 characters are those that the GNU C library's EUC-TW gives. Planes from 3 on (rare characters) can not be read.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

NAME: Final = "euc_tw"
# Where a run begins in the plane (94 × row + column), how long it is, where it begins in Big5 (157 × row + column).
_PLANE_1: Final = """
    0:5:0 6:15:6 21:2:23 24:1:22 29:44:29 73:1:74 74:1:73 75:22:75 98:1:98 100:27:100 127:1:128 128:1:127
    129:19:129 148:1:149 149:1:148 150:4:150 155:1:21 156:2:158 158:76:158 282:29:234 312:1:264 314:142:266
    470:20:6101 3290:1412:471 4702:424:1884 5126:1:1883 5127:1876:2308 7003:1:4571 7004:387:4184 7391:525:4572
    7916:1:5286 7917:105:5097 8023:83:5203 8106:84:5287 8190:1:5517 8191:54:5371 8245:1:5426 8246:1:5425
    8247:90:5427 8337:354:5518
"""
_PLANE_2: Final = """
    0:10:6280 10:33:6291 43:1:6372 44:48:6324 92:46:6373 138:1:6586 139:167:6419 306:1840:6587 2146:1:9074
    2147:108:8428 2255:537:8537 2792:1:8427 2793:100:9075 2893:1:8536 2894:399:9175 3293:1637:9575 4930:1:11761
    4931:146:11212 5077:1:11899 5078:287:11358 5365:1:12508 5366:116:11645 5482:137:11762 5619:104:11900
    5723:1:12425 5724:222:12004 5946:198:12227 6144:82:12426 6226:86:12509 6312:1:12226 6313:8:12595 6321:153:12604
    6474:56:12758 6530:1:13114 6531:113:12814 6644:1:12603 6645:142:12927 6787:1:12757 6788:45:13069 6833:71:13115
    6904:1:13380 6905:194:13186 7099:490:13381 7589:1:13914 7590:43:13871 7633:1:13915 7634:11:13917 7645:1:13916
    7646:4:13928
"""
# Signs that the standard's Big5 has in the same form, and Windows' in another.
_NARROW: Final = frozenset({b"\xa2\xa3", b"\xa2\xc4", b"\xa2\xd3", b"\xa2\xd4", b"\xa2\xdf", b"\xa2\xe0"})
_PLANE_MARK: Final = 0x8E
_ROW: Final = 94
_BIG5_ROW: Final = 157


@lru_cache(maxsize=1)
def _characters() -> dict[bytes, str]:
    """EUC-TW's two bytes (plane 1) or four (plane 2) → character."""
    found: dict[bytes, str] = {}
    for prefix, rows in ((b"", _PLANE_1), (b"\x8e\xa2", _PLANE_2)):
        for run in rows.split():
            start, length, big5 = map(int, run.split(":"))
            for index in range(length):
                row, column = divmod(start + index, _ROW)
                raw = prefix + bytes((0xA1 + row, 0xA1 + column))
                found[raw] = _of_big5(big5 + index, "big5" if raw in _NARROW else "cp950")
    return found


def _of_big5(place: int, codec: str) -> str:
    row, column = divmod(place, _BIG5_ROW)
    raw = bytes((0xA1 + row, 0x40 + column if column < 63 else 0xA1 + column - 63))
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return raw.decode("big5")


@lru_cache(maxsize=1)
def _bytes() -> dict[str, bytes]:
    return {character: raw for raw, character in _characters().items()}


def decode(data: Buffer, errors: str = "strict") -> tuple[str, int]:
    """Text of bytes, and how many were read; what can not be is for the error handler."""
    data = bytes(data)
    known = _characters()
    parts: list[str] = []
    position = 0
    while position < len(data):
        byte = data[position]
        if byte < 0x80:
            parts.append(chr(byte))
            position += 1
            continue
        size = 4 if byte == _PLANE_MARK else 2
        raw = data[position : position + size]
        character = known.get(raw[2:] if raw[:2] == b"\x8e\xa1" else raw)
        if character is None:
            wrong = UnicodeDecodeError(NAME, data, position, position + 1, "no character of planes 1 and 2")
            replacement, position = codecs.lookup_error(errors)(wrong)
            parts.append(str(replacement))
            continue
        parts.append(character)
        position += size
    return "".join(parts), len(data)


def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    """Bytes of a text, and how many characters were written."""
    known = _bytes()
    parts: list[bytes] = []
    position = 0
    while position < len(text):
        character = text[position]
        raw = character.encode() if character < "\x80" else known.get(character)
        if raw is None:
            wrong = UnicodeEncodeError(NAME, text, position, position + 1, "no character of planes 1 and 2")
            replacement, position = codecs.lookup_error(errors)(wrong)
            raw = replacement if isinstance(replacement, bytes) else encode(replacement)[0]
        else:
            position += 1
        parts.append(raw)
    return b"".join(parts), len(text)


def register() -> None:
    """Make the codec known to Python, as `euc_tw`."""
    codecs.register(lambda name: codecs.CodecInfo(encode, decode, name=NAME) if name == NAME else None)
