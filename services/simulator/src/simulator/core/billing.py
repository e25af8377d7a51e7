"""Encounters, coverages, accounts and charges of a practice as FHIR R4 resources: functions of its seed, as all of it.

Their ids are the id of what they belong to and a suffix, so that one is found without looking at all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from simulator.core.chance import below, choice, percent
from simulator.core.chart import Chart
from simulator.core.practice import Appointment, Patient, Practice
from simulator.core.resources import instant

ENCOUNTER: Final = ".e"
CHARGE: Final = ".c"
COVERAGE: Final = ".v"
ACCOUNT: Final = ".a"
PAYERS: Final = (("60054", "Aetna"), ("62308", "Cigna"), ("00590", "Florida Blue"), ("MCARE", "Medicare Part B"))
# Current Procedural Terminology belongs to somebody else: codes of our own.
PROCEDURES: Final = (("PS-100", "Office visit, short"), ("PS-200", "Office visit, long"), ("PS-310", "Blood draw"))
PAYER_SYSTEM: Final = "urn:practice-studio:simulator:payer"
PROCEDURE_SYSTEM: Final = "urn:practice-studio:simulator:procedure"
INSURED_SHARE: Final = 88
_SLOT_MINUTES: Final = 15
_OPENS: Final = time(8, 0)
_SLOTS_PER_DAY: Final = 36


def encounter_resource(practice: Practice, row: Appointment, now: datetime) -> dict[str, Any] | None:
    """R4 Encounter of an appointment that was kept or goes on; None for one that is none yet, or never will be."""
    status = {"arrived": "in-progress", "fulfilled": "finished"}.get(row.status_at(now))
    if status is None:
        return None
    period = {"start": instant(row.start)} | ({"end": instant(row.end)} if status == "finished" else {})
    return {
        "resourceType": "Encounter",
        "id": f"{row.id}{ENCOUNTER}",
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "ambulatory"},
        "subject": {"reference": f"Patient/{row.patient}"},
        "participant": [{"individual": {"reference": f"Practitioner/{row.practitioner}"}}],
        "appointment": [{"reference": f"Appointment/{row.id}"}],
        "period": period,
        "location": [{"location": {"reference": f"Location/{row.location}"}}],
    }


def charge_resources(practice: Practice, row: Appointment, now: datetime) -> Iterator[dict[str, Any]]:
    """R4 ChargeItems of an appointment that was kept: one, or two."""
    if row.status_at(now) != "fulfilled":
        return
    for number in range(1 + percent(25, practice.seed, "second-charge", row.id)):
        code, display = choice(PROCEDURES, practice.seed, "procedure", row.id, number)
        yield {
            "resourceType": "ChargeItem",
            "id": f"{row.id}{CHARGE}{number + 1}",
            "status": "billable",
            "code": {"coding": [{"system": PROCEDURE_SYSTEM, "code": code, "display": display}], "text": display},
            "subject": {"reference": f"Patient/{row.patient}"},
            "context": {"reference": f"Encounter/{row.id}{ENCOUNTER}"},
            "occurrenceDateTime": instant(row.start),
            "performer": [{"actor": {"reference": f"Practitioner/{row.practitioner}"}}],
            "quantity": {"value": 1},
            "priceOverride": {"value": 40 + below(160, practice.seed, "price", row.id, number), "currency": "USD"},
            "account": [{"reference": f"Account/{row.patient}{ACCOUNT}"}],
        }


def coverage_resource(practice: Practice, patient: Patient) -> dict[str, Any] | None:
    """R4 Coverage of a patient; None for who has none."""
    if not percent(INSURED_SHARE, practice.seed, "insured", patient.id):
        return None
    code, display = choice(PAYERS, practice.seed, "payer", patient.id)
    return {
        "resourceType": "Coverage",
        "id": f"{patient.id}{COVERAGE}",
        "status": "active",
        "subscriberId": f"S{10**8 + below(9 * 10**8, practice.seed, 'subscriber', patient.id)}",
        "beneficiary": {"reference": f"Patient/{patient.id}"},
        "relationship": {"coding": [{"code": "self"}]},
        "payor": [{"identifier": {"system": PAYER_SYSTEM, "value": code}, "display": display}],
        "order": 1,
    }


def account_resource(practice: Practice, patient: Patient) -> dict[str, Any]:
    """R4 Account of a patient."""
    covered = coverage_resource(practice, patient)
    resource: dict[str, Any] = {
        "resourceType": "Account",
        "id": f"{patient.id}{ACCOUNT}",
        "identifier": [{"value": f"A{patient.mrn}"}],
        "status": "active",
        "name": " ".join((*patient.given, patient.family)),
        "subject": [{"reference": f"Patient/{patient.id}"}],
    }
    if patient.guarantor is not None:
        resource["guarantor"] = [{"party": {"reference": f"Patient/{patient.guarantor}"}}]
    if covered is not None:
        resource["coverage"] = [{"coverage": {"reference": f"Coverage/{covered['id']}"}, "priority": 1}]
    return resource


def slot_resources(chart: Chart, day: date, now: datetime) -> Iterator[dict[str, Any]]:
    """R4 Slots of a working day, a quarter of an hour each: busy where an appointment stands, free elsewhere."""
    if day.weekday() >= 5:
        return
    practice = chart.practice
    taken = {
        (row.practitioner, row.start)
        for row in chart.appointments(day, day)
        if row.status_at(now) not in {"cancelled", "noshow"}
    }
    opens = datetime.combine(day, _OPENS, practice.zone)
    for doctor in practice.practitioners:
        for number in range(_SLOTS_PER_DAY):
            start = (opens + timedelta(minutes=_SLOT_MINUTES * number)).astimezone(now.tzinfo)
            yield {
                "resourceType": "Slot",
                "id": f"{doctor}.{day:%Y%m%d}.{number}",
                "serviceType": [{"text": "Office visit"}],
                "schedule": {"reference": f"Schedule/{doctor}"},
                "status": "busy" if (doctor, start) in taken else "free",
                "start": instant(start),
                "end": instant(start + timedelta(minutes=_SLOT_MINUTES)),
            }
