"""Acknowledgments: MSH, MSA and ERR of the reply (HL7 v2.5.1 §2.9, §2.15.1 MSA, §2.15.5 ERR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hl7v2 import charset
from hl7v2.escape import DEFAULT, Delimiters, escape
from hl7v2.message import Message
from hl7v2.parser import parse
from hl7v2.path import location_parts

CODES: Final = ("AA", "AE", "AR", "CA", "CE", "CR")
_VERSION_DEFAULT: Final = "2.5.1"
_SEVERITIES: Final = {"error": "E", "warning": "W", "info": "I"}
# HL7 table 0357, message error condition codes.
_CONDITIONS: Final[dict[str, str]] = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "104": "Value too long",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a message: where, an HL7 table 0357 code, what was expected.

    `path` is a path into the message, a segment (`PV1`, `OBX[2]`), or "" for the whole.
    `found` names a value's class, never the value; `severity` is error, warning or info.
    """

    path: str
    code: str
    severity: str
    expected: str
    found: str
    reference: str


def acknowledge(
    message: Message, code: str, findings: Sequence[Finding] = (), *, now: datetime, control_id: str
) -> Message:
    """The reply to a message: swapped applications, its version, processing id and character set, our own control id.

    Whatever the message is, it can be answered. Raises ValueError for what is ours: an acknowledgment code that HL7
    table 0008 does not have, a finding's path that is none, `now` without a zone.
    """
    if code not in CODES:
        raise ValueError(f"not an acknowledgment code: {code!r}")
    marks = message.delimiters
    version = message.version or _VERSION_DEFAULT
    header = _header(message, version, now, control_id)
    segments = [header, ["MSA", code, _raw(message, "MSH-10")], *_errors(findings, version, marks)]
    text = "".join(marks.field.join(segment).rstrip(marks.field) + "\r" for segment in segments)
    return parse(text.encode(message.codec, "replace"))


def reject_unparsable(*, now: datetime, control_id: str, text: str, code: str = "AR") -> Message:
    """The reply to bytes without a usable MSH: default delimiters, no receiver (nobody is known), one ERR.

    MSA-2 is required and there is no control id to repeat: it says `UNKNOWN`.
    """
    finding = Finding("", "100", "error", text, "", "")
    header = [
        "MSH",
        DEFAULT.encoding_characters,
        "",
        "",
        "",
        "",
        _instant(now),
        "",
        "ACK",
        control_id,
        "P",
        _VERSION_DEFAULT,
    ]
    segments = [header, ["MSA", code, "UNKNOWN"], *_errors([finding], _VERSION_DEFAULT, DEFAULT)]
    return parse("".join("|".join(segment).rstrip("|") + "\r" for segment in segments).encode())


def _header(message: Message, version: str, now: datetime, control_id: str) -> list[str]:
    marks = message.delimiters
    header = ["MSH", marks.encoding_characters]
    header += [_raw(message, f"MSH-{field}") for field in (5, 6, 3, 4)]
    header += [_instant(now), "", _message_type(message, version), _written(control_id, marks)]
    header += [_raw(message, "MSH-11"), _raw(message, "MSH-12") or version]
    said = (marks.repetition or "").join(
        _raw(message, f"MSH-18[{number}]") for number in range(1, message.repetitions("MSH-18") + 1)
    )
    codec = charset.declared(said.encode(), marks.marks[2]).codec
    if codec is not None and message.codec.startswith(codec):  # else the reply's header would be wrong as well
        header += ["", "", "", "", "", said]
    return header


def _message_type(message: Message, version: str) -> str:
    """`ACK^A01^ACK` from 2.3.1 on, `ACK^A01` in 2.2 and 2.3, else (or without an event or a delimiter) `ACK`."""
    event, mark = _raw(message, "MSH-9.2"), message.delimiters.component
    if not event or not mark or version.startswith("2.1"):
        return "ACK"
    return f"ACK{mark}{event}" if version in {"2.2", "2.3"} else f"ACK{mark}{event}{mark}ACK"


def _errors(findings: Sequence[Finding], version: str, marks: Delimiters) -> list[list[str]]:
    if version >= "2.5":
        return [_error_segment(finding, marks) for finding in findings]
    located = [_error_location(finding, marks) for finding in findings]
    return [["ERR", (marks.repetition or " ").join(located)]] if located else []


def _error_segment(finding: Finding, marks: Delimiters) -> list[str]:
    """ERR of v2.5 and later: ERR-2 location (ERL), ERR-3 code (CWE), ERR-4 severity, ERR-8 what to do."""
    location = _joined(location_parts(finding.path) if finding.path else [""], marks.component)
    condition = _joined(_condition(finding), marks.component)
    severity = _SEVERITIES.get(finding.severity, "E")
    return ["ERR", "", location, condition, severity, "", "", "", _written(finding.expected, marks)]


def _error_location(finding: Finding, marks: Delimiters) -> str:
    """One repetition of ERR-1 before v2.5: segment, sequence, field, code (ELD)."""
    parts = [*(location_parts(finding.path) if finding.path else []), "", "", ""][:3]
    return _joined([*parts, _joined(_condition(finding), marks.subcomponent)], marks.component)


def _condition(finding: Finding) -> list[str]:
    return [finding.code, _CONDITIONS.get(finding.code, "Error"), "HL70357"]


def _joined(parts: list[str], mark: str) -> str:
    """Parts behind each other; the first alone where the sender declares no delimiter for them."""
    return mark.join(parts) if mark else parts[0]


def _raw(message: Message, path: str) -> str:
    return message.field(path).raw


def _written(text: str, marks: Delimiters) -> str:
    """Text of ours in the sender's encoding; where that has no escape character, what would need one is a space."""
    if marks.escape:
        return escape(text, marks)
    apart = f"{marks.field}{marks.encoding_characters}"
    return "".join(" " if character in apart or ord(character) < 0x20 else character for character in text)


def _instant(now: datetime) -> str:
    if now.tzinfo is None:
        raise ValueError("an instant needs a zone")
    return now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
