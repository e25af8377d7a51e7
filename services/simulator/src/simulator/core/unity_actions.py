"""What Unity's actions do on a practice's chart: one function each, and the table of them.

Parameters follow the sources where there are any; those of SaveAppointment and SetAppointmentStatus and the XML of
PM's SearchPatients are in no public source and are assumed (docs/simulator.md lists them).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from simulator.core.chance import below
from simulator.core.change import new_appointment
from simulator.core.chart import Chart
from simulator.core.names import VISIT_TYPES
from simulator.core.practice import CYCLE_DAYS, Appointment, Patient, Practice
from simulator.core.search import plain
from simulator.core.unity_rows import (
    STATUSES,
    appointment_row,
    entry,
    letter_of,
    local_instant,
    local_text,
    patient_row,
)
from simulator.core.unity_server import (
    SYSTEMS,
    VERSION,
    ActionError,
    ActionRow,
    Product,
    UnityCall,
    UnityState,
    same,
)

Rows = list[dict[str, str]]
PM_ROWS_MAX: Final = 100
EHR_ROWS_MAX: Final = 1_000  # assumed: no source says one
WINDOW_DAYS_MAX: Final = 400
# Near the ends of the calendar there are days without a day before or after them.
DAYS_AWAY_MAX: Final = 3_650
_BOOKED_AHEAD_DAYS_MAX: Final = 71
_CYCLE: Final = timedelta(days=CYCLE_DAYS)
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
_DAY_DIGITS: Final = 6
_ELEMENT: Final = re.compile(r"<(\w{1,40})>([^<]{0,200})</\1>")
_PATIENT_DIGITS_MAX: Final = 9
_MINUTES_MAX: Final = 1440


def _log_in(state: UnityState, call: UnityCall) -> Rows:
    accounts = state.accounts
    if not (same(call.user, accounts.user) & same(call.parameters[0], accounts.user_password)):
        return [{"ValidUser": "NO", "ErrorMessage": "Invalid user name or password."}]
    state.sessions.log_in(call.token, call.user)
    return [{"ValidUser": "YES"}]


def _server_info(state: UnityState, call: UnityCall) -> Rows:
    zone = state.chart.practice.zone
    local = call.now.astimezone(zone)
    return [
        {
            "ServerDateTimeOffset": local.isoformat(timespec="seconds"),
            "ServerTime": local_text(call.now, zone),
            "ServerTimeZone": zone.key,
            "ProductVersion": VERSION,
            "System": SYSTEMS[state.product],
        }
    ]


def _echo(_: UnityState, call: UnityCall) -> Rows:
    return [{"Echo": call.parameter(1)}]


def _last_logs(state: UnityState, _: UnityCall) -> Rows:
    return [{"Log": text} for text in reversed(state.logs)]


def _get_patient(state: UnityState, call: UnityCall) -> Rows:
    return [patient_row(state.chart.practice, _patient(state.chart, call.patient_id))]


def _patient(chart: Chart, text: str) -> Patient:
    people = chart.practice.patients
    if not (text.isascii() and text.isdecimal() and len(text) <= _PATIENT_DIGITS_MAX and 1 <= int(text) <= len(people)):
        raise ActionError("Patient not found.")
    patient = people.at(int(text) - 1)
    return chart.patient(patient.id) or patient


def _search_patients(state: UnityState, call: UnityCall) -> Rows:
    practice = state.chart.practice
    if state.product is Product.PM:
        wanted = _elements(call.parameter(1))
        rows = (row for row in state.chart.patients() if _fits(row, wanted))
        return [patient_row(practice, row) for row in islice(rows, PM_ROWS_MAX)]
    words = plain(call.parameter(1)).replace(",", " ").split()
    if not words:
        raise ActionError("Parameter1 is missing: text to search for.")
    rows = (
        row
        for row in state.chart.patients()
        if all(word in plain(f"{row.family} {' '.join(row.given)} {row.mrn}") for word in words)
    )
    return [patient_row(practice, row) for row in islice(rows, EHR_ROWS_MAX)]


def _elements(text: str) -> Mapping[str, str]:
    """Elements that hold text, by name in lower case. Declarations are refused, so nothing can be expanded."""
    if "<!" in text or "<" not in text:
        raise ActionError("Parameter1 is not the XML that is expected.")
    return {name.lower(): html.unescape(value).strip() for name, value in _ELEMENT.findall(text)}


def _fits(row: Patient, wanted: Mapping[str, str]) -> bool:
    held = {
        "lastname": plain(row.family),
        "firstname": plain(row.given[0]),
        "dateofbirth": row.birth_date.strftime("%m/%d/%Y") if row.birth_date else "",
        "mrn": row.mrn,
    }
    asked = {name: value for name, value in wanted.items() if name in held and value}
    if not asked:
        raise ActionError("Parameter1 needs LastName, FirstName, DateOfBirth or MRN.")
    return all(held[name].startswith(plain(value)) for name, value in asked.items())


def _get_changed_patients(state: UnityState, call: UnityCall) -> Rows:
    practice = state.chart.practice
    since = _instant(call.parameter(1), practice, "Parameter1")
    changed = sorted(
        (at, index)
        for index, patient_id in enumerate(practice.patients)
        if (at := _patient_changed_at(state.chart, patient_id, call.now)) >= since
    )
    return [{"patientid": str(index + 1)} for _, index in changed]


def _patient_changed_at(chart: Chart, patient_id: str, now: datetime) -> datetime:
    touched = chart.touched("Patient", patient_id)
    return touched[1] if touched is not None else touched_at(chart.practice, patient_id, now)


def touched_at(practice: Practice, patient_id: str, now: datetime) -> datetime:
    """When a patient's record was last touched: once in every cycle of five weeks, at an instant of its own."""
    offset = timedelta(seconds=below(int(_CYCLE.total_seconds()), practice.seed, "touched", patient_id))
    return now - (now - _EPOCH - offset) % _CYCLE


