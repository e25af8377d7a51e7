"""By what else than its header and its patient a message is found: visit, order, findings.

Numbers of a visit or an order say who was where, so they are kept as pseudonyms, as identifiers of patients are.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import hl7v2

CONTROL_ID_REUSED: Final = "hl7.control-id-reused"
"""Finding: the sender used MSH-10 before, for a message with another body. Both are kept."""
KEYS_MAX: Final = 100
"""Of one message: a batch of results may name hundreds of orders."""

# Placer and filler numbers: ORC-2, ORC-3, OBR-2, OBR-3 (HL7 v2.5.1 §4.5.1, §4.5.3); of appointments SCH-1, SCH-2
# (§10.6.1), which are what an order is to a schedule.
_ORDERS: Final = (("ORC", ("2.1", "3.1")), ("OBR", ("2.1", "3.1")), ("SCH", ("1.1", "2.1")))


class KeyKind(StrEnum):
    """What a key names."""

    VISIT = "visit"
    ORDER = "order"
    FINDING = "finding"


def numbers_of(message: hl7v2.Message) -> dict[tuple[KeyKind, str], None]:
    """The visit (PV1-19) and every order or appointment that a message names, each once, in their order."""
    found: dict[tuple[KeyKind, str], None] = {}
    visit = message["PV1-19.1"]
    if visit:
        found[KeyKind.VISIT, visit] = None
    for name, places in _ORDERS:
        for segment in message.segments(name):
            for place in places:
                number = segment[place]
                if number and len(found) < KEYS_MAX:
                    found[KeyKind.ORDER, number] = None
    return found


def finding_codes(findings: Iterable[Any]) -> list[str]:
    """The codes of findings (texts, or documents with `code`), each once."""
    codes = (finding if isinstance(finding, str) else str(finding.get("code", "")) for finding in findings)
    return list(dict.fromkeys(code for code in codes if code))
