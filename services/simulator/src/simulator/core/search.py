"""FHIR searches over a chart, with Epic's demands: what a search must carry, and what it finds.

Unknown parameters are ignored without a word, as the real server mostly does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

from simulator.core.chart import Chart
from simulator.core.practice import MRN_SYSTEM, Appointment, Patient
from simulator.core.resources import (
    appointment_resource,
    group_resource,
    location_resource,
    patient_resource,
    practitioner_resource,
)

Parameters = Mapping[str, Sequence[str]]
Maker = Callable[[], dict[str, Any]]
"""Makes a resource when called: of all that a search finds, only a page is made."""
SEARCH_DAYS_MAX: Final = 400
IDS_MAX: Final = 100
_DATE: Final = re.compile(r"(eq|ge|le|gt|lt)?([0-9]{4}-[0-9]{2}-[0-9]{2})(T.+)?")


class SearchRefusedError(Exception):
    """A search that Epic refuses; the argument names a row of `outcomes`."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Window:
    """Instants from `low` up to, not including, `high`."""

    low: datetime
    high: datetime


def date_window(values: Sequence[str], zone: ZoneInfo, now: datetime) -> Window:
    """The window that `date` parameters leave open; raises SearchRefusedError `element-invalid`."""
    low, high = now - timedelta(days=SEARCH_DAYS_MAX), now + timedelta(days=SEARCH_DAYS_MAX)
    for value in values:
        prefix, first, after = _span(value, zone)
        if prefix in {"eq", "ge"}:
            low = max(low, first)
        if prefix == "gt":
            low = max(low, after)
        if prefix in {"eq", "le"}:
            high = min(high, after)
        if prefix == "lt":
            high = min(high, first)
    return Window(low, high)