def _get_schedule(state: UnityState, call: UnityCall) -> Rows:
    first, last = _window(call, state.chart)
    since = _instant(call.parameter(2), state.chart.practice, "Parameter2") if call.parameter(2) else None
    user, types, letters = call.parameter(4), _listed(call.parameter(5)), _listed(call.parameter(6))
    rows = []
    for row in state.chart.appointments(first, last):
        letter, changed_at = _standing(state, row, call.now)
        if since is not None and not since <= changed_at <= call.now:
            continue
        doctor = state.chart.practice.practitioners[row.practitioner]
        if (user and user != doctor.npi) or (types and row.visit_type[0] not in types):
            continue
        if not letters or letter in letters:
            rows.append(_row(state, row, letter))
    return rows


def _window(call: UnityCall, chart: Chart) -> tuple[date, date]:
    first, bar, last = call.parameter(1).partition("|")
    low = _near(chart.local_day(_instant(first, chart.practice, "Parameter1")), call.now)
    high = chart.local_day(_instant(last, chart.practice, "Parameter1")) if bar else low
    if not 0 <= (high - low).days <= WINDOW_DAYS_MAX:
        raise ActionError(f"Parameter1 is a window of 1 to {WINDOW_DAYS_MAX} days.")
    return low, high


def _near(day: date, now: datetime) -> date:
    if abs((day - now.date()).days) > DAYS_AWAY_MAX:
        raise ActionError(f"The date is more than {DAYS_AWAY_MAX} days away.")
    return day


def _instant(text: str, practice: Practice, parameter: str) -> datetime:
    try:
        return local_instant(text, practice.zone)
    except ValueError as error:
        raise ActionError(f"{parameter} is not a date: {error}.") from None


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _standing(state: UnityState, row: Appointment, now: datetime) -> tuple[str, datetime]:
    """Status letter, and the instant of the last change up to now (that of its making for one still to come)."""
    found, touched = state.statuses.get(row.csn), state.chart.touched("Appointment", row.id)
    if found is not None and (touched is None or touched[1] <= found.at):
        return found.letter, found.at
    letter = letter_of(row, now)
    if touched is not None:
        return letter, touched[1]
    changed = row.created + timedelta(days=1) if letter == "X" else row.start
    return letter, changed if changed <= now else row.created


def _row(state: UnityState, row: Appointment, letter: str) -> dict[str, str]:
    patient = state.chart.patient(row.patient)
    assert patient is not None
    made = appointment_row(state.chart.practice, row, patient, letter)
    return made | {"AppointmentID": number_of(row, state.chart)}


def number_of(row: Appointment, chart: Chart) -> str:
    """AppointmentID: the visit's number, then six digits that lead back to its day."""
    return f"{row.csn}{chart.local_day(row.start).toordinal():0{_DAY_DIGITS}d}"


def _appointment(chart: Chart, number: str, now: datetime) -> Appointment:
    csn, ordinal = number[:-_DAY_DIGITS], number[-_DAY_DIGITS:]
    if number.isascii() and number.isdecimal() and 1 <= int(ordinal) <= date.max.toordinal():
        day = _near(date.fromordinal(int(ordinal)), now)
        found = [row for row in chart.appointments(day, day) if row.csn == csn]
        if found:
            return found[0]
    raise ActionError("Appointment not found.")


def _get_appointments_by_change(state: UnityState, call: UnityCall) -> Rows:
    chart, now = state.chart, call.now
    since = max(_instant(call.parameter(1), chart.practice, "Parameter1"), now - timedelta(days=WINDOW_DAYS_MAX))
    last = chart.local_day(now + timedelta(days=_BOOKED_AHEAD_DAYS_MAX))
    known: dict[str, Appointment] = {row.csn: row for row in _between(chart, chart.local_day(since), last)}
    known |= {row.csn: row for row in chart.moved()}
    known = {csn: status.row for csn, status in state.statuses.items()} | known
    standing = ((row, *_standing(state, row, now)) for row in known.values())
    changed = [(at, row.csn, _row(state, row, letter)) for row, letter, at in standing if since <= at <= now]
    return [row for _, _, row in sorted(changed, key=lambda each: each[:2])]


def _between(chart: Chart, first: date, last: date) -> Iterator[Appointment]:
    # A visit that ended after `first` began on that day or on the day before.
    return iter(chart.appointments(first - timedelta(days=1), last))


