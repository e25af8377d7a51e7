"""A synthetic practice: patients, staff, places and appointments, all a function of a seed.

Appointments repeat on an absolute calendar: every patient comes on one working day of each five-week cycle, some on a
second one. So any 35 days hold one or more appointments of every patient, the same date holds the same appointments
whenever it is asked for, and an appointment keeps its id from day to day; only its status follows the clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from simulator.core.chance import below, choice, epic_id, number, percent
from simulator.core.names import CITIES, LOCATIONS, NAMES, PRACTITIONERS, STREETS, VISIT_TYPES
from simulator.core.people import People
from simulator.core.population import NO_SHARES, Place, Role, Shares, mistyped, partner_place, place_of, places

MRN_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.5.737384.0"
CSN_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.3.698084.8"
NPI_SYSTEM: Final = "http://hl7.org/fhir/sid/us-npi"
VISIT_TYPE_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.3.808267.11"
DAY_SHARE_OF_SECOND_SERIES: Final = 30
CYCLE_DAYS: Final = 35
WORKING_DAYS: Final = 25
# A Monday; only its distance to other days matters.
_EPOCH: Final = date(2024, 1, 1)
_OPENS_MINUTE: Final = 8 * 60
_SLOTS: Final = 36
_SLOT_MINUTES: Final = 15
_CANCELLED_SHARE: Final = 4
_NOT_KEPT_SHARE: Final = 6
FATE_KEPT: Final = 99


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address in the United States."""

    line: str
    city: str
    state: str
    postal_code: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A synthetic patient. `id` is the FHIR id, `mrn` the medical record number, `sex` is female, male or unknown."""

    id: str
    mrn: str
    family: str
    given: tuple[str, ...]
    birth_date: date | None
    sex: str
    phone: str | None
    email: str | None
    address: Address | None
    practitioner: str
    active: bool = True
    former_address: Address | None = None
    moved_on: date | None = None
    """Where the patient lived until that day."""
    guarantor: str | None = None
    """Id of the patient who pays, where it is shared with somebody; None: the patient."""
    replaced_by: str | None = None
    replaces: tuple[str, ...] = ()
    """Ids of the record that goes on, and of those that ended in this one."""


@dataclass(frozen=True, slots=True)
class Practitioner:
    """A member of the staff who sees patients."""

    id: str
    npi: str
    family: str
    given: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Location:
    """A department where patients are seen."""

    id: str
    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment; instants are UTC. `csn` is Epic's contact serial number, `visit_type` code and display."""

    id: str
    csn: str
    patient: str
    practitioner: str
    location: str
    start: datetime
    minutes: int
    visit_type: tuple[str, str]
    created: datetime
    fate: int
    reason: str = ""
    state: str = ""
    """The status that somebody gave it; empty: it follows the clock."""

    @property
    def end(self) -> datetime:
        """The instant it is planned to end."""
        return self.start + timedelta(minutes=self.minutes)

    def status_at(self, now: datetime) -> str:
        """booked → arrived → fulfilled as time passes; of a hundred, four are cancelled ahead and six not kept."""
        if self.state:
            return self.state
        if self.fate < _CANCELLED_SHARE:
            return "cancelled"
        if now < self.start:
            return "booked"
        if self.fate < _CANCELLED_SHARE + _NOT_KEPT_SHARE:
            return "noshow"
        return "arrived" if now < self.end else "fulfilled"


