"""Why a message gets a negative acknowledgement: one row per cause, in the words of the standard and in ours.

`hl7_code` is of HL7 table 0357 (message error condition codes); the code of the catalogue says what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import hl7v2
from common.models.errors import ERRORS
from hl7_gateway.core.acknowledgment import Outcome
from hl7_gateway.core.message_types import unsupported

TABLE_VALUE_NOT_FOUND: Final = "103"
APPLICATION_INTERNAL_ERROR: Final = "207"
_REFERENCE: Final = "HL7 v2.5.1 §2.9.2.2"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A cause: our error code, the outcome it means, and how the ERR segment says it."""

    code: str
    outcome: Outcome
    hl7_code: str
    path: str = ""
    expected: str = ""

    def finding(self) -> hl7v2.Finding:
        """For the ERR segment. Nothing that the message said is repeated."""
        expected = self.expected or ERRORS[self.code].next_step
        return hl7v2.Finding(
            path=self.path,
            code=self.hl7_code,
            severity="error",
            expected=expected,
            found="",
            reference=_REFERENCE,
        )


REJECTIONS: Final[dict[str, Rejection]] = {
    row.code: row
    for row in (
        Rejection("hl7.sender-unknown", Outcome.REJECTED, TABLE_VALUE_NOT_FOUND, "MSH-3"),
        Rejection("hl7.sender-ambiguous", Outcome.REJECTED, TABLE_VALUE_NOT_FOUND, "MSH-3"),
        Rejection("hl7.type-unsupported", Outcome.REJECTED, "200", "MSH-9"),
        # What the message says is at fault, and the ERR segments name it: an application error (HL7 v2.5.1 §2.9.2.2).
        Rejection("hl7.invalid", Outcome.FAILED, "207"),
        Rejection("hl7.peer-not-allowed", Outcome.REJECTED, TABLE_VALUE_NOT_FOUND, "MSH-3"),
        Rejection("hl7.batch-incomplete", Outcome.FAILED, APPLICATION_INTERNAL_ERROR),
        Rejection("hl7.batch-too-large", Outcome.REJECTED, APPLICATION_INTERNAL_ERROR),
        Rejection("hl7.store-failed", Outcome.FAILED, APPLICATION_INTERNAL_ERROR),
        Rejection("service.not-ready", Outcome.FAILED, APPLICATION_INTERNAL_ERROR),
        Rejection("keys.unavailable", Outcome.FAILED, APPLICATION_INTERNAL_ERROR),
    )
}
STORE_FAILED: Final = REJECTIONS["hl7.store-failed"]
NOT_READY: Final = REJECTIONS["service.not-ready"]
BATCH_INCOMPLETE: Final = REJECTIONS["hl7.batch-incomplete"]
INVALID: Final = REJECTIONS["hl7.invalid"]
PEER_NOT_ALLOWED: Final = REJECTIONS["hl7.peer-not-allowed"]
KEYS_UNAVAILABLE: Final = REJECTIONS["keys.unavailable"]


def type_rejection(message_type: str, trigger_event: str) -> Rejection | None:
    """None when the type is taken, else which field says what is not, and what would be."""
    why = unsupported(message_type, trigger_event)
    if why is None:
        return None
    row = REJECTIONS["hl7.type-unsupported"]
    return replace(row, hl7_code=why.code, path=why.path, expected=f"{why.expected}. {ERRORS[row.code].next_step}")
