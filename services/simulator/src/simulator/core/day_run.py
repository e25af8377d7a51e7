"""What an event of the day does to a chart, and the HL7 messages that tell it.

A resource that a client wrote (PUT) stays as it was written: the day changes what the practice itself made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Final

from simulator.core.billing import ENCOUNTER, charge_resources
from simulator.core.chance import below, choice
from simulator.core.change import new_appointment
from simulator.core.chart import Chart
from simulator.core.day import OPENS, DayEvent, Happening, events_of, instant_of
from simulator.core.hl7_feed import (
    ASSIGNING_AUTHORITY,
    booking_of,
    components,
    doctor_of,
    msh_of,
    pid_of,
    pv1_of,
    segment_of,
    timestamp,
)
from simulator.core.names import CITIES, STREETS
from simulator.core.practice import Address, Appointment, Patient

ENCOUNTER_KIND: Final = "Encounter"
VISITS_HANDED_OVER_DAYS: Final = 365
_SATURDAY: Final = 5
_ADT: Final = {"A04": "ADT_A01", "A08": "ADT_A01", "A40": "ADT_A39"}
_STATUS: Final = {"S12": "Booked", "S13": "Booked", "S15": "Cancelled", "S26": "Noshow"}


@dataclass(frozen=True, slots=True)
class Told:
    """A message to be sent: its trigger event (`A04`, `S15`, `P03`), of whom, of which visit, and who ended."""

    trigger: str
    patient: Patient
    appointment: Appointment | None = None
    ended: Patient | None = None

    @property
    def kind(self) -> str:
        """`ADT^A04`, `SIU^S15`, `DFT^P03`."""
        return f"{'DFT' if self.trigger == 'P03' else 'SIU' if self.trigger in _STATUS else 'ADT'}^{self.trigger}"


def begin(chart: Chart, day: date, seed: int) -> tuple[DayEvent, ...]:
    """Open the day: from now on its appointments have the status that events give them. What will happen, in order."""
    opening = instant_of(chart.practice, day, OPENS)
    rows = [row for row in chart.appointments(day, day) if row.status_at(opening) == "booked"]
    for row in rows:
        chart.put_appointment(replace(row, state="booked"))
    return events_of(chart.practice, rows, day, seed)


def happen(chart: Chart, event: DayEvent, now: datetime) -> Sequence[Told]:
    """Let an event happen; `now` is when servers say that resources changed. Empty where it cannot happen any more."""
    if event.appointment:
        row = chart.appointment(event.appointment)
        return _VISITS[event.kind](chart, event, row, now) if row is not None else ()
    return _OFFICE[event.kind](chart, event, now)


def _set(chart: Chart, row: Appointment, state: str, now: datetime) -> Appointment:
    changed = replace(row, state=state)
    chart.put_appointment(changed)
    chart.touch("Appointment", row.id, now)
    return changed


def _who(chart: Chart, row: Appointment) -> Patient:
    patient = chart.patient(row.patient)
    assert patient is not None
    return patient


def _check_in(chart: Chart, _: DayEvent, row: Appointment, now: datetime) -> Sequence[Told]:
    if row.state != "booked":
        return ()
    row = _set(chart, row, "arrived", now)
    chart.touch(ENCOUNTER_KIND, f"{row.id}{ENCOUNTER}", now, made=True)
    return (Told("A04", _who(chart, row), row),)


def _check_out(chart: Chart, _: DayEvent, row: Appointment, now: datetime) -> Sequence[Told]:
    if row.state != "arrived":
        return ()
    row = _set(chart, row, "fulfilled", now)
    chart.touch(ENCOUNTER_KIND, f"{row.id}{ENCOUNTER}", now)
    for charge in charge_resources(chart.practice, row, now):
        chart.touch("ChargeItem", charge["id"], now, made=True)
    return (Told("P03", _who(chart, row), row),)


def _ended(state: str, trigger: str) -> Callable[[Chart, DayEvent, Appointment, datetime], Sequence[Told]]:
    def end(chart: Chart, _: DayEvent, row: Appointment, now: datetime) -> Sequence[Told]:
        if row.state != "booked":
            return ()
        row = _set(chart, row, state, now)
        return (Told(trigger, _who(chart, row), row),)

    return end


def _later(chart: Chart, row: Appointment, event: DayEvent) -> datetime:
    """The same time of one of the next ten days, no weekend."""
    local = row.start.astimezone(chart.practice.zone)
    day = local.date() + timedelta(days=1 + below(10, event.seed, "later"))
    while day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
    return instant_of(chart.practice, day, time(local.hour, local.minute))


def _move(chart: Chart, event: DayEvent, row: Appointment, now: datetime) -> Sequence[Told]:
    if row.state != "booked":
        return ()
    row = _set(chart, replace(row, start=_later(chart, row, event)), "booked", now)
    return (Told("S13", _who(chart, row), row),)


def _rebook(chart: Chart, event: DayEvent, row: Appointment, now: datetime) -> Sequence[Told]:
    if row.state != "cancelled":
        return ()
    return (_book(chart, _who(chart, row), _later(chart, row, event), event, now),)


def _book(chart: Chart, patient: Patient, start: datetime | None, event: DayEvent, now: datetime) -> Told:
    row = new_appointment(chart, patient, start=start, minutes=None, now=event.at)
    chart.book(replace(row, state="booked"))
    chart.touch("Appointment", row.id, now, made=True)
    return Told("S12", patient, row)


def _register(chart: Chart, event: DayEvent, now: datetime) -> Sequence[Told]:
    patient = chart.admit()
    if patient is None:
        return ()
    chart.touch("Patient", patient.id, now, made=True)
    return (Told("A04", patient), _book(chart, patient, None, event, now))


def _address(chart: Chart, event: DayEvent, now: datetime) -> Sequence[Told]:
    patient = chart.patient(event.patient)
    if patient is None or not patient.active:
        return ()
    city, state, zip_prefix = choice(CITIES, event.seed, "city")
    line = f"{20_000 + below(9_000, event.seed, 'house')} {choice(STREETS, event.seed, 'street')}"
    home = Address(line, city, state, f"{zip_prefix}{below(100, event.seed, 'zip'):02d}")
    moved_on = chart.local_day(event.at)
    moved = replace(patient, address=home, former_address=patient.address, moved_on=moved_on)
    chart.put_patient(moved)
    chart.touch("Patient", patient.id, now)
    return (Told("A08", moved),)


def _merge(chart: Chart, event: DayEvent, now: datetime) -> Sequence[Told]:
    lives, ended = chart.patient(event.patient), chart.patient(event.other)
    if lives is None or ended is None or not (lives.active and ended.active):
        return ()
    lives = replace(lives, replaces=(*lives.replaces, ended.id))
    ended = replace(ended, active=False, replaced_by=lives.id)
    for patient in (lives, ended):
        chart.put_patient(patient)
        chart.touch("Patient", patient.id, now)
    # Visits that are still to come go over; those that were stay where they were entered.
    day = chart.local_day(event.at)
    for row in chart.appointments_of(ended.id, day, VISITS_HANDED_OVER_DAYS):
        if row.status_at(event.at) == "booked":
            chart.put_appointment(replace(row, patient=lives.id))
            chart.touch("Appointment", row.id, now)
    return (Told("A40", lives, ended=ended),)


_VISITS: Final[Mapping[Happening, Callable[[Chart, DayEvent, Appointment, datetime], Sequence[Told]]]] = {
    Happening.CHECK_IN: _check_in,
    Happening.CHECK_OUT: _check_out,
    Happening.NO_SHOW: _ended("noshow", "S26"),
    Happening.CANCEL: _ended("cancelled", "S15"),
    Happening.REBOOK: _rebook,
    Happening.MOVE: _move,
}
_OFFICE: Final[Mapping[Happening, Callable[[Chart, DayEvent, datetime], Sequence[Told]]]] = {
    Happening.REGISTER: _register,
    Happening.ADDRESS: _address,
    Happening.MERGE: _merge,
}


def compose_told(chart: Chart, told: Told, at: datetime, control_id: str) -> bytes:
    """The message in UTF-8 as it leaves at the instant `at` of the day; what it says is what FHIR answers then."""
    practice, patient, row = chart.practice, told.patient, told.appointment
    sent = timestamp(at, practice)
    doctor = practice.practitioners[row.practitioner if row is not None else patient.practitioner]
    place = practice.locations[row.location] if row is not None else next(iter(practice.locations.values()))
    nothing: frozenset[str] = frozenset()
    if told.trigger in _STATUS:
        assert row is not None
        rows = [msh_of(f"{told.kind}^SIU_S12", practice, sent, control_id)]
        rows += booking_of(practice, patient, row, doctor, place, nothing, sent, _STATUS[told.trigger])
    else:
        structure = _ADT.get(told.trigger, "DFT_P03")
        rows = [msh_of(f"{told.kind}^{structure}", practice, sent, control_id)]
        rows += [segment_of("EVN", {1: told.trigger, 2: sent}), pid_of(patient, nothing)]
        if told.ended is not None:
            rows.append(segment_of("MRG", {1: components(told.ended.mrn, "", "", ASSIGNING_AUTHORITY, "MR")}))
        else:
            rows.append(pv1_of("O", doctor, place, sent))
        if told.trigger == "P03":
            assert row is not None
            rows += _charges(chart, row, at)
    return "".join(f"{one}\r" for one in rows).encode()


def _charges(chart: Chart, row: Appointment, at: datetime) -> Sequence[str]:
    """FT1 (chapter 6, §6.5.1) of the same charges that FHIR's ChargeItems are."""
    practice, found = chart.practice, []
    for number, charge in enumerate(charge_resources(practice, row, at), 1):
        coding = charge["code"]["coding"][0]
        fee = f"{charge['priceOverride']['value']}.00&USD"
        found.append(
            segment_of("FT1", {
                1: str(number), 2: f"{row.csn[-11:]}{number}",
                4: timestamp(row.start, practice), 5: timestamp(at, practice), 6: "CG",
                7: components(coding["code"], coding["display"]), 10: "1", 11: fee,
                20: doctor_of(practice.practitioners[row.practitioner]),
                25: components(coding["code"], coding["display"]),
            })
        )  # fmt: skip
    return found
