"""What a message's bytes say against MSH-18, as findings: one row per kind of evidence (`hl7v2.charset_report`).

Warnings, not errors: what the bytes say is read as far as it can be, and a sender that names the wrong set is no reason
to lose its messages.
"""

from __future__ import annotations

from typing import Final

import hl7v2
from hl7v2.charset_report import (
    ENCODED_TWICE,
    NOT_DECODABLE,
    REPLACEMENT_CHARACTER,
    UTF_8_SEQUENCES,
    WINDOWS_CHARACTERS,
)

_DATA_TYPE_ERROR: Final = "102"
_REFERENCE: Final = "HL7 v2.5.1 §2.15.9.18"
_EXPECTED: Final = {
    NOT_DECODABLE: "bytes of the character set that MSH-18 names",
    UTF_8_SEQUENCES: "MSH-18 to say UNICODE UTF-8, which the bytes are",
    WINDOWS_CHARACTERS: "no characters of Windows' own sets, which the set of MSH-18 does not have",
    REPLACEMENT_CHARACTER: "no U+FFFD: the sender could not read these characters itself",
    ENCODED_TWICE: "characters that were encoded once",
}


def charset_findings(message: hl7v2.Message) -> list[hl7v2.Finding]:
    """One finding per kind of evidence; how often and from which byte on, never the characters."""
    if bytes(message).isascii():
        return []
    return [
        hl7v2.Finding(
            path="MSH-18",
            code=_DATA_TYPE_ERROR,
            severity="warning",
            expected=_EXPECTED[one.kind],
            found=f"{one.kind}: {one.times}, the first at byte {one.offset}",
            reference=_REFERENCE,
        )
        for one in message.charset_report().evidence
    ]
