"""The bytes that answer a message: acknowledgements composed, encoded, in the order they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import hl7v2
from hl7_gateway.core.acknowledgment import Outcome, acknowledgment_codes
from hl7_gateway.core.message import Header, acknowledgment_id
from hl7_gateway.core.rejection import Rejection
from hl7v2 import mllp


@dataclass(frozen=True, slots=True)
class Answer:
    """Frames ready to be written (empty when the sender wants none), and MSA-1 of each."""

    frames: bytes
    codes: tuple[str, ...]


def answer(
    message: hl7v2.Message,
    header: Header,
    outcome: Outcome,
    why: Rejection | None,
    *,
    message_id: str,
    now: datetime,
    findings: Sequence[hl7v2.Finding] = (),
) -> Answer:
    """The acknowledgements of a message; the same arguments give the same bytes. `findings` say more than `why`."""
    codes = acknowledgment_codes(outcome, header.accept_condition, header.application_condition)
    if why is not None and not findings:
        findings = (why.finding(),)
    frames = [
        mllp.encode(bytes(hl7v2.acknowledge(message, code, findings, now=now, control_id=control_id)))
        for code, control_id in zip(codes, _control_ids(message_id, codes), strict=True)
    ]
    return Answer(frames[0] if len(frames) == 1 else b"".join(frames), codes)


def _control_ids(message_id: str, codes: Sequence[str]) -> tuple[str, ...]:
    first = acknowledgment_id(message_id)
    # Two acknowledgements of one message are two messages: the second's id differs in its first character.
    return (first, f"A{first[1:]}")[: len(codes)]
