"""Acknowledgments: which are wanted, and MSH, MSA and ERR of the reply (HL7 v2.5.1 §2.9, §2.15.8 MSA, §2.15.5 ERR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from hl7v2 import charset
from hl7v2.escape import DEFAULT, Delimiters, escape
from hl7v2.message import Message
from hl7v2.parser import parse
from hl7v2.path import location_parts

_ACCEPT_CODES: Final = {"AA": "CA", "AE": "CE", "AR": "CR"}
# HL7 table 0155, accept and application acknowledgment conditions: the outcomes that are told.
_CONDITIONS_WANTED: Final = {"AL": ("AA", "AE", "AR"), "NE": (), "ER": ("AE", "AR"), "SU": ("AA",)}
_TEXT_CHARACTERS_MAX: Final = 80
"""Of MSA-3 (HL7 v2.4 §2.16.8)."""
_CHARSETS_MAX: Final = 20
"""Of MSH-18 that are repeated: more than table 0211 has for one country are none."""
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
    message: Message,
    code: str,
    findings: Sequence[Finding] = (),
    *,
    now: datetime | None = None,
    control_id: str | None = None,
) -> Message:
    """The reply to a message: swapped applications, its version, processing id and character set, our own control id.

    `now` and `control_id` are MSH-7 and MSH-10 of the reply. This library has no clock and no chance of its own:
    without `now` the reply repeats the message's own time, without `control_id` it is made of the message's bytes, so
    that the same message gets the same one.

    Whatever the message is, it can be answered. Raises ValueError for what is ours: an acknowledgment code that HL7
    table 0008 does not have, a finding's path that is none, `now` without a zone.
    """
    if code not in CODES:
        raise ValueError(f"not an acknowledgment code: {code!r}")
    marks = message.delimiters
    version = message.version or _VERSION_DEFAULT
    at = _raw(message, "MSH-7") if now is None else _instant(now)
    own = _control_id_of(message) if control_id is None else control_id
    header = _header(message, version, at, own)
    acknowledged = ["MSA", code, _raw(message, "MSH-10")]
    if findings and _number(version) < (2, 5):  # ERR has no place for words before 2.5
        acknowledged.append(_written(findings[0].expected, marks)[:_TEXT_CHARACTERS_MAX])
    segments = [header, acknowledged, *_errors(findings, version, marks)]
    text = "".join(marks.field.join(segment).rstrip(marks.field) + "\r" for segment in segments)
    return parse(text.encode(message.codec, "replace"))


class Mode(StrEnum):
    """How a sender wants to be answered (HL7 v2.5.1 §2.9.2, §2.9.3)."""

    ORIGINAL = "original"
    """One application acknowledgment: AA, AE or AR."""
    ENHANCED = "enhanced"
    """An accept acknowledgment (CA, CE, CR) and an application acknowledgment, each on a condition of its own."""


def mode_of(message: Message) -> Mode:
    """Enhanced where MSH-15 or MSH-16 says anything."""
    return Mode.ENHANCED if message["MSH-15"].strip() or message["MSH-16"].strip() else Mode.ORIGINAL


def codes_wanted(message: Message, code: str) -> tuple[str, ...]:
    """The acknowledgment codes to send, in order, for an outcome AA, AE or AR; in enhanced mode it may be none.

    Enhanced mode: MSH-15 is the condition of the accept acknowledgment, MSH-16 that of the application acknowledgment
    (table 0155: AL always, NE never, ER on errors, SU on success; empty is NE). A message that was not accepted gets no
    application acknowledgment behind CE or CR. A condition that the table does not have counts as AL: who asks in a way
    we do not know is answered. Raises ValueError for another code.
    """
    if code not in _ACCEPT_CODES:
        raise ValueError(f"not an application acknowledgment code: {code!r}")
    if mode_of(message) is Mode.ORIGINAL:
        return (code,)
    accept = _ACCEPT_CODES[code]
    wanted = [accept] if _is_wanted(message["MSH-15"], code) else []
    if not (wanted and code != "AA") and _is_wanted(message["MSH-16"], code):
        wanted.append(code)
    return tuple(wanted)


def _is_wanted(condition: str, code: str) -> bool:
    return code in _CONDITIONS_WANTED.get(condition.strip().upper() or "NE", _CONDITIONS_WANTED["AL"])


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


def _header(message: Message, version: str, at: str, control_id: str) -> list[str]:
    marks = message.delimiters
    header = ["MSH", marks.encoding_characters]
    header += [_raw(message, f"MSH-{field}") for field in (5, 6, 3, 4)]
    header += [at, "", _message_type(message, version), _written(control_id, marks)]
    header += [_raw(message, "MSH-11"), _raw(message, "MSH-12") or version]
    said = (marks.repetition or "").join(
        _raw(message, f"MSH-18[{number}]") for number in range(1, min(message.repetitions("MSH-18"), _CHARSETS_MAX) + 1)
    )
    codec = charset.declared(said.encode(), marks.marks[2]).codec
    if codec is not None and message.codec.startswith(codec):  # else the reply's header would be wrong as well
        header += ["", "", "", "", "", said]
    return header


def _message_type(message: Message, version: str) -> str:
    """`ACK^A01^ACK` from 2.3.1 on, `ACK^A01` in 2.2 and 2.3, else (or without an event or a delimiter) `ACK`."""
    event, mark = _raw(message, "MSH-9.2"), message.delimiters.component
    number = _number(version)
    if not event or not mark or number < (2, 2):
        return "ACK"
    return f"ACK{mark}{event}" if number < (2, 3, 1) else f"ACK{mark}{event}{mark}ACK"


def _number(version: str) -> tuple[int, ...]:
    """`2.5.1` as (2, 5, 1); what is no version counts as the default."""
    parts = version.strip().split(".")
    if not all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts):
        return _number(_VERSION_DEFAULT)
    return tuple(map(int, parts))


def _control_id_of(message: Message) -> str:
    """A control id for the reply (20 characters, as much as v2.3 allows), made of the message."""
    from hashlib import sha256

    return f"A{sha256(bytes(message)).hexdigest()[:19].upper()}"


def _errors(findings: Sequence[Finding], version: str, marks: Delimiters) -> list[list[str]]:
    if _number(version) >= (2, 5):
        return [_error_segment(finding, marks) for finding in findings]
    coded = _number(version) >= (2, 3)
    located = [_error_location(finding, marks, coded) for finding in findings]
    return [["ERR", (marks.repetition or " ").join(located)]] if located else []


def _error_segment(finding: Finding, marks: Delimiters) -> list[str]:
    """ERR of v2.5 and later: ERR-2 location (ERL), ERR-3 code (CWE), ERR-4 severity, ERR-8 what to do."""
    location = _joined(location_parts(finding.path) if finding.path else [""], marks.component)
    condition = _joined(_condition(finding), marks.component)
    severity = _SEVERITIES.get(finding.severity, "E")
    return ["ERR", "", location, condition, severity, "", "", "", _written(finding.expected, marks)]


def _error_location(finding: Finding, marks: Delimiters, coded: bool) -> str:
    """One repetition of ERR-1 before v2.5 (ELD): segment, sequence, field, code, which was a CE since v2.3."""
    parts = [*(location_parts(finding.path) if finding.path else []), "", "", ""][:3]
    condition = _joined(_condition(finding), marks.subcomponent) if coded else finding.code
    return _joined([*parts, condition], marks.component)


def _condition(finding: Finding) -> list[str]:
    return [finding.code, _CONDITIONS.get(finding.code, "Error"), "HL70357"]


def _joined(parts: list[str], mark: str) -> str:
    """Parts behind each other; the first alone where the sender declares no delimiter for them."""
    return mark.join(parts) if mark else parts[0]


def _raw(message: Message, path: str) -> str:
    """A field as the sender writes it; a line feed in it would end the segment of the reply, and is escaped."""
    raw = message.field(path).raw
    if raw.isprintable():
        return raw
    mark = message.delimiters.escape
    return "".join(one if ord(one) >= 0x20 else f"{mark}X{ord(one):02X}{mark}" if mark else " " for one in raw)


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
