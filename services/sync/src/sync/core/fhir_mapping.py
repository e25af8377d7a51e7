"""FHIR R4 Patient and Appointment → canonical records (http://hl7.org/fhir/R4/patient.html, appointment.html).

A resource that breaks a rule is rejected as a whole: half a record would look like a change at the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from common.models.clock import offset_text
from common.models.records import Appointment, Patient, Record
from sync.core.rejection import INVALID, Rejection, rejection_of, value_class

Resource = Mapping[str, Any]

# Invariant app-3: only these may be without start and end.
_STARTLESS: Final = frozenset({"proposed", "cancelled", "waitlist"})
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,256}")  # R4 allows 64; Epic's are longer


@dataclass(frozen=True, slots=True)
class Mapped:
    """A resource as a canonical record, with the id that its source gives it."""

    external_id: str
    record: Record


def map_resource(resource: Resource, expected: str) -> Mapped | Rejection:
    """The canonical record of a resource of the expected type (FHIR name), or why it is none. Never raises."""
    external_id = external_id_of(resource, expected)
    if isinstance(external_id, Rejection):
        return external_id
    try:
        record = _MAPPINGS[expected](resource)
    except ValidationError as error:
        return rejection_of(error)
    except _WrongTypeError as error:
        return Rejection(INVALID, error.rule, value_class(error.value))
    if isinstance(record, Appointment):
        broken = broken_rule(record)
        if broken is not None:
            return broken
    return Mapped(external_id, record)


def external_id_of(resource: Resource, expected: str) -> str | Rejection:
    """The id of a resource of the expected type (FHIR name), or why it has none."""
    if resource.get("resourceType") != expected:
        return Rejection(INVALID, "resourceType", value_class(resource.get("resourceType")))
    external_id = resource.get("id")
    if not isinstance(external_id, str) or not _FHIR_ID.fullmatch(external_id):
        return Rejection(INVALID, "id", value_class(external_id))
    return external_id


class _WrongTypeError(Exception):
    def __init__(self, rule: str, value: object) -> None:
        super().__init__(rule)
        self.rule = rule
        self.value = value


def _patient(resource: Resource) -> Patient:
    return Patient.model_validate(
        _present(
            identifiers=_identifiers(resource),
            active=resource.get("active"),
            names=[_name(row) for row in _rows(resource, "name")],
            telecom=[point for row in _rows(resource, "telecom") if (point := _contact_point(row))],
            gender=_text(resource.get("gender")),
            birth_date=_text(resource.get("birthDate")),
            # A date of death says that the patient is dead; the date itself is no field of ours yet.
            deceased=True if resource.get("deceasedDateTime") else resource.get("deceasedBoolean"),
            addresses=[_address(row) for row in _rows(resource, "address")],
            marital_status=_concept(resource.get("maritalStatus"), "maritalStatus"),
            language=_preferred_language(resource),
            general_practitioners=[
                _reference(row, "generalPractitioner") for row in _rows(resource, "generalPractitioner")
            ],
        )
    )


def _appointment(resource: Resource) -> Appointment:
    return Appointment.model_validate(
        _present(
            identifiers=_identifiers(resource),
            status=_text(resource.get("status")),
            cancelation_reason=_concept(resource.get("cancelationReason"), "cancelationReason"),
            service_types=[_concept(row, "serviceType") for row in _rows(resource, "serviceType")],
            appointment_type=_concept(resource.get("appointmentType"), "appointmentType"),
            reason_codes=[_concept(row, "reasonCode") for row in _rows(resource, "reasonCode")],
            description=_text(resource.get("description")),
            start=_text(resource.get("start")),
            start_offset=_offset(resource.get("start")),
            end=_text(resource.get("end")),
            end_offset=_offset(resource.get("end")),
            minutes_duration=resource.get("minutesDuration"),
            created=_created(resource.get("created")),
            comment=_text(resource.get("comment")),
            participants=[participant for row in _rows(resource, "participant") if (participant := _participant(row))],
        )
    )


_MAPPINGS: Final[Mapping[str, Callable[[Resource], Record]]] = {"Patient": _patient, "Appointment": _appointment}


def broken_rule(record: Appointment) -> Rejection | None:
    """What an appointment breaks of FHIR R4's invariants, None when it is sound."""
    if record.status is None:
        return Rejection(INVALID, "status", "absent")
    if record.start is None and record.status not in _STARTLESS:
        return Rejection(INVALID, "start", "absent")
    if record.start is not None and record.end is not None and record.end < record.start:
        return Rejection(INVALID, "end", "text")
    return None


def _identifiers(resource: Resource) -> list[dict[str, Any]]:
    return [_identifier(row) for row in _rows(resource, "identifier") if _text(row.get("value")) is not None]


