"""Synthetic records as FHIR R4 resources in Epic's manner: no meta.lastUpdated, display names beside references."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from simulator.core.practice import (
    CSN_SYSTEM,
    MRN_SYSTEM,
    NPI_SYSTEM,
    VISIT_TYPE_SYSTEM,
    Address,
    Appointment,
    Location,
    Patient,
    Practice,
    Practitioner,
)

_IDENTIFIER_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"


def instant(value: datetime) -> str:
    """An instant in UTC to the whole second, as Epic writes it."""
    return value.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def patient_resource(practice: Practice, patient: Patient) -> dict[str, Any]:
    """R4 Patient; a field that is not known is absent."""
    resource: dict[str, Any] = {
        "resourceType": "Patient",
        "id": patient.id,
        "identifier": [
            {
                "use": "usual",
                "type": {"coding": [{"system": _IDENTIFIER_TYPE, "code": "MR"}], "text": "MRN"},
                "system": MRN_SYSTEM,
                "value": patient.mrn,
            }
        ],
        "active": patient.active,
        "name": [
            {
                "use": "official",
                "text": " ".join((*patient.given, patient.family)),
                "family": patient.family,
                "given": list(patient.given),
            }
        ],
        "gender": patient.sex,
    }
    telecom: list[dict[str, Any]] = []
    if patient.phone:
        telecom.append({"system": "phone", "value": patient.phone, "use": "home"})
    if patient.email:
        telecom.append({"system": "email", "value": patient.email, "rank": 1})
    if telecom:
        resource["telecom"] = telecom
    if patient.birth_date:
        resource["birthDate"] = patient.birth_date.isoformat()
    if patient.address:
        resource["address"] = [_address(patient.address, "home")]
    if patient.former_address:
        ended = {"period": {"end": patient.moved_on.isoformat()}} if patient.moved_on else {}
        resource.setdefault("address", []).append(_address(patient.former_address, "old") | ended)
    links = [("replaced-by", patient.replaced_by)] if patient.replaced_by else []
    links += [("replaces", other) for other in patient.replaces]
    if links:
        resource["link"] = [{"other": {"reference": f"Patient/{other}"}, "type": kind} for kind, other in links]
    doctor = practice.practitioners[patient.practitioner]
    resource["generalPractitioner"] = [
        {"reference": f"Practitioner/{doctor.id}", "type": "Practitioner", "display": staff_name(doctor)}
    ]
    return resource


def _address(address: Address, use: str) -> dict[str, Any]:
    return {
        "use": use,
        "line": [address.line],
        "city": address.city,
        "state": address.state,
        "postalCode": address.postal_code,
        "country": "US",
    }


def staff_name(row: Practitioner) -> str:
    """`Eleanor Whitfield, MD`."""
    return f"{row.given} {row.family}, {row.suffix}"


def practitioner_resource(row: Practitioner) -> dict[str, Any]:
    """R4 Practitioner."""
    return {
        "resourceType": "Practitioner",
        "id": row.id,
        "identifier": [{"use": "usual", "system": NPI_SYSTEM, "value": row.npi}],
        "active": True,
        "name": [
            {
                "use": "usual",
                "text": staff_name(row),
                "family": row.family,
                "given": [row.given],
                "suffix": [row.suffix],
            }
        ],
    }


def location_resource(row: Location) -> dict[str, Any]:
    """R4 Location."""
    return {
        "resourceType": "Location",
        "id": row.id,
        "identifier": [{"system": "urn:oid:1.2.840.114350.1.13.0.1.7.2.686980", "value": row.code}],
        "status": "active",
        "name": row.name,
        "mode": "instance",
    }


def appointment_resource(practice: Practice, row: Appointment, patient: Patient, now: datetime) -> dict[str, Any]:
    """R4 Appointment with patient, practitioner and location as participants."""
    code, display = row.visit_type
    start, end = instant(row.start), instant(row.end)
    doctor, place = practice.practitioners[row.practitioner], practice.locations[row.location]
    actors = (
        ("Patient", patient.id, " ".join((*patient.given, patient.family))),
        ("Practitioner", doctor.id, staff_name(doctor)),
        ("Location", place.id, place.name),
    )
    resource: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": row.id,
        "identifier": [{"system": CSN_SYSTEM, "value": row.csn}],
        "status": row.status_at(now),
        "appointmentType": {
            "coding": [{"system": VISIT_TYPE_SYSTEM, "code": code, "display": display}],
            "text": display,
        },
    }
    if row.reason:
        resource["reasonCode"] = [{"text": row.reason}]
    return resource | {
        "start": start,
        "end": end,
        "minutesDuration": row.minutes,
        "created": instant(row.created),
        "participant": [
            {
                "actor": {"reference": f"{kind}/{actor}", "type": kind, "display": name},
                "required": "required",
                "status": "accepted",
                "period": {"start": start, "end": end},
            }
            for kind, actor, name in actors
        ],
    }


def group_resource(practice: Practice) -> dict[str, Any]:
    """R4 Group that stands for every patient of the practice."""
    return {
        "resourceType": "Group",
        "id": practice.group,
        "type": "person",
        "actual": True,
        "name": "All patients",
        "quantity": len(practice.patients),
    }
