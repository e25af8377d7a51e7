"""FHIR searches without a vendor's demands: over what the seed makes and over what clients wrote.

What a vendor demands of a search is its dialect's; parameters that nobody knows are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

from simulator.core.billing import (
    ACCOUNT,
    CHARGE,
    COVERAGE,
    ENCOUNTER,
    account_resource,
    charge_resources,
    coverage_resource,
    encounter_resource,
    slot_resources,
)
from simulator.core.chart import Chart
from simulator.core.practice import Appointment, Patient
from simulator.core.resources import (
    appointment_resource,
    group_resource,
    location_resource,
    patient_resource,
    practitioner_resource,
)
from simulator.core.search import (
    Maker,
    Parameters,
    appointment_rows,
    date_window,
    plain,
    same_person,
    values_of,
)
from simulator.core.written import Written, touched_at, with_meta

SLOT_DAYS_MAX: Final = 31
_OF_VISITS: Final = frozenset({"date", "patient", "practitioner", "location"})


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a server looks: the practice's chart, what was written, and the types that tell when they changed."""

    chart: Chart
    written: Written
    dated: frozenset[str]
    dress: Callable[[dict[str, Any]], dict[str, Any]] = lambda resource: resource
    """Gives a resource of the practice the vendor's own codings."""


def find(shelf: Shelf, kind: str, parameters: Parameters, now: datetime) -> list[Maker]:
    """What a search finds, in order: the practice's own first. Raises SearchRefusedError for a date that is none."""
    window = parameters.get("_lastUpdated", ()) if kind in shelf.dated else ()
    changed = date_window(window, shelf.chart.practice.zone, now) if window else None
    seed = shelf.chart.practice.seed
    found: list[Maker] = []
    for resource_id, make in _rows(shelf.chart, kind, parameters, now):
        if shelf.written.of(kind, resource_id) is not None:
            continue
        version, touched = shelf.chart.touched(kind, resource_id) or (1, touched_at(seed, kind, resource_id, now))
        if changed is None or changed.low <= touched < changed.high:
            found.append(partial(_made, shelf, kind, make, version, touched))
    for _, held in shelf.written.all(kind):
        fits = held.resource is not None and _fits(held.resource, parameters, shelf, now)
        if fits and (changed is None or changed.low <= held.updated_at < changed.high):
            updated = held.updated_at if kind in shelf.dated else None
            found.append(partial(with_meta, held.resource or {}, held.version, updated))
    return found


def read(shelf: Shelf, kind: str, resource_id: str, now: datetime) -> tuple[dict[str, Any], int] | None:
    """A resource with its version; None: there is none, or it was deleted (`Written.of` tells which)."""
    held = shelf.written.of(kind, resource_id)
    if held is not None:
        if held.resource is None:
            return None
        return with_meta(held.resource, held.version, held.updated_at if kind in shelf.dated else None), held.version
    rows = _rows(shelf.chart, kind, {"_id": [resource_id]}, now)
    made = next((make for one, make in rows if one == resource_id), None)
    if made is None:
        return None
    seed = shelf.chart.practice.seed
    version, touched = shelf.chart.touched(kind, resource_id) or (1, touched_at(seed, kind, resource_id, now))
    return _made(shelf, kind, made, version, touched), version


def _made(shelf: Shelf, kind: str, make: Maker, version: int, touched: datetime) -> dict[str, Any]:
    return with_meta(shelf.dress(make()), version, touched if kind in shelf.dated else None)


Row = tuple[str, Maker]


def _rows(chart: Chart, kind: str, parameters: Parameters, now: datetime) -> Iterator[Row]:
    return _KINDS[kind](chart, parameters, now)


def _patients(chart: Chart, parameters: Parameters, _: datetime) -> Iterator[Row]:
    for row in _people(chart, parameters, "_id", ""):
        if same_person(row, parameters):
            yield row.id, partial(patient_resource, chart.practice, row)


def _people(chart: Chart, parameters: Parameters, name: str, suffix: str) -> Iterator[Patient]:
    """The patients that a parameter names by id, or all; `identifier` is a medical record number."""
    ids = [one.removesuffix(suffix) for one in values_of(parameters, name)]
    numbers = {one.rpartition("|")[2] for one in values_of(parameters, "identifier")} if not suffix else set()
    people = (row for one in ids if (row := chart.patient(one)) is not None) if ids else chart.patients()
    return (row for row in people if not numbers or row.mrn in numbers)


def _of_patients(
    make: Callable[[Chart, Patient], dict[str, Any] | None], suffix: str
) -> Callable[[Chart, Parameters, datetime], Iterator[Row]]:
    def rows(chart: Chart, parameters: Parameters, _: datetime) -> Iterator[Row]:
        wanted = set(values_of(parameters, "patient")) | set(values_of(parameters, "beneficiary"))
        for patient in _people(chart, parameters, "_id", suffix):
            resource = make(chart, patient) if not wanted or patient.id in wanted else None
            if resource is not None:
                yield resource["id"], partial(dict, resource)

    return rows


def _appointments(chart: Chart, parameters: Parameters, now: datetime) -> Iterator[Row]:
    for row in appointment_rows(chart, parameters, now):
        yield row.id, partial(_appointment, chart, row, now)