def _span(value: str, zone: ZoneInfo) -> tuple[str, datetime, datetime]:
    """Prefix, first instant and the instant after a date (a whole local day) or a date with time (one second)."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise SearchRefusedError("element-invalid")
    try:
        if match[3] is None:
            day = date.fromisoformat(match[2])
            following = day + timedelta(days=1)
            first, after = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, following))
            return match[1] or "eq", first, after
        # A plus sign that was not escaped arrives as a blank.
        instant = datetime.fromisoformat((match[2] + match[3]).replace(" ", "+"))
        first = (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
        return match[1] or "eq", first, first + timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise SearchRefusedError("element-invalid") from None


def search(chart: Chart, resource: str, parameters: Parameters, now: datetime) -> list[Maker]:
    """What a search finds, in order. Raises SearchRefusedError."""
    return _SEARCHES[resource](chart, parameters, now)


def read(chart: Chart, resource: str, resource_id: str, now: datetime) -> dict[str, Any] | None:
    """One resource by its id."""
    if resource == "Group":
        return group_resource(chart.practice) if resource_id == chart.practice.group else None
    found = search(chart, resource, {"_id": [resource_id]}, now)
    return found[0]() if found else None


def _appointments(chart: Chart, parameters: Parameters, now: datetime) -> list[Maker]:
    if not any((*(values_of(parameters, name) for name in ("_id", "patient", "identifier")), parameters.get("date"))):
        raise SearchRefusedError("parameter-missing")
    return [partial(_appointment_of, chart, row, now) for row in appointment_rows(chart, parameters, now)]


def appointment_rows(chart: Chart, parameters: Parameters, now: datetime) -> list[Appointment]:
    """The appointments that a search asks for, by start. Raises SearchRefusedError for a date that is none."""
    wanted = {name: values_of(parameters, name) for name in ("_id", "patient", "practitioner", "location", "status")}
    window = date_window(parameters.get("date", ()), chart.practice.zone, now)
    wanted["csn"] = [value.rpartition("|")[2] for value in values_of(parameters, "identifier")]
    # Only what was asked for is looked at: a window is often all there is.
    checks: list[tuple[Callable[[Appointment], str], frozenset[str]]] = [
        (_attribute(name, now), frozenset(values)) for name, values in wanted.items() if values
    ]

    def fits(row: Appointment) -> bool:
        return window.low <= row.start < window.high and all(get(row) in values for get, values in checks)

    if window.low >= window.high:
        return []
    days = (chart.local_day(window.low), chart.local_day(window.high - timedelta(microseconds=1)))
    return [row for row in chart.appointments(*days) if fits(row)]


def _appointment_of(chart: Chart, row: Appointment, now: datetime) -> dict[str, Any]:
    patient = chart.patient(row.patient)
    assert patient is not None
    return appointment_resource(chart.practice, row, patient, now)


def _attribute(name: str, now: datetime) -> Callable[[Appointment], str]:
    if name == "status":
        return lambda row: row.status_at(now)
    return attrgetter("id" if name == "_id" else name)


def _patients(chart: Chart, parameters: Parameters, _: datetime) -> list[Maker]:
    return [partial(patient_resource, chart.practice, row) for row in _patient_rows(chart, parameters)]


def _patient_rows(chart: Chart, parameters: Parameters) -> list[Patient]:
    ids = values_of(parameters, "_id")
    if ids:
        if len(ids) > IDS_MAX:
            raise SearchRefusedError("element-invalid")
        return [patient for patient in map(chart.patient, ids) if patient is not None]
    numbers = _numbers(parameters)
    if numbers:
        return [row for row in chart.patients() if row.mrn in numbers]
    name = bool(parameters.get("name") or (parameters.get("family") and parameters.get("given")))
    if not name or not (parameters.get("birthdate") or parameters.get("telecom")):
        raise SearchRefusedError("demographics-required")
    return [row for row in chart.patients() if same_person(row, parameters)]


def _numbers(parameters: Parameters) -> set[str]:
    """Values of `identifier` (`system|value` or `value`) in the system of medical record numbers."""
    found = set()
    for value in values_of(parameters, "identifier"):
        system, bar, number = value.rpartition("|")
        found.add(number if not bar or system in {"", MRN_SYSTEM} else "")
    return found


def same_person(row: Patient, parameters: Parameters) -> bool:
    """Whether a patient has the demographics that a search names; one that names none asks for everybody."""
    full = plain(" ".join((*row.given, row.family)))
    family, given = plain(row.family), plain(" ".join(row.given))
    phone = re.sub(r"\D", "", row.phone or "")
    born = row.birth_date.isoformat() if row.birth_date else ""
    checks: Mapping[str, Callable[[str], bool]] = {
        "name": lambda value: all(part in full for part in plain(value).split()),
        "family": lambda value: family.startswith(plain(value)),
        "given": lambda value: given.startswith(plain(value)),
        "birthdate": lambda value: born == value.removeprefix("eq"),
        "telecom": lambda value: phone == re.sub(r"\D", "", value),
        "gender": lambda value: row.sex == value,
    }
    return all(check(value) for name, check in checks.items() for value in parameters.get(name, ()))


def plain(text: str) -> str:
    """Lower case without diacritics: names are found by either spelling."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _practitioners(chart: Chart, parameters: Parameters, _: datetime) -> list[Maker]:
    ids, numbers = values_of(parameters, "_id"), {v.rpartition("|")[2] for v in values_of(parameters, "identifier")}
    names = [plain(value) for name in ("name", "family", "given") for value in parameters.get(name, ())]
    if not (ids or numbers or names):
        raise SearchRefusedError("parameter-missing")
    return [
        partial(practitioner_resource, row)
        for row in chart.practice.practitioners.values()
        if (not ids or row.id in ids)
        and (not numbers or row.npi in numbers)
        and all(name in plain(f"{row.given} {row.family}") for name in names)
    ]


def _locations(chart: Chart, parameters: Parameters, _: datetime) -> list[Maker]:
    ids, names = values_of(parameters, "_id"), [plain(value) for value in parameters.get("name", ())]
    if not (ids or names):
        raise SearchRefusedError("parameter-missing")
    return [
        partial(location_resource, row)
        for row in chart.practice.locations.values()
        if (not ids or row.id in ids) and all(plain(row.name).startswith(name) for name in names)
    ]


def values_of(parameters: Parameters, name: str) -> list[str]:
    """Values of a parameter, parted at commas; a reference counts by its id."""
    return [
        part.rpartition("/")[2] if name in {"patient", "practitioner", "location"} else part
        for value in parameters.get(name, ())
        for part in value.split(",")
        if part
    ]


_SEARCHES: Final[Mapping[str, Callable[[Chart, Parameters, datetime], list[Maker]]]] = {
    "Appointment": _appointments,
    "Patient": _patients,
    "Practitioner": _practitioners,
    "Location": _locations,
}
SEARCHED: Final = frozenset(_SEARCHES)
READ: Final = SEARCHED | {"Group"}
