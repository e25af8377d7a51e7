"""The message types that are taken: one row each. What is not listed is rejected before it is acknowledged.

ADT, SIU and DFT change records (sync). Orders, results, documents and vaccinations are stored and published
(`ps.hl7.received.v1` with their type) for whoever wants them; no record is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNSUPPORTED_MESSAGE_TYPE: Final = "200"
UNSUPPORTED_EVENT_CODE: Final = "201"


@dataclass(frozen=True, slots=True)
class MessageType:
    """MSH-9.1, MSH-9.2 and what the standard calls it (HL7 v2.5.1, chapters 3, 4, 6, 7, 9 and 10)."""

    message_type: str
    trigger_event: str
    title: str


TAKEN: Final[dict[tuple[str, str], MessageType]] = {
    (row.message_type, row.trigger_event): row
    for row in (
        MessageType("ADT", "A01", "Admit / visit notification"),
        MessageType("ADT", "A02", "Transfer a patient"),
        MessageType("ADT", "A03", "Discharge / end visit"),
        MessageType("ADT", "A04", "Register a patient"),
        MessageType("ADT", "A05", "Pre-admit a patient"),
        MessageType("ADT", "A06", "Change an outpatient to an inpatient"),
        MessageType("ADT", "A07", "Change an inpatient to an outpatient"),
        MessageType("ADT", "A08", "Update patient information"),
        MessageType("ADT", "A11", "Cancel admit / visit notification"),
        MessageType("ADT", "A12", "Cancel transfer"),
        MessageType("ADT", "A13", "Cancel discharge / end visit"),
        MessageType("ADT", "A28", "Add person information"),
        MessageType("ADT", "A31", "Update person information"),
        MessageType("ADT", "A34", "Merge patient information: patient ID only"),
        MessageType("ADT", "A40", "Merge patient: patient identifier list"),
        MessageType("DFT", "P03", "Post detail financial transaction"),
        MessageType("MDM", "T01", "Original document notification"),
        MessageType("MDM", "T02", "Original document notification and content"),
        MessageType("MDM", "T03", "Document status change notification"),
        MessageType("MDM", "T04", "Document status change notification and content"),
        MessageType("MDM", "T05", "Document addendum notification"),
        MessageType("MDM", "T06", "Document addendum notification and content"),
        MessageType("MDM", "T07", "Document edit notification"),
        MessageType("MDM", "T08", "Document edit notification and content"),
        MessageType("MDM", "T09", "Document replacement notification"),
        MessageType("MDM", "T10", "Document replacement notification and content"),
        MessageType("MDM", "T11", "Document cancel notification"),
        MessageType("ORM", "O01", "General order message"),
        MessageType("ORU", "R01", "Unsolicited transmission of an observation message"),
        MessageType("SIU", "S12", "New appointment booking"),
        MessageType("SIU", "S13", "Appointment rescheduling"),
        MessageType("SIU", "S14", "Appointment modification"),
        MessageType("SIU", "S15", "Appointment cancellation"),
        MessageType("SIU", "S16", "Appointment discontinuation"),
        MessageType("SIU", "S17", "Appointment deletion"),
        MessageType("SIU", "S26", "Patient did not show up for an appointment"),
        MessageType("VXU", "V04", "Unsolicited vaccination record update"),
    )
}
_TYPES: Final = frozenset(message_type for message_type, _ in TAKEN)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Why a type is not taken: the field at fault, the code of HL7 table 0357, and what would be taken."""

    path: str
    code: str
    expected: str


def unsupported(message_type: str, trigger_event: str) -> Unsupported | None:
    """None when the type is taken."""
    if (message_type, trigger_event) in TAKEN:
        return None
    if message_type in _TYPES:
        events = (event for known, event in TAKEN if known == message_type)
        return Unsupported("MSH-9.2", UNSUPPORTED_EVENT_CODE, ", ".join(events))
    return Unsupported("MSH-9.1", UNSUPPORTED_MESSAGE_TYPE, ", ".join(sorted(_TYPES)))