@dataclass(frozen=True, slots=True)
class Practice:
    """One practice, as its seed makes it; `group` is the id of the Group that holds every patient."""

    name: str
    seed: int
    zone: ZoneInfo
    patients: People = field(repr=False, compare=False)
    practitioners: Mapping[str, Practitioner]
    locations: Mapping[str, Location]
    group: str
    by_cycle_day: Mapping[int, tuple[tuple[str, str], ...]] = field(repr=False)
    """Day of the cycle → (patient id, series) of who comes then."""
    shares: Shares = NO_SHARES
    made: int = 0
    """How many patients the seed made; who is registered later has no special role."""

    def appointments_of(self, patient_id: str, first: date, days: int) -> Iterator[Appointment]:
        """A patient's own of so many days from `first` on; nobody else's are made for it."""
        series = {
            day: [one for patient, one in rows if patient == patient_id] for day, rows in self.by_cycle_day.items()
        }
        for day in (first + timedelta(days=offset) for offset in range(days)):
            for one in series.get((day - _EPOCH).days % CYCLE_DAYS, ()):
                yield _appointment(self, patient_id, one, day)

    def special(self) -> Iterator[Place]:
        """Everybody with a role, block by block."""
        return places(self.seed, self.shares, self.made)

    def appointments_on(self, day: date) -> tuple[Appointment, ...]:
        """The appointments that begin on a day of the practice's time zone, by start."""
        cycle_day = (day - _EPOCH).days % CYCLE_DAYS
        rows = [_appointment(self, patient, series, day) for patient, series in self.by_cycle_day.get(cycle_day, ())]
        return tuple(sorted(rows, key=lambda row: (row.start, row.id)))


def make_practice(
    name: str, seed: int, *, patients: int, time_zone: str = "America/Chicago", shares: Shares = NO_SHARES
) -> Practice:
    """The practice of a seed with so many patients. Raises ValueError for less than one patient."""
    if patients < 1:
        raise ValueError("a practice has one patient or more")
    seed = number(seed, "practice", name)
    staff = [_practitioner(seed, index) for index in range(len(PRACTITIONERS))]
    rooms = [Location(epic_id(seed, "location", code), title, code) for title, code in LOCATIONS]
    people = People(
        tuple(epic_id(seed, "patient", index) for index in range(patients)),
        lambda index: _person(seed, index, staff, shares, patients),
    )
    ended = {
        epic_id(seed, "patient", place.index): epic_id(seed, "patient", place.partner)
        for place in places(seed, shares, patients)
        if place.role is Role.MERGED
    }
    days: dict[int, list[tuple[str, str]]] = {}
    for patient_id in people:
        for series in ("first", "second"):
            if series == "second" and not percent(DAY_SHARE_OF_SECOND_SERIES, seed, "second", patient_id):
                continue
            working_day = below(WORKING_DAYS, seed, "day", series, patient_id)
            cycle_day = working_day // 5 * 7 + working_day % 5
            # The visits of a record that ended are those of the one that goes on; they keep their days.
            survivor = ended.get(patient_id)
            row = (patient_id, series) if survivor is None else (survivor, f"{series} of {patient_id}")
            days.setdefault(cycle_day, []).append(row)
    return Practice(
        name,
        seed,
        ZoneInfo(time_zone),
        people,
        {row.id: row for row in staff},
        {row.id: row for row in rooms},
        epic_id(seed, "group"),
        {day: tuple(rows) for day, rows in days.items()},
        shares,
        patients,
    )


def _practitioner(seed: int, index: int) -> Practitioner:
    family, given, suffix = PRACTITIONERS[index]
    return Practitioner(
        epic_id(seed, "practitioner", index),
        f"10{index}{number(seed, 'npi', index) % 10**7:07d}",
        family,
        given,
        suffix,
    )


def _patient(seed: int, index: int, staff: list[Practitioner]) -> Patient:
    # Every row of names is met in turn, so that even a small practice holds every script.
    families, female, male = NAMES[index % len(NAMES)]
    sex = choice(("female", "male"), seed, "sex", index)
    given = choice(female if sex == "female" else male, seed, "given", index)
    city, state, zip_prefix = choice(CITIES, seed, "city", index)
    born = date(1930, 1, 1) + timedelta(days=below(94 * 365, seed, "born", index))
    line = f"{1 + below(9800, seed, 'house', index)} {choice(STREETS, seed, 'street', index)}"
    return Patient(
        id=epic_id(seed, "patient", index),
        mrn=f"{200_000 + index * 7 + below(7, seed, 'mrn', index)}",
        family=choice(families, seed, "family", index),
        given=(given, choice(("A", "J", "M", "R"), seed, "middle", index))
        if percent(30, seed, "two", index)
        else (given,),
        birth_date=born,
        sex="unknown" if percent(2, seed, "unknown-sex", index) else sex,
        # 555-01xx is kept free of subscribers.
        phone=f"312-555-01{below(100, seed, 'phone', index):02d}" if percent(92, seed, "has-phone", index) else None,
        email=f"patient{index}@example.org" if percent(60, seed, "has-email", index) else None,
        address=Address(line, city, state, f"{zip_prefix}{below(100, seed, 'zip', index):02d}"),
        practitioner=_doctor_of(seed, index, [row.id for row in staff]),
    )


