"""What a sent message is answered with, and what an answer means (HL7 v2.5.1, chapter 2, §2.9.2, §2.9.3, table 0155).

Original mode (MSH-15 and MSH-16 both empty): one application acknowledgement. Enhanced mode: an accept acknowledgement
when MSH-15 asks for one, then an application acknowledgement when MSH-16 does. Where only errors are to be answered,
silence is consent. What receivers in the field do beside that is understood: CA in original mode accepts the message,
and an application acknowledgement that comes first stands for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import hl7v2
from hl7_gateway.core.acknowledgment import ALWAYS, NEVER, ON_ERROR, WANTED

_WAITED_FOR: Final = frozenset(WANTED) - {NEVER, ON_ERROR}
_CODES: Final = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


class Stage(StrEnum):
    """Which answer is waited for."""

    ACCEPT = "accept"
    APPLICATION = "application"
    OBJECTION = "objection"
    """Only an error would be answered."""
    NOTHING = "nothing"


class Meaning(StrEnum):
    """What an answer says of its message."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    """The receiver has it; its application answers later."""
    ERROR = "error"
    REJECTED = "rejected"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Expectation:
    """The first answer that is waited for, and whether an application acknowledgement follows an accept one."""

    first: Stage
    then_application: bool
    original: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """MSA-1 and MSA-2 of an answer."""

    code: str
    control_id: str


def expectation(message: hl7v2.Message) -> Expectation:
    """What MSH-15 and MSH-16 of a message ask for; a condition that table 0155 does not hold counts as AL."""
    accept, application = message["MSH-15"].upper(), message["MSH-16"].upper()
    if not accept and not application:
        return Expectation(Stage.APPLICATION, False, True)
    accept, application = _known(accept), _known(application)
    if accept in _WAITED_FOR:
        return Expectation(Stage.ACCEPT, application in _WAITED_FOR, False)
    if application in _WAITED_FOR:
        return Expectation(Stage.APPLICATION, False, False)
    silent = Stage.OBJECTION if ON_ERROR in {accept, application} else Stage.NOTHING
    return Expectation(silent, False, False)


def read_answer(body: bytes) -> Answer | None:
    """None when the bytes are no acknowledgement of HL7 table 0008."""
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError:
        return None
    code = message["MSA-1"]
    return Answer(code, message["MSA-2"]) if code in _CODES else None


def meaning(expected: Expectation, stage: Stage, code: str) -> Meaning:
    """What a code of HL7 table 0008 says of a message whose `stage` answer is waited for."""
    if code in {"AE", "CE"}:
        return Meaning.ERROR
    if code in {"AR", "CR"}:
        return Meaning.REJECTED
    if code == "AA":
        return Meaning.DELIVERED
    if stage is Stage.ACCEPT:
        return Meaning.ACCEPTED if expected.then_application else Meaning.DELIVERED
    if expected.original or stage is Stage.OBJECTION:
        return Meaning.DELIVERED
    return Meaning.IGNORED


def _known(condition: str) -> str:
    return (condition if condition in WANTED else ALWAYS) if condition else NEVER
