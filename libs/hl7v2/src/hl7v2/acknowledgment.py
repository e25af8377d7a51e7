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
from hl7v2.path import parse_path

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
    """Something about a message: where (a path, "" for the whole), an HL7 table 0357 code, what was expected.

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

    Raises ValueError for an acknowledgment code that HL7 table 0008 does not have.
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
    header += [_instant(now), "", _message_type(message, version), escape(control_id, marks)]
    header += [_raw(message, "MSH-11"), _raw(message, "MSH-12") or version]
    declared = _raw(message, "MSH-18")
    if declared and charset.codec_of(declared.split(marks.repetition or "\0", 1)[0]) is not None:
        header += ["", "", "", "", "", declared]
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
    condition = marks.component.join((finding.code, _CONDITIONS.get(finding.code, "Error"), "HL70357"))
    severity = _SEVERITIES.get(finding.severity, "E")
    return ["ERR", "", _location(finding.path, marks), condition, severity, "", "", "", escape(finding.expected, marks)]


def _error_location(finding: Finding, marks: Delimiters) -> str:
    """One repetition of ERR-1 before v2.5: segment, sequence, field, code (ELD)."""
    place = parse_path(finding.path) if finding.path else None
    parts = [place.segment, str(place.occurrence), str(place.field)] if place else ["", "", ""]
    coded = marks.subcomponent.join((finding.code, _CONDITIONS.get(finding.code, "Error"), "HL70357"))
    return marks.component.join((*parts, coded))


def _location(path: str, marks: Delimiters) -> str:
    if not path:
        return ""
    place = parse_path(path)
    parts = [place.segment, str(place.occurrence), str(place.field), str(place.repetition)]
    parts += [str(part) for part in (place.component, place.subcomponent) if part is not None]
    return marks.component.join(parts)


def _raw(message: Message, path: str) -> str:
    return message.field(path).raw


def _instant(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
