"""The state of one simulated practice: what its seed made, and what happened since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final

from simulator.core.chance import epic_id
from simulator.core.kept_searches import KeptSearches
from simulator.core.practice import Appointment, Patient, Practice

_DAYS_KEPT_MAX: Final = 1_000
APPOINTMENTS_KEPT_MAX: Final = 100_000
BOOKED_MAX: Final = 10_000
TOUCHED_MAX: Final = 200_000


class Chart:
    """Patients and appointments as of now. Changes live in memory and end with the process."""

    def __init__(self, practice: Practice) -> None:
        self.practice = practice
        self.searches = KeptSearches()
        self.version = 0
        self._changed: dict[str, Patient] = {}
        self._booked: dict[str, Appointment] = {}
        self._moved: dict[str, Appointment] = {}
        self._touched: dict[tuple[str, str], tuple[int, datetime]] = {}
        # Made once per day asked for: pages of one search ask for the same days again and again.
        self._days: dict[date, tuple[Appointment, ...]] = {}
        self._days_rows = 0

    def patient(self, patient_id: str) -> Patient | None:
        """The patient of a FHIR id."""
        return self._changed.get(patient_id) or self.practice.patients.get(patient_id)

    def patients(self) -> Iterator[Patient]:
        """Every patient, in the practice's order."""
        for patient_id, patient in self.practice.patients.items():
            yield self._changed.get(patient_id, patient)

    def changed(self, patient_id: str) -> bool:
        """Whether the patient differs from what the seed made."""
        return patient_id in self._changed

    def put_patient(self, patient: Patient) -> None:
        """Replace a patient of this practice; raises KeyError for any other."""
        if patient.id not in self.practice.patients:
            raise KeyError(patient.id)
        self._changed[patient.id] = patient
        self.version += 1

    def admit(self) -> Patient | None:
        """Register one more patient; None when there is no room."""
        practice = self.practice
        self.version += 1
        return practice.patients.admit(lambda index: epic_id(practice.seed, "patient", index))

    def appointment(self, appointment_id: str) -> Appointment | None:
        """An appointment that was booked or changed here; what the seed made is found by its day alone."""
        return self._moved.get(appointment_id) or self._booked.get(appointment_id)

    def put_appointment(self, appointment: Appointment) -> None:
        """Change an appointment; the oldest change is given up over the bound."""
        self._moved[appointment.id] = appointment
        self.version += 1
        while len(self._moved) > APPOINTMENTS_KEPT_MAX:
            del self._moved[next(iter(self._moved))]

    def appointments_of(self, patient_id: str, first: date, days: int) -> list[Appointment]:
        """A patient's appointments of so many days from `first` on, as they are now."""
        rows = {row.id: row for row in self.practice.appointments_of(patient_id, first, days)}
        rows |= self._booked
        end = first + timedelta(days=days)
        present = (self._moved.get(row_id, row) for row_id, row in (rows | self._moved).items())
        mine = (row for row in present if row.patient == patient_id)
        return sorted(
            (row for row in mine if first <= self.local_day(row.start) < end), key=lambda row: (row.start, row.id)
        )

    def moved(self) -> Iterator[Appointment]:
        """The appointments that were changed here, as they are now."""
        return iter(self._moved.values())

    def touch(self, kind: str, resource_id: str, now: datetime, *, made: bool = False) -> None:
        """A resource has a new version from now on; `made`: its first one."""
        key = (kind, resource_id)
        version = self._touched[key][0] + 1 if key in self._touched else 1 if made else 2
        # Put at the end again, so that the oldest one goes over the bound.
        self._touched.pop(key, None)
        self._touched[key] = (version, now)
        self.version += 1
        while len(self._touched) > TOUCHED_MAX:
            del self._touched[next(iter(self._touched))]

    def touched(self, kind: str, resource_id: str) -> tuple[int, datetime] | None:
        """Version and instant of a resource's last change here; None: it is as the seed made it."""
        return self._touched.get((kind, resource_id))

    def book(self, appointment: Appointment) -> None:
        """Add an appointment; the oldest one added is given up over the bound."""
        self._booked[appointment.id] = appointment
        self.version += 1
        while len(self._booked) > BOOKED_MAX:
            del self._booked[next(iter(self._booked))]

    def local_day(self, instant: datetime) -> date:
        """The day of an instant in the practice's time zone."""
        return instant.astimezone(self.practice.zone).date()

    def appointments(self, start: date, end: date) -> list[Appointment]:
        """The appointments of the days from `start` to `end`, both inclusive, by start."""
        rows: list[Appointment] = []
        for offset in range((end - start).days + 1):
            rows.extend(self._on(start + timedelta(days=offset)))
        rows.extend(row for row in self._booked.values() if start <= self.local_day(row.start) <= end)
        if self._moved:
            rows = [row for row in rows if row.id not in self._moved]
            rows.extend(row for row in self._moved.values() if start <= self.local_day(row.start) <= end)
        rows.sort(key=lambda row: (row.start, row.id))
        return rows

    def _on(self, day: date) -> tuple[Appointment, ...]:
        rows = self._days.get(day)
        if rows is None:
            rows = self.practice.appointments_on(day)
            while self._days and (
                len(self._days) >= _DAYS_KEPT_MAX or self._days_rows + len(rows) > APPOINTMENTS_KEPT_MAX
            ):
                self._days_rows -= len(self._days.pop(next(iter(self._days))))
            self._days[day] = rows
            self._days_rows += len(rows)
        return rows
