"""Fields of the FHIR R4 resources that are mapped, and of the data types in them (hl7.org/fhir/R4: patient,
appointment, datatypes, references)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_ANY: Final = "*"
"""What is not listed further: every name may follow."""


def _fields(text: str) -> dict[str, str]:
    """`name:HumanName` → type of each field; without a type it is a primitive."""
    return {part.partition(":")[0]: part.partition(":")[2] for part in text.split()}


_RESOURCE: Final = (
    f"id meta:Meta implicitRules language text:{_ANY} contained:{_ANY} modifierExtension:Extension resourceType "
    "identifier:Identifier"
)
_TYPES: Final[Mapping[str, Mapping[str, str]]] = {
    name: _fields(text)
    for name, text in {
        "Patient": (
            f"{_RESOURCE} active name:HumanName telecom:ContactPoint gender birthDate deceased deceasedBoolean "
            "deceasedDateTime address:Address maritalStatus:CodeableConcept multipleBirth multipleBirthBoolean "
            "multipleBirthInteger photo:Attachment contact:Patient.contact communication:Patient.communication "
            "generalPractitioner:Reference managingOrganization:Reference link:Patient.link"
        ),
        "Patient.contact": (
            "relationship:CodeableConcept name:HumanName telecom:ContactPoint address:Address gender "
            "organization:Reference period:Period"
        ),
        "Patient.communication": "language:CodeableConcept preferred",
        "Patient.link": "other:Reference type",
        "Appointment": (
            f"{_RESOURCE} status cancelationReason:CodeableConcept serviceCategory:CodeableConcept "
            "serviceType:CodeableConcept specialty:CodeableConcept appointmentType:CodeableConcept "
            "reasonCode:CodeableConcept reasonReference:Reference priority description supportingInformation:Reference "
            "start end minutesDuration slot:Reference created comment patientInstruction basedOn:Reference "
            "participant:Appointment.participant requestedPeriod:Period"
        ),
        "Appointment.participant": "type:CodeableConcept actor:Reference required status period:Period",
        "Address": "use type text line city district state postalCode country period:Period",
        "Attachment": "contentType language data url size hash title creation",
        "CodeableConcept": "coding:Coding text",
        "Coding": "system version code display userSelected",
        "ContactPoint": "system value use rank period:Period",
        "Extension": _ANY,
        "HumanName": "use text family given prefix suffix period:Period",
        "Identifier": "use type:CodeableConcept system value period:Period assigner:Reference",
        "Meta": "versionId lastUpdated source profile security:Coding tag:Coding",
        "Period": "start end",
        "Reference": "reference type identifier:Identifier display",
    }.items()
}  # fmt: skip
# Every element may carry these (R4 §2.24).
_OF_EVERY_ELEMENT: Final = _fields("id extension:Extension")


def unknown_field(source_type: str, names: Sequence[str]) -> str | None:
    """The first field of a path that the resource, or the data type it has come to, does not have; None: all known."""
    below = names[1:] if names and names[0] == source_type else names
    known: Mapping[str, str] | None = _TYPES.get(source_type)
    for name in below:
        if known is None or _ANY in known:
            return None
        if name not in known and name not in _OF_EVERY_ELEMENT:
            return name
        kind = known.get(name) or _OF_EVERY_ELEMENT.get(name, "")
        known = {} if not kind else _TYPES.get(kind)
    return None
