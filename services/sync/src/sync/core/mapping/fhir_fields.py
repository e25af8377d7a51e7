"""First-level fields of the FHIR R4 resources that are mapped (hl7.org/fhir/R4: patient, appointment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_COMMON: Final = "id meta implicitRules language text contained extension modifierExtension identifier resourceType"
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "Patient": frozenset(
        (
            f"{_COMMON} active name telecom gender birthDate deceased deceasedBoolean deceasedDateTime address "
            "maritalStatus multipleBirth multipleBirthBoolean multipleBirthInteger photo contact communication "
            "generalPractitioner managingOrganization link"
        ).split()
    ),
    "Appointment": frozenset(
        (
            f"{_COMMON} status cancelationReason serviceCategory serviceType specialty appointmentType reasonCode "
            "reasonReference priority description supportingInformation start end minutesDuration slot created comment "
            "patientInstruction basedOn participant requestedPeriod"
        ).split()
    ),
}


def unknown_field(source_type: str, names: Sequence[str]) -> str | None:
    """The first field of a path when the resource does not have it."""
    below = names[1:] if names and names[0] == source_type else names
    known = FIELDS.get(source_type)
    return below[0] if known is not None and below and below[0] not in known else None
