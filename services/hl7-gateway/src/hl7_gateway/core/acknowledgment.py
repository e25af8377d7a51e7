"""Which acknowledgements a message is given: rows of outcome and mode (HL7 v2.5.1, chapter 2, §2.9.2 and §2.9.3).

Original mode (MSH-15 and MSH-16 both empty): always one of AA, AE, AR. Enhanced mode: MSH-15 asks for the accept
acknowledgement (CA, CE, CR), MSH-16 for the application acknowledgement, each under a condition of HL7 table 0155; an
empty condition counts as NE. Our acceptance is the durable store, so both follow from the same outcome and leave
together. A refused acceptance is the last word: no application acknowledgement follows it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"
    """Stored durably, or recognised as stored before."""
    FAILED = "failed"
    """Not stored, for a reason of ours: the sender sends it again."""
    REJECTED = "rejected"
    """Not taken: sending it again changes nothing."""


APPLICATION_CODES: Final = {Outcome.ACCEPTED: "AA", Outcome.FAILED: "AE", Outcome.REJECTED: "AR"}
ACCEPT_CODES: Final = {Outcome.ACCEPTED: "CA", Outcome.FAILED: "CE", Outcome.REJECTED: "CR"}

ALWAYS, NEVER, ON_ERROR, ON_SUCCESS = "AL", "NE", "ER", "SU"

# HL7 table 0155: condition → the outcomes that are acknowledged.
WANTED: Final[dict[str, frozenset[Outcome]]] = {
    ALWAYS: frozenset(Outcome),
    NEVER: frozenset(),
    ON_ERROR: frozenset({Outcome.FAILED, Outcome.REJECTED}),
    ON_SUCCESS: frozenset({Outcome.ACCEPTED}),
}


def acknowledgment_codes(outcome: Outcome, accept_condition: str, application_condition: str) -> tuple[str, ...]:
    """The codes (MSA-1) to send, in order, from MSH-15 and MSH-16 as they stand; may be empty in enhanced mode.

    A condition that the table does not hold counts as AL: a sender that asks in a way we do not know is answered.
    """
    if not accept_condition and not application_condition:
        return (APPLICATION_CODES[outcome],)
    codes = []
    if _wanted(accept_condition, outcome):
        codes.append(ACCEPT_CODES[outcome])
        if outcome is not Outcome.ACCEPTED:
            return tuple(codes)
    if _wanted(application_condition, outcome):
        codes.append(APPLICATION_CODES[outcome])
    return tuple(codes)


def _wanted(condition: str, outcome: Outcome) -> bool:
    return outcome in WANTED.get(condition.upper() or NEVER, WANTED[ALWAYS])