def _appointment(chart: Chart, row: Appointment, now: datetime) -> dict[str, Any]:
    patient = chart.patient(row.patient)
    assert patient is not None
    return appointment_resource(chart.practice, row, patient, now)


def _visits(chart: Chart, parameters: Parameters, now: datetime, suffix: str) -> Iterator[Appointment]:
    """The appointments that encounters or charges are asked of."""
    ids = [one.rpartition(suffix)[0] for one in values_of(parameters, "_id")]
    narrowed = {name: values for name, values in parameters.items() if name in _OF_VISITS}
    return iter(appointment_rows(chart, narrowed | ({"_id": ids} if ids else {}), now))


def _encounters(chart: Chart, parameters: Parameters, now: datetime) -> Iterator[Row]:
    for row in _visits(chart, parameters, now, ENCOUNTER):
        resource = encounter_resource(chart.practice, row, now)
        if resource is not None:
            yield resource["id"], partial(dict, resource)


def _charges(chart: Chart, parameters: Parameters, now: datetime) -> Iterator[Row]:
    for row in _visits(chart, parameters, now, CHARGE):
        for resource in charge_resources(chart.practice, row, now):
            yield resource["id"], partial(dict, resource)


def _slots(chart: Chart, parameters: Parameters, now: datetime) -> Iterator[Row]:
    window = date_window(parameters.get("start", ()), chart.practice.zone, now)
    ids = frozenset(values_of(parameters, "_id"))
    first, last = chart.local_day(window.low), chart.local_day(window.high - timedelta(microseconds=1))
    if ids:
        days = _slot_days(ids)
    else:
        days = [first + timedelta(days=number) for number in range(min((last - first).days + 1, SLOT_DAYS_MAX))]
    for day in days:
        for resource in slot_resources(chart, day, now):
            start = datetime.fromisoformat(resource["start"])
            if (ids and resource["id"] in ids) or (not ids and window.low <= start < window.high):
                yield resource["id"], partial(dict, resource)


def _slot_days(ids: Iterable[str]) -> list[date]:
    """The days that ids of slots name; an id that is none names no day."""
    days = set()
    for one in ids:
        text = one.split(".")[-2:][0]
        try:
            days.add(date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:]}"))
        except ValueError:
            continue
    return sorted(days)


def _practitioners(chart: Chart, parameters: Parameters, _: datetime) -> Iterator[Row]:
    ids, numbers = values_of(parameters, "_id"), {v.rpartition("|")[2] for v in values_of(parameters, "identifier")}
    names = [plain(value) for name in ("name", "family", "given") for value in parameters.get(name, ())]
    for row in chart.practice.practitioners.values():
        named = all(name in plain(f"{row.given} {row.family}") for name in names)
        if named and (not ids or row.id in ids) and (not numbers or row.npi in numbers):
            yield row.id, partial(practitioner_resource, row)


def _locations(chart: Chart, parameters: Parameters, _: datetime) -> Iterator[Row]:
    ids, names = values_of(parameters, "_id"), [plain(value) for value in parameters.get("name", ())]
    for row in chart.practice.locations.values():
        if (not ids or row.id in ids) and all(plain(row.name).startswith(name) for name in names):
            yield row.id, partial(location_resource, row)


def _groups(chart: Chart, parameters: Parameters, _: datetime) -> Iterator[Row]:
    ids = values_of(parameters, "_id")
    if not ids or chart.practice.group in ids:
        yield chart.practice.group, partial(group_resource, chart.practice)


_KINDS: Final[Mapping[str, Callable[[Chart, Parameters, datetime], Iterator[Row]]]] = {
    "Account": _of_patients(lambda chart, row: account_resource(chart.practice, row), ACCOUNT),
    "Appointment": _appointments,
    "ChargeItem": _charges,
    "Coverage": _of_patients(lambda chart, row: coverage_resource(chart.practice, row), COVERAGE),
    "Encounter": _encounters,
    "Group": _groups,
    "Location": _locations,
    "Patient": _patients,
    "Practitioner": _practitioners,
    "Slot": _slots,
}
KINDS: Final = frozenset(_KINDS)


def _fits(resource: Mapping[str, Any], parameters: Parameters, shelf: Shelf, now: datetime) -> bool:
    """Whether a written resource is what a search asks for, by the parameters that matter for one."""
    ids = values_of(parameters, "_id")
    if ids and resource["id"] not in ids:
        return False
    numbers = {one.rpartition("|")[2] for one in values_of(parameters, "identifier")}
    if numbers and not numbers & {one.get("value") for one in resource.get("identifier", ())}:
        return False
    references = _references(resource)
    for name, kind in (("patient", "Patient"), ("practitioner", "Practitioner"), ("location", "Location")):
        wanted = values_of(parameters, name)
        if wanted and not references & {f"{kind}/{one}" for one in wanted}:
            return False
    start = resource.get("start") or resource.get("period", {}).get("start")
    if start and parameters.get("date"):
        window = date_window(parameters["date"], shelf.chart.practice.zone, now)
        if not window.low <= datetime.fromisoformat(start) < window.high:
            return False
    statuses = values_of(parameters, "status")
    return not statuses or resource.get("status") in statuses


def _references(value: Any) -> set[str]:
    """Every reference in a resource."""
    if isinstance(value, Mapping):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own.union(*map(_references, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return set().union(*map(_references, value))
    return set()