def _save_appointment(state: UnityState, call: UnityCall) -> Rows:
    chart, wanted = state.chart, _elements(call.parameter(1))
    if wanted.get("appointmentid"):
        raise ActionError("A booking is changed by setting its status to X and saving a new one.")
    patient = _patient(chart, wanted.get("patientid", call.patient_id))
    start = _instant(wanted.get("datetime", ""), chart.practice, "DateTime")
    _near(start.date(), call.now)
    minutes = wanted.get("duration", "")
    if minutes and not (minutes.isascii() and minutes.isdecimal() and 1 <= int(minutes) <= _MINUTES_MAX):
        raise ActionError(f"Duration is 1 to {_MINUTES_MAX} minutes.")
    row = new_appointment(chart, patient, start=start, minutes=int(minutes) if minutes else None, now=call.now)
    row = replace(row, **_chosen(chart.practice, wanted))
    day = chart.local_day(row.start)
    for other in chart.appointments(day, day):
        taken = other.patient == patient.id and other.start < row.end and row.start < other.end
        if taken and _standing(state, other, call.now)[0] != "X":
            return [{"STATUS": "Critical: the patient has another appointment at that time."}]
    chart.book(row)
    return [{"AppointmentID": number_of(row, chart), "STATUS": "Saved"}]


def _chosen(practice: Practice, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Visit type, provider and location by their codes; what is not given stays as chosen by the server."""
    offered: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("typecode", "visit_type", {code: (code, display) for code, display, _ in VISIT_TYPES}),
        ("providerid", "practitioner", {row.npi: row.id for row in practice.practitioners.values()}),
        ("locationcode", "location", {row.code: row.id for row in practice.locations.values()}),
    )
    found: dict[str, Any] = {}
    for element, name, codes in offered:
        if wanted.get(element):
            if wanted[element] not in codes:
                raise ActionError(f"{element} is not an entry of its dictionary.")
            found[name] = codes[wanted[element]]
    return found


def _set_appointment_status(state: UnityState, call: UnityCall) -> Rows:
    row, letter = _appointment(state.chart, call.parameter(1), call.now), call.parameter(2).upper()
    if letter not in STATUSES:
        raise ActionError(f"Parameter2 is one of {', '.join(STATUSES)}.")
    state.set_status(row, letter, call.now)
    return [{"AppointmentID": call.parameter(1), "Status": letter, "StatusName": STATUSES[letter]}]


def _dictionaries(practice: Practice) -> Mapping[str, Rows]:
    return {
        "AppointmentType": [entry(code, display) for code, display, _ in VISIT_TYPES],
        "AppointmentStatus": [entry(code, display) for code, display in STATUSES.items()],
        "Location": [entry(row.code, row.name) for row in practice.locations.values()],
        "Provider": [entry(row.npi, f"{row.family}, {row.given}") for row in practice.practitioners.values()],
        "Sex": [entry("F", "Female"), entry("M", "Male"), entry("U", "Unknown")],
    }


def _get_list_of_dictionaries(state: UnityState, call: UnityCall) -> Rows:
    wanted = call.parameter(1).lower()
    return [{"TableName": name} for name in _dictionaries(state.chart.practice) if not wanted or name.lower() == wanted]


def _get_dictionary(state: UnityState, call: UnityCall) -> Rows:
    wanted = call.parameter(1).lower()
    for name, rows in _dictionaries(state.chart.practice).items():
        if name.lower() == wanted:
            return rows
    raise ActionError("Parameter1 names no dictionary.")


def _get_providers(state: UnityState, _: UnityCall) -> Rows:
    return _dictionaries(state.chart.practice)["Provider"]


_ALL: Final = frozenset(Product)
_EHR: Final = frozenset({Product.TOUCHWORKS, Product.PROFESSIONAL})
_PM: Final = frozenset({Product.PM})
ACTIONS: Final[Mapping[str, ActionRow]] = {
    row.name.lower(): row
    for row in (
        ActionRow("GetUserAuthentication", _ALL, _log_in, before_log_in=True),
        ActionRow("GetServerInfo", _ALL, _server_info, before_log_in=True),
        ActionRow("Echo", _ALL, _echo, before_log_in=True),
        ActionRow("LastLogs", _ALL, _last_logs, before_log_in=True),
        ActionRow("GetPatient", _ALL, _get_patient),
        ActionRow("SearchPatients", _ALL, _search_patients),
        ActionRow("GetChangedPatients", _ALL, _get_changed_patients),
        ActionRow("GetProviders", _ALL, _get_providers),
        ActionRow("GetListOfDictionaries", _ALL, _get_list_of_dictionaries),
        ActionRow("GetDictionary", _ALL, _get_dictionary),
        ActionRow("GetSchedule", _EHR, _get_schedule),
        ActionRow("GetAppointmentsByChangeDTTM", _PM, _get_appointments_by_change),
        ActionRow("SaveAppointment", _PM, _save_appointment),
        ActionRow("SetAppointmentStatus", _PM, _set_appointment_status),
    )
}