def _identifier(row: Resource) -> dict[str, Any]:
    kind = _mapping(row.get("type"), "identifier.type")
    codes = [_text(coding.get("code")) for coding in _rows(kind, "coding")]
    return _present(
        use=_text(row.get("use")),
        type=next((code for code in codes if code), None) or _text(kind.get("text")),
        system=_text(row.get("system")),
        value=_text(row.get("value")),
        assigner=_text(_mapping(row.get("assigner"), "identifier.assigner").get("display")),
    )


def _name(row: Resource) -> dict[str, Any]:
    given, family = _texts(row, "given"), _text(row.get("family"))
    prefix, suffix = _texts(row, "prefix"), _texts(row, "suffix")
    text = _text(row.get("text"))
    plain = (" ".join((*prefix, *given, family or "", *suffix)).split(), " ".join((*given, family or "")).split())
    return _present(
        use=_text(row.get("use")),
        text=None if text is not None and text.split() in plain else text,
        family=family,
        given=given,
        prefix=prefix,
        suffix=suffix,
    )


def _contact_point(row: Resource) -> dict[str, Any] | None:
    if _text(row.get("value")) is None:
        return None
    return _present(
        system=_text(row.get("system")), value=_text(row.get("value")), use=_text(row.get("use")), rank=row.get("rank")
    )


def _address(row: Resource) -> dict[str, Any]:
    return _present(
        use=_text(row.get("use")),
        text=_text(row.get("text")),
        line=_texts(row, "line"),
        city=_text(row.get("city")),
        district=_text(row.get("district")),
        state=_text(row.get("state")),
        postal_code=_text(row.get("postalCode")),
        country=_text(row.get("country")),
    )


def _preferred_language(resource: Resource) -> Any:
    """The code of the language marked as preferred, or of the only one."""
    rows = _rows(resource, "communication")
    chosen = [row for row in rows if row.get("preferred") is True] or (rows if len(rows) == 1 else [])
    if len(chosen) != 1:
        return None
    concept = _mapping(chosen[0].get("language"), "communication.language")
    codes = [_text(coding.get("code")) for coding in _rows(concept, "coding")]
    return next((code for code in codes if code), None) or _text(concept.get("text"))


def _concept(value: Any, rule: str) -> dict[str, Any] | None:
    concept = _mapping(value, rule)
    codings = [
        _present(
            system=_text(coding.get("system")), code=_text(coding.get("code")), display=_text(coding.get("display"))
        )
        for coding in _rows(concept, "coding")
    ]
    found = _present(coding=[coding for coding in codings if coding], text=_text(concept.get("text")))
    return found or None


def _reference(value: Any, rule: str) -> dict[str, Any] | None:
    """A reference whose type is known, by its last two path segments or by its `type`; None when it names nothing."""
    row = _mapping(value, rule)
    parts = (_text(row.get("reference")) or "").split("/_history/")[0].split("/")
    kind, external_id = (parts[-2], parts[-1]) if len(parts) > 1 else (None, None)
    identifier = _mapping(row.get("identifier"), rule)
    found = _present(
        type=kind or _text(row.get("type")),
        external_id=external_id,
        identifier=_identifier(identifier) if _text(identifier.get("value")) else None,
        display=_text(row.get("display")),
    )
    return found if "type" in found else None


def _participant(row: Resource) -> dict[str, Any] | None:
    actor = _reference(row.get("actor"), "participant.actor")
    if actor is None:
        return None
    return _present(actor=actor, required=_text(row.get("required")), status=_text(row.get("status")))


def _offset(value: Any) -> str | None:
    instant = _instant(value)
    return offset_text(instant) if instant is not None and instant.tzinfo is not None else None


def _created(value: Any) -> Any:
    """`created` is a dateTime, which may be a mere date: then there is no instant to keep."""
    instant = _instant(value)
    return None if instant is not None and instant.tzinfo is None else _text(value)


def _instant(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that are there: without None, empty lists and empty objects, also inside lists."""
    found = {}
    for name, value in fields.items():
        kept = [item for item in value if item not in (None, {}, "")] if isinstance(value, list) else value
        if kept is not None and kept not in ([], {}, ""):
            found[name] = kept
    return found


def _rows(parent: Resource, name: str) -> list[Resource]:
    rows = parent.get(name)
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _WrongTypeError(name, rows)
    return rows


def _texts(parent: Resource, name: str) -> list[str]:
    """A list of texts; null stands where only an extension does (FHIR R4 §2.6.2.1)."""
    values = parent.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(value is None or isinstance(value, str) for value in values):
        raise _WrongTypeError(name, values)
    return [value.strip() for value in values if value and value.strip()]


def _mapping(value: Any, rule: str) -> Resource:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _WrongTypeError(rule, value)
    return value


def _text(value: Any) -> Any:
    """A text without blanks around it, None for an empty one; what is no text is left for the model to refuse."""
    return (value.strip() or None) if isinstance(value, str) else value
