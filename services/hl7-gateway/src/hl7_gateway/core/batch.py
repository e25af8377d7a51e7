"""Taking a batch apart: every message begins with MSH; FHS, BHS, BTS and FTS around them are the batch's own.

HL7 v2.5.1, chapter 2, §2.10.3. The bytes of each message stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

from hl7v2 import charset

_BATCH_SEGMENTS: Final = frozenset({b"FHS", b"BHS", b"BTS", b"FTS"})
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
_UTF_8_MARK: Final = b"\xef\xbb\xbf"
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def messages_of(data: bytes) -> list[bytes]:
    """The messages of a batch file, or the one message that it is; what stands before the first MSH is one, too.

    A file in UTF-16 is taken as one message: its segments cannot be told apart as bytes.
    """
    if data.startswith((*_UTF_16_MARKS, *charset.WIDE_STARTS)):
        return [data]
    found: list[bytearray] = []
    blank, batch = b"", False
    for line in _LINE.findall(data):
        name = line.removeprefix(_UTF_8_MARK)[:3]
        batch = batch or name in _BATCH_SEGMENTS
        if not line.strip(b"\r\n"):
            blank += line  # within a message it stays, between two it belongs to neither
        elif name == b"MSH" or (not found and name not in _BATCH_SEGMENTS):
            found.append(bytearray(line))
            blank = b""
        elif name not in _BATCH_SEGMENTS:
            found[-1] += blank + line
            blank = b""
    return [data] if len(found) == 1 and not batch else [bytes(message) for message in found]