def _person(seed: int, index: int, staff: list[Practitioner], shares: Shares, count: int) -> Patient:
    """The patient of an index with the role that it has; who was registered after the first `count` has none."""
    own = _patient(seed, index, staff)
    if index >= count:
        return own
    other = partner_place(seed, shares, index, count)
    if other is not None and other.role is Role.TWIN:
        return replace(own, guarantor=own.id)
    if other is not None and other.role is Role.MERGED:
        return replace(own, replaces=(epic_id(seed, "patient", other.index),))
    place = place_of(seed, shares, index)
    if place is None:
        return own
    return _with_role(seed, own, place, _patient(seed, place.partner, staff))


def _with_role(seed: int, own: Patient, place: Place, partner: Patient) -> Patient:
    index = place.index
    if place.role is Role.MOVED:
        city, state, zip_prefix = choice(CITIES, seed, "former-city", index)
        line = f"{10_000 + below(900, seed, 'former-house', index)} {choice(STREETS, seed, 'former-street', index)}"
        return replace(
            own,
            former_address=Address(line, city, state, f"{zip_prefix}{below(100, seed, 'former-zip', index):02d}"),
            moved_on=date(2023, 1, 1) + timedelta(days=below(360, seed, "moved", index)),
            # 608 is another exchange area than everybody else's: the phone changed with the move.
            phone=f"608-555-01{below(100, seed, 'phone', index):02d}",
        )
    if place.role is Role.TWIN:
        _, female, male = NAMES[place.partner % len(NAMES)]
        names = [name for name in (*female, *male) if name != partner.given[0]]
        given = choice(names, seed, "twin-given", index)
        return replace(
            own,
            family=partner.family,
            given=(given,),
            sex="female" if given in female else "male",
            birth_date=partner.birth_date,
            address=partner.address,
            phone=partner.phone,
            guarantor=partner.id,
        )
    double = replace(partner, id=own.id, mrn=own.mrn, email=own.email, practitioner=own.practitioner)
    if place.role is Role.DUPLICATE:
        family, born = mistyped(partner.family, partner.birth_date, seed, index)
        return replace(double, family=family, birth_date=born)
    return replace(double, active=False, replaced_by=partner.id)


def _doctor_of(seed: int, index: int, staff: Sequence[str]) -> str:
    return choice(staff, seed, "practitioner-of", index)


def _appointment(practice: Practice, patient_id: str, series: str, day: date) -> Appointment:
    seed = practice.seed
    what = (patient_id, series, day)
    code, display, minutes = choice(VISIT_TYPES, seed, "visit", *what)
    minute = _OPENS_MINUTE + _SLOT_MINUTES * below(_SLOTS, seed, "slot", *what)
    local = datetime.combine(day, time(minute // 60, minute % 60), practice.zone)
    start = local.astimezone(UTC)
    return Appointment(
        id=epic_id(seed, "appointment", *what),
        csn=f"{10**11 + number(seed, 'csn', *what) % 10**11}",
        patient=patient_id,
        practitioner=_doctor_of(seed, practice.patients.index_of(patient_id), tuple(practice.practitioners)),
        location=choice(tuple(practice.locations), seed, "place", *what),
        start=start,
        minutes=minutes,
        visit_type=(code, display),
        fate=below(100, seed, "fate", *what),
        created=start - timedelta(days=30 + below(40, seed, "booked", *what), hours=below(9, seed, "hour", *what)),
        reason=choice(("", "", "Annual check", "Cough", "Medication review"), seed, "reason", *what),
    )
