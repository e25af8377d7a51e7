"""What to do about a finding: one row per HL7 error code, and what the gateway sees besides the standard's rules.

A validator that only says what is wrong leaves a practice with a sentence for its vendor; these rows say who has to do
what. They never repeat a value.
"""

from __future__ import annotations

from typing import Final

import hl7v2
from hl7_gateway.core.message_types import unsupported
from hl7v2 import charset_report

REMEDIES: Final[dict[str, str]] = {
    "100": "Ask the sender for the segments of the structure in their order; if it always sends it so, let a site "
    "profile say so (structures: optional, repeating, anywhere).",
    "101": "Have the sender fill the field from its master data; if it never can, a site profile may say "
    "required: false.",
    "102": "Have the sender write the value in the field's data type (dates as YYYYMMDD, delimiters escaped); a site "
    "profile may raise repetitions or ignore the rule.",
    "103": "Map the code in the sender to one of the table, or name the local code in a site profile (also: [...]).",
    "104": "Shorten the value in the sender, or agree on a longer one and say so in a site profile (length).",
    "200": "Switch the message type off in the sender's interface, or correct MSH-9.",
    "201": "Switch the trigger event off in the sender's interface, or correct MSH-9.2.",
    "203": "Let the sender name a version of HL7 in MSH-12, or set version in a site profile.",
    "207": "Read the other findings first; correct those and validate again.",
}
ENCODING_REMEDY: Final = (
    "Let the sender write what MSH-18 says (best: UNICODE UTF-8), or leave MSH-18 empty and set the "
    "connection's encoding to what it writes."
)
_REFERENCE: Final = "HL7 v2.5.1 §2.15.9.18 MSH-18"
_NOTES: Final = {
    "charset-undeclared": ("warning", "MSH-18 naming the character set", "characters beyond ASCII, MSH-18 empty"),
    "charset-unknown": ("warning", "a value of HL7 table 0211 in MSH-18", "a name that is no character set"),
    "charset-contradicted": ("warning", "the character set that MSH-18 declares", "bytes of another one"),
}
_BROKEN: Final = {
    charset_report.REPLACEMENT_CHARACTER: "replacement characters (U+FFFD): text was lost before it came",
    charset_report.ENCODED_TWICE: "UTF-8 that was encoded twice before it came",
}


def remedy(finding: hl7v2.Finding) -> str:
    """What to do about a finding."""
    if finding.path == "MSH-18" or finding.reference == _REFERENCE:
        return ENCODING_REMEDY
    if finding.reference == "MLLP":
        return "Set the sender's framing to MLLP: 0x0B before and 0x1C 0x0D behind each message; see TCP interruptions."
    return REMEDIES.get(finding.code, REMEDIES["207"])


def observed(message: hl7v2.Message) -> list[hl7v2.Finding]:
    """What the standard's rules do not tell: character sets, identifiers nobody can match by, types not taken here."""
    return [*_encoding(message), *_identifiers(message), *_type(message)]


def _encoding(message: hl7v2.Message) -> list[hl7v2.Finding]:
    report = message.charset_report()
    found = []
    if report.note in _NOTES:
        severity, expected, what = _NOTES[report.note]
        found.append(hl7v2.Finding("MSH-18", "102", severity, expected, f"{what} (read as {report.codec})", _REFERENCE))
    for one in report.evidence:
        if one.kind in _BROKEN:
            what = f"{_BROKEN[one.kind]}; {one.times} times, first at byte {one.offset}"
            found.append(hl7v2.Finding("MSH-18", "102", "warning", "text as it was entered", what, _REFERENCE))
    return found


def _identifiers(message: hl7v2.Message) -> list[hl7v2.Finding]:
    """PID-3 is matched by assigning authority and number; without the authority two systems' numbers mix."""
    found = []
    if not message.segments("PID"):
        return []
    for number in range(1, message.repetitions("PID-3") + 1):
        place = "PID-3" if number == 1 else f"PID-3[{number}]"
        if message[f"{place}.1"] and not message[f"{place}.4"]:
            expected = "an assigning authority, which patients are matched by"
            found.append(hl7v2.Finding(f"{place}.4", "101", "warning", expected, "empty", "HL7 v2.5.1 §2.A.14.4 CX.4"))
    return found


def _type(message: hl7v2.Message) -> list[hl7v2.Finding]:
    message_type, trigger_event, _ = message.type
    why = unsupported(message_type, trigger_event)
    if why is None:
        return []
    expected = f"a type that this gateway takes: {why.expected}"
    return [hl7v2.Finding(why.path, why.code, "warning", expected, "another", "GET /hl7/v1/connections")]


UNREADABLE: Final[dict[str, tuple[str, str, str]]] = {
    "empty": ("", "a message", "Let the sender send a message; an empty frame is often a keep-alive of another kind."),
    "no-msh": ("MSH", "the three letters MSH at the beginning", "Send the message from its MSH segment on."),
    "short-msh": ("MSH-1", "MSH, its field separator and MSH-2", "Ask the sender for its whole header segment."),
    "bad-delimiters": (
        "MSH-2",
        "four or five different punctuation marks, usually ^~\\& (MSH-2), after the field separator (MSH-1)",
        "Set the sender's encoding characters to |^~\\&; a converter on the way may have eaten the backslash.",
    ),
}


def unreadable(body: bytes, code: str) -> tuple[hl7v2.Finding, str]:
    """Why bytes are no message, and what to do."""
    path, expected, step = UNREADABLE.get(code, UNREADABLE["no-msh"])
    found, better = _looks_like(body) if code == "no-msh" else ("something else", None)
    return hl7v2.Finding(path, "100", "error", expected, found, "HL7 v2.5.1 §2.15.9 MSH"), better or step


def _looks_like(body: bytes) -> tuple[str, str | None]:
    start = body[:64].lstrip()
    if start[:1] == b"<":
        return "XML", "Set the sender to the pipe-delimited encoding (ER7), not HL7 v2 XML."
    if start[:1] in {b"{", b"["}:
        return "JSON", "Send the message itself, or a list in base64 as application/json."
    if start.startswith((b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ")):
        return "an HTTP request", "An HTTP client uses the MLLP port: give it the address of an HTTP interface."
    if start[:1] == b"\x16":
        return "a TLS handshake", "The sender speaks TLS: set the connection's tls.mode to tls or mutual."
    if start[:3].upper() == b"MSH":
        return "MSH in other letters or with something before it", "Send the segment names in capital letters."
    if b"MSH" in body:
        return "something before MSH", "Let the sender begin with MSH: a file header or a comment stands before it."
    return "bytes without MSH", None
