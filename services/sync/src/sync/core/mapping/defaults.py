"""The mappings that an integration begins with, per source kind and record type: data.

What they cover is tested against the mappings by hand (`fhir_mapping`, `hl7_mapping`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sync.core.mapping.row import FieldMapping, MappingRow, SourceKind, TransformUse


def _row(target: str, source: str = "", *names: str, required: bool = False, default: Any = None) -> MappingRow:
    return MappingRow(target, source, tuple(TransformUse(name) for name in names), default, required)


def _gathered(target: str, sources: str, *names: str, required: bool = False) -> MappingRow:
    gather = TransformUse("gather", {"sources": sources.split()})
    return MappingRow(target, "", (gather, *(TransformUse(name) for name in names)), None, required)


def _looked_up(target: str, source: str, table: Mapping[str, str], unknown: str = "reject") -> MappingRow:
    return MappingRow(target, source, (TransformUse("lookup", {"table": dict(table), "unknown": unknown}),))


_FHIR_IDENTIFIERS: Final = (
    _row("identifiers[*]", "identifier"),
    _row("identifiers[*].value", "value", required=True),
    _row("identifiers[*].use", "use"),
    _row("identifiers[*].type", "type", "fhir-code"),
    _row("identifiers[*].system", "system"),
    _row("identifiers[*].assigner", "assigner.display"),
)
FHIR_PATIENT: Final = FieldMapping(
    "patient",
    SourceKind.FHIR,
    (
        *_FHIR_IDENTIFIERS,
        _row("active", "active"),
        _row("names[*]", "name"),
        _row("names[*].use", "use"),
        _row("names[*].text", "$this", "fhir-name-text"),
        _row("names[*].family", "family"),
        _row("names[*].given", "given", "fhir-texts"),
        _row("names[*].prefix", "prefix", "fhir-texts"),
        _row("names[*].suffix", "suffix", "fhir-texts"),
        _row("telecom[*]", "telecom"),
        _row("telecom[*].value", "value", required=True),
        _row("telecom[*].system", "system"),
        _row("telecom[*].use", "use"),
        _row("telecom[*].rank", "rank"),
        _row("gender", "gender"),
        _row("birth_date", "birthDate"),
        _row("deceased", "deceasedDateTime | deceasedBoolean", "presence"),
        _row("addresses[*]", "address"),
        _row("addresses[*].use", "use"),
        _row("addresses[*].text", "text"),
        _row("addresses[*].line", "line", "fhir-texts"),
        _row("addresses[*].city", "city"),
        _row("addresses[*].district", "district"),
        _row("addresses[*].state", "state"),
        _row("addresses[*].postal_code", "postalCode"),
        _row("addresses[*].country", "country"),
        _row("marital_status", "maritalStatus", "fhir-concept"),
        _row("language", "communication", "fhir-language"),
        _row("general_practitioners", "generalPractitioner", "fhir-reference"),
    ),
    "Patient",
)
FHIR_APPOINTMENT: Final = FieldMapping(
    "appointment",
    SourceKind.FHIR,
    (
        *_FHIR_IDENTIFIERS,
        _row("status", "status", required=True),
        _row("cancelation_reason", "cancelationReason", "fhir-concept"),
        _row("service_types", "serviceType", "fhir-concept"),
        _row("appointment_type", "appointmentType", "fhir-concept"),
        _row("reason_codes", "reasonCode", "fhir-concept"),
        _row("description", "description"),
        _row("start", "start"),
        _row("start_offset", "start", "instant-offset"),
        _row("end", "end"),
        _row("end_offset", "end", "instant-offset"),
        _row("minutes_duration", "minutesDuration"),
        _row("created", "created", "full-instant"),
        _row("comment", "comment"),
        _row("participants[*]", "participant"),
        _row("participants[*].actor", "actor", "fhir-reference", required=True),
        _row("participants[*].required", "required"),
        _row("participants[*].status", "status"),
    ),
    "Appointment",
)

_GENDERS: Final = {"F": "female", "M": "male", "O": "other", "A": "other", "N": "other", "U": "unknown"}
_NAME_USES: Final = {"L": "official", "D": "usual", "N": "nickname", "M": "maiden", "S": "anonymous"}
_ADDRESS_USES: Final = {"H": "home", "B": "work", "O": "work", "C": "temp", "BI": "billing"}
_XTN: Final = ".1 .2 .3 .4 .5 .6 .7 .8 .9 .10 .11 .12"
_HD: Final = ".4.1 .4.2 .4.3 .5"
HL7_PATIENT: Final = FieldMapping(
    "patient",
    SourceKind.HL7V2,
    (
        _row("identifiers[*]", "PID-3[*]", required=True),
        _row("identifiers[*].value", ".1", required=True),
        _row("identifiers[*].type", ".5"),
        _gathered("identifiers[*].system", _HD, "identifier-system"),
        _gathered("identifiers[*].assigner", _HD, "identifier-assigner"),
        _row("names[*]", "PID-5[*]"),
        _row("names[*].family", ".1"),
        MappingRow("names[*].given", "", (
            TransformUse("gather", {"sources": [".2", ".3"]}), TransformUse("further-names"),
        )),
        _row("names[*].prefix", ".5"),
        _gathered("names[*].suffix", ".4 .6", "texts"),
        _looked_up("names[*].use", ".7", _NAME_USES, "absent"),
        _row("birth_date", "PID-7", "hl7-date"),
        _looked_up("gender", "PID-8", _GENDERS),
        _row("addresses[*]", "PID-11[*]"),
        _gathered("addresses[*].line", ".1 .2", "texts"),
        _row("addresses[*].city", ".3"),
        _row("addresses[*].state", ".4"),
        _row("addresses[*].postal_code", ".5"),
        _row("addresses[*].country", ".6"),
        _looked_up("addresses[*].use", ".7", _ADDRESS_USES, "absent"),
        _row("addresses[*].district", ".9"),
        _row("telecom[*]", "PID-13[*] | PID-14[*]"),
        _gathered("telecom[*].value", _XTN, "xtn-value", required=True),
        _gathered("telecom[*].system", ".1 .2 .3", "xtn-system"),
        _gathered("telecom[*].use", ".1 .2 .3 $field", "xtn-use"),
        _row("language", "PID-15"),
        _gathered("marital_status", "PID-16.1 PID-16.2", "hl7-concept"),
        MappingRow("deceased", "PID-30", (TransformUse("boolean", {"yes": ["Y"], "no": ["N"]}),)),
    ),
    "ADT",
)  # fmt: skip
DEFAULTS: Final[Mapping[tuple[SourceKind, str], FieldMapping]] = {
    (mapping.source_kind, mapping.record_type): mapping for mapping in (FHIR_PATIENT, FHIR_APPOINTMENT, HL7_PATIENT)
}


def default_mapping(kind: SourceKind, record_type: str) -> FieldMapping | None:
    """What an integration begins with, None where there is no default for that kind of source.

    Epic and Oracle Health keep to US Core for what is mapped here, so their rows are those of FHIR R4.
    """
    return DEFAULTS.get((kind, record_type))
