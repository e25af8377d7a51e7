"""Changes to a synthetic patient, by field name; and a new appointment for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from simulator.core.chance import below, choice, epic_id, number
from simulator.core.chart import Chart
from simulator.core.names import VISIT_TYPES
from simulator.core.practice import FATE_KEPT, Address, Appointment, Patient

ADDRESS_FIELDS: Final = ("line", "city", "state", "postal_code")
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Changed:
    """The patient after a change, and the fields that lost their value."""

    patient: Patient
    cleared: frozenset[str]


def change_patient(patient: Patient, changes: Mapping[str, Any]) -> Changed:
    """Apply changes: family, given, birth_date (date), sex, phone, email, address (mapping); None takes a value away.

    Raises ValueError for an unknown field, or for taking away what a patient cannot be without.
    """
    fields: dict[str, Any] = {}
    cleared: set[str] = set()
    for name, value in changes.items():
        if name not in {"family", "given", "birth_date", "sex", "phone", "email", "address"}:
            raise ValueError(f"a patient has no {name}")
        if value is None and name in {"family", "given", "sex"}:
            raise ValueError(f"a patient keeps a {name}")
        if value is None and getattr(patient, name) is not None:
            cleared.add(name)
        if name == "address" and value is not None:
            fields[name] = _address(patient.address, value)
        else:
            fields[name] = tuple(value) if name == "given" else value
    return Changed(replace(patient, **fields), frozenset(cleared))


def _address(present: Address | None, value: Mapping[str, str]) -> Address:
    base = present or Address("", "", "", "")
    return replace(base, **{name: value[name] for name in ADDRESS_FIELDS if name in value})


def new_appointment(
    chart: Chart, patient: Patient, *, start: datetime | None, minutes: int | None, now: datetime
) -> Appointment:
    """A new appointment; by default at ten o'clock on the next working day."""
    practice = chart.practice
    begins = (start or _next_working_day(chart.local_day(now), chart)).astimezone(UTC)
    what = ("booked", patient.id, begins.isoformat(), now.isoformat())
    code, display, usual_minutes = choice(VISIT_TYPES, practice.seed, "visit", *what)
    return Appointment(
        id=epic_id(practice.seed, *what),
        csn=f"{2 * 10**11 + number(practice.seed, 'csn', *what) % 10**11}",
        patient=patient.id,
        practitioner=patient.practitioner,
        location=tuple(practice.locations)[below(len(practice.locations), practice.seed, "place", *what)],
        start=begins.replace(microsecond=0),
        minutes=minutes or usual_minutes,
        visit_type=(code, display),
        created=now.replace(microsecond=0),
        fate=FATE_KEPT,
    )


def _next_working_day(day: date, chart: Chart) -> datetime:
    following = day + timedelta(days=1)
    while following.weekday() >= _SATURDAY:
        following += timedelta(days=1)
    return datetime.combine(following, time(10), chart.practice.zone)
