"""A practice's records as Unity's rows: strings throughout, times local to the server.

What is known of Unity's wire is in its actions and their parameters; column names of patients, appointments and
dictionary entries are in no public source and are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from simulator.core.practice import Appointment, Patient, Practice

Row = Mapping[str, str]
STATUSES: Final[Mapping[str, str]] = {
    "A": "Acknowledged", "B": "Bumped", "C": "Confirmed", "X": "Cancelled", "N": "No Show", "W": "Wait Listed",
    "S": "Scheduled",
}  # fmt: skip
# Which letter a synthetic appointment has as time passes; what was set by SetAppointmentStatus goes before it.
_LETTERS: Final[Mapping[str, str]] = {"booked": "S", "arrived": "A", "fulfilled": "A", "cancelled": "X", "noshow": "N"}
_SEX: Final[Mapping[str, str]] = {"female": "F", "male": "M"}


def local_text(instant: datetime, zone: ZoneInfo) -> str:
    """A time as the server writes it: `03/09/2026 10:00:00 AM`, its own zone, no offset."""
    return instant.astimezone(zone).strftime("%m/%d/%Y %I:%M:%S %p")


def local_instant(text: str, zone: ZoneInfo) -> datetime:
    """An instant (UTC) of a server-local time, with a 12 or 24 hour clock or a date alone; raises ValueError."""
    for form in ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"):
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    raise ValueError("expected mm/dd/yyyy with or without a time")


def letter_of(row: Appointment, now: datetime) -> str:
    """The status letter of an appointment that nobody set one for."""
    return _LETTERS[row.status_at(now)]


def patient_row(practice: Practice, patient: Patient) -> dict[str, str]:
    """GetPatient's row; PatientID is the index of the patient, from 1."""
    address = patient.address
    return {
        "ID": str(practice.patients.index_of(patient.id) + 1),
        "LastName": patient.family,
        "Firstname": patient.given[0],
        "middlename": " ".join(patient.given[1:]),
        "gender": _SEX.get(patient.sex, "U"),
        "dateofbirth": patient.birth_date.strftime("%m/%d/%Y") if patient.birth_date else "",
        "mrn": patient.mrn,
        "Inactive": "N" if patient.active else "Y",
        "MergedIntoID": str(practice.patients.index_of(patient.replaced_by) + 1) if patient.replaced_by else "",
        "HomePhone": patient.phone or "",
        "Email": patient.email or "",
        "Addressline1": address.line if address else "",
        "City": address.city if address else "",
        "State": address.state if address else "",
        "ZipCode": address.postal_code if address else "",
        "PrimaryProvider": practice.practitioners[patient.practitioner].npi,
    }


def appointment_row(practice: Practice, row: Appointment, patient: Patient, letter: str) -> dict[str, str]:
    """GetSchedule's row, all but its AppointmentID."""
    doctor, place = practice.practitioners[row.practitioner], practice.locations[row.location]
    return {
        "PatientID": str(practice.patients.index_of(patient.id) + 1),
        "PatientName": f"{patient.family}, {' '.join(patient.given)}",
        "DateTime": local_text(row.start, practice.zone),
        "Duration": str(row.minutes),
        "TypeCode": row.visit_type[0],
        "Type": row.visit_type[1],
        "ProviderID": doctor.npi,
        "Provider": f"{doctor.family}, {doctor.given}",
        "LocationCode": place.code,
        "Location": place.name,
        "Status": letter,
        "StatusName": STATUSES[letter],
        "Comment": row.reason,
    }


ENTRY_NAME: Final = "Description"


def entry(code: str, description: str) -> dict[str, str]:
    """One entry of a dictionary."""
    return {"Code": code, ENTRY_NAME: description, "Active": "Y"}
