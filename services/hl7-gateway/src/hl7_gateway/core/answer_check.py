"""What is to be said of an acknowledgement: rows of what it must have, what it should, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import hl7v2

_CODES: Final = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


@dataclass(frozen=True, slots=True)
class AnswerFinding:
    """One thing about an acknowledgement; `severity` error means that it cannot be credited."""

    path: str
    severity: Literal["error", "warning", "info"]
    expected: str
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """The finding as the API shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Row:
    finding: AnswerFinding
    holds: Callable[[hl7v2.Message, hl7v2.Message], bool]


def _row(
    path: str,
    severity: Literal["error", "warning", "info"],
    expected: str,
    next_step: str,
    holds: Callable[[hl7v2.Message, hl7v2.Message], bool],
) -> _Row:
    return _Row(AnswerFinding(path, severity, expected, next_step), holds)


_VENDOR: Final = "Ask the receiver's vendor to correct its acknowledgements."
_CHECKS: Final = (
    _row("MSA-1", "error", "a code of HL7 table 0008", _VENDOR, lambda _, answer: answer["MSA-1"] in _CODES),
    _row(
        "MSA-2", "error", "the control id (MSH-10) of the message, as it was sent",
        "Ask the receiver's vendor to repeat MSH-10 in MSA-2: without it no acknowledgement can be credited.",
        lambda sent, answer: answer["MSA-2"] == sent.control_id,
    ),
    _row("MSH-9", "warning", "ACK in its first component", _VENDOR, lambda _, answer: answer["MSH-9.1"] == "ACK"),
    _row("MSH-10", "warning", "a control id of its own", _VENDOR, lambda _, answer: bool(answer.control_id)),
    _row(
        "MSH-3", "warning", "the receiving application of the message (MSH-5)",
        "Set the receiving application that the receiver calls itself, or leave it: it is credited nevertheless.",
        lambda sent, answer: not sent["MSH-5"] or answer["MSH-3"] == sent["MSH-5"],
    ),
    _row("MSH-5", "warning", "the sending application of the message (MSH-3)", _VENDOR,
         lambda sent, answer: answer["MSH-5"] == sent["MSH-3"]),
    _row("MSH-12", "info", "the version of the message", "Nothing, unless the receiver reads another version.",
         lambda sent, answer: answer.version == sent.version),
    _row("MSA-1", "warning", "AA or CA",
         "The receiver reads us, but does not take this message type: see its log; send what it is configured for.",
         lambda _, answer: answer["MSA-1"] not in {"AE", "AR", "CE", "CR"}),
)  # fmt: skip


def check_answer(sent: hl7v2.Message, answer: bytes) -> list[AnswerFinding]:
    """What is wrong with the answer to a message, errors first."""
    try:
        message = hl7v2.parse(answer)
    except hl7v2.ParseError:
        step = "Check that host and port lead to an MLLP receiver: what answers is no HL7 v2."
        return [AnswerFinding("", "error", "an HL7 v2 message that begins with MSH", step)]
    return [row.finding for row in _CHECKS if not row.holds(sent, message)]
