"""Canonical Patient and Appointment → FHIR R4 resources to write (hl7.org/fhir/R4: patient, appointment).

The reverse of `fhir_mapping`: a resource that is written and read again gives the same record. What has no
place in the record is not in the resource, so a write that replaces (PUT) must begin from what the PMS holds: `over`
lays what differs over that, so that what the PMS keeps besides (periods, extensions, further languages) is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from common.models.records import (
    Appointment,
    CodeableConcept,
    HumanName,
    Identifier,
    Participant,
    Patient,
    Record,
    Reference,
)
from sync.core.fhir_mapping import Mapped, map_resource

ExternalIds = Callable[[str, str], str | None]
"""FHIR type and record id → the id that the PMS gives it, None when it has none there."""


class UnwritableError(ValueError):
    """A record cannot be written as it is; the argument names the field, never its value."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def write_resource(record: Record, external_ids: ExternalIds, external_id: str | None = None) -> dict[str, Any]:
    """The resource; with an `id` when the PMS has it already.

    Raises UnwritableError for a reference to what the PMS does not have, or for a record of another type.
    """
    write = _WRITERS.get(type(record))
    if write is None:
        raise UnwritableError("record_type")
    return _present(resourceType=type(record).__name__, id=external_id, **write(record, external_ids))


def over(held: Mapping[str, Any], written: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """A resource of the PMS with the fields laid over it that read differently from the record.

    `written` is what `write_resource` gives for it. Items of a list that say what they said stay as the PMS has them.
    """
    found = map_resource(held, type(record).__name__)
    before = found.record if isinstance(found, Mapped) else None
    result = dict(held)
    for name, fhir_name in _FIELDS[type(record)].items():
        if before is not None and getattr(before, name) == getattr(record, name):
            continue
        if fhir_name == "deceasedBoolean":
            # deceased[x] is one choice.
            result.pop("deceasedDateTime", None)
        value = written.get(fhir_name)
        if fhir_name == "communication":
            value = _languages(held.get(fhir_name), value or [])
        elif isinstance(value, list) and isinstance(held.get(fhir_name), list):
            value = _items(held[fhir_name], value, record, name, fhir_name)
        if value is None or value == []:
            result.pop(fhir_name, None)
        else:
            result[fhir_name] = value
    return result


def _items(held: list[Any], written: list[Any], record: Record, name: str, fhir_name: str) -> list[Any]:
    """The written items; where one of the held ones reads as the same, the held one."""
    kind = type(record).__name__
    reads = []
    for one in held:
        found = map_resource({"resourceType": kind, "id": "1", "status": "proposed", fhir_name: [one]}, kind)
        reads.append(getattr(found.record, name) if isinstance(found, Mapped) else ())
    wanted = getattr(record, name)
    return [
        next((one for one, read in zip(held, reads, strict=True) if read == (value,)), item)
        for item, value in zip(written, wanted, strict=True)
    ]


def _languages(held: Any, written: list[Any]) -> list[Any]:
    """The written language first, marked as preferred; the others stay, no longer so marked."""
    codes = [one["language"]["coding"][0]["code"] for one in written]
    others = [
        {name: value for name, value in one.items() if name != "preferred"}
        for one in (held if isinstance(held, list) else [])
        if isinstance(one, dict) and not any(_names(one.get("language"), code) for code in codes)
    ]
    return [*written, *others] if written else []


def _names(language: Any, code: str) -> bool:
    codings = language.get("coding") if isinstance(language, dict) else None
    return isinstance(codings, list) and any(isinstance(one, dict) and one.get("code") == code for one in codings)


def _patient(record: Patient, external_ids: ExternalIds) -> dict[str, Any]:
    return {
        "identifier": [_identifier(each) for each in record.identifiers],
        "active": record.active,
        "name": [_name(each) for each in record.names],
        "telecom": [each.model_dump(mode="json", exclude_defaults=True) for each in record.telecom],
        "gender": record.gender,
        "birthDate": record.birth_date,
        "deceasedBoolean": record.deceased,
        "address": [_address(each.model_dump(mode="json", exclude_defaults=True)) for each in record.addresses],
        "maritalStatus": _concept(record.marital_status),
        "communication": _communication(record.language),
        "generalPractitioner": [
            _reference(each, external_ids, "general_practitioners") for each in record.general_practitioners
        ],
    }


def _appointment(record: Appointment, external_ids: ExternalIds) -> dict[str, Any]:
    return {
        "identifier": [_identifier(each) for each in record.identifiers],
        "status": record.status,
        "cancelationReason": _concept(record.cancelation_reason),
        "serviceType": [_concept(each) for each in record.service_types],
        "appointmentType": _concept(record.appointment_type),
        "reasonCode": [_concept(each) for each in record.reason_codes],
        "description": record.description,
        "start": _instant(record.start, record.start_offset),
        "end": _instant(record.end, record.end_offset),
        "minutesDuration": record.minutes_duration,
        "created": _instant(record.created, None),
        "comment": record.comment,
        "participant": [_participant(each, external_ids) for each in record.participants],
    }


_WRITERS: Final[Mapping[type[Record], Callable[[Any, ExternalIds], dict[str, Any]]]] = {
    Patient: _patient,
    Appointment: _appointment,
}
# Field of a record → the FHIR element that they are read from.
_FIELDS: Final[Mapping[type[Record], Mapping[str, str]]] = {
    Patient: {
        "identifiers": "identifier",
        "active": "active",
        "names": "name",
        "telecom": "telecom",
        "gender": "gender",
        "birth_date": "birthDate",
        "deceased": "deceasedBoolean",
        "addresses": "address",
        "marital_status": "maritalStatus",
        "language": "communication",
        "general_practitioners": "generalPractitioner",
    },
    Appointment: {
        "identifiers": "identifier",
        "status": "status",
        "cancelation_reason": "cancelationReason",
        "service_types": "serviceType",
        "appointment_type": "appointmentType",
        "reason_codes": "reasonCode",
        "description": "description",
        "start": "start",
        "end": "end",
        "minutes_duration": "minutesDuration",
        "created": "created",
        "comment": "comment",
        "participants": "participant",
    },
}


def _identifier(identifier: Identifier) -> dict[str, Any]:
    return _present(
        use=identifier.use,
        type={"coding": [{"code": identifier.type}]} if identifier.type else None,
        system=identifier.system,
        value=identifier.value,
        assigner={"display": identifier.assigner} if identifier.assigner else None,
    )


def _name(name: HumanName) -> dict[str, Any]:
    return name.model_dump(mode="json", exclude_defaults=True)


def _address(document: dict[str, Any]) -> dict[str, Any]:
    code = document.pop("postal_code", None)
    return _present(**document, postalCode=code)


def _concept(concept: CodeableConcept | None) -> dict[str, Any] | None:
    return concept.model_dump(mode="json", exclude_defaults=True) if concept is not None else None


def _communication(language: str | None) -> list[dict[str, Any]]:
    return [{"language": {"coding": [{"code": language}]}, "preferred": True}] if language else []


def _reference(reference: Reference, external_ids: ExternalIds, field: str) -> dict[str, Any]:
    """By the PMS's own id; without one by its identifier or name, if it never was a record of ours."""
    external_id = reference.external_id
    if external_id is None and reference.record_id is not None:
        external_id = external_ids(reference.type, reference.record_id)
        if external_id is None:
            raise UnwritableError(field)
    return _present(
        reference=f"{reference.type}/{external_id}" if external_id else None,
        type=None if external_id else reference.type,
        identifier=_identifier(reference.identifier) if reference.identifier else None,
        display=reference.display,
    )


def _participant(participant: Participant, external_ids: ExternalIds) -> dict[str, Any]:
    actor = _reference(participant.actor, external_ids, "participants.actor")
    return _present(actor=actor, required=participant.required, status=participant.status)


def _instant(instant: datetime | None, offset: str | None) -> str | None:
    """In the offset that its source wrote, so that a clerk sees the local time; else in UTC."""
    if instant is None:
        return None
    if offset is None:
        return instant.isoformat().replace("+00:00", "Z")
    sign = -1 if offset.startswith("-") else 1
    hours, minutes = offset.lstrip("+-").split(":")
    zone = timezone(sign * timedelta(hours=int(hours), minutes=int(minutes)))
    return instant.astimezone(zone).isoformat()


def _present(**fields: Any) -> dict[str, Any]:
    empty: Sequence[Any] = (None, [], {})
    return {name: value for name, value in fields.items() if value not in empty}
