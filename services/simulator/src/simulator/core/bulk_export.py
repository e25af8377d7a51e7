"""Group export (Bulk Data Access 2.0): started, polled, read as NDJSON; the same Group within a day is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from simulator.core.chance import epic_id
from simulator.core.chart import Chart
from simulator.core.resources import (
    appointment_resource,
    instant,
    location_resource,
    patient_resource,
    practitioner_resource,
)

GROUP_GAP: Final = timedelta(hours=24)
TYPES: Final = ("Patient", "Appointment", "Practitioner", "Location")
APPOINTMENT_DAYS: Final = 180
EXPORTS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Export:
    """One export: who asked, what for, and from when on it is ready."""

    id: str
    client_id: str
    practice: str
    group: str
    types: tuple[str, ...]
    request_url: str
    started_at: datetime
    ready_at: datetime
    since: str = ""
    """Only what changed since this instant (FHIR text); empty: everything."""

    def progress_percent(self, now: datetime) -> int:
        """How far it is, 0 to 100."""
        whole = (self.ready_at - self.started_at).total_seconds()
        done = (now - self.started_at).total_seconds()
        return 100 if now >= self.ready_at else max(0, int(100 * done / whole))


@dataclass(slots=True)
class Exports:
    """The exports of the simulated vendor. `takes_s` is how long one takes."""

    takes_s: float
    _by_id: dict[str, Export] = field(default_factory=dict)
    _last: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def start(
        self,
        client_id: str,
        chart: Chart,
        types: tuple[str, ...],
        request_url: str,
        now: datetime,
        *,
        gap: timedelta | None = GROUP_GAP,
        since: str = "",
    ) -> Export | None:
        """A new export; None when this client exported the Group less than `gap` ago."""
        group = chart.practice.group
        last = self._last.get((client_id, group))
        if gap is not None and last is not None and now - last < gap:
            return None
        export_id = epic_id(chart.practice.seed, "export", client_id, now.isoformat())
        export = Export(
            export_id,
            client_id,
            chart.practice.name,
            group,
            types,
            request_url,
            now,
            now + timedelta(seconds=self.takes_s),
            since,
        )
        self._last[(client_id, group)] = now
        self._by_id[export_id] = export
        while len(self._by_id) > EXPORTS_MAX:
            del self._by_id[next(iter(self._by_id))]
        return export

    def of(self, export_id: str, client_id: str, practice: str) -> Export | None:
        """An export of this client in this practice."""
        export = self._by_id.get(export_id)
        return export if export and (export.client_id, export.practice) == (client_id, practice) else None

    def held(self, export_id: str, practice: str) -> Export | None:
        """An export of whatever client in this practice."""
        export = self._by_id.get(export_id)
        return export if export and export.practice == practice else None

    def running(self, client_id: str, practice: str, now: datetime) -> bool:
        """Whether an export of this client in this practice is not ready yet."""
        mine = (one for one in self._by_id.values() if (one.client_id, one.practice) == (client_id, practice))
        return any(now < one.ready_at for one in mine)

    def cancel(self, export: Export) -> None:
        """Forget an export and its files."""
        self._by_id.pop(export.id, None)


def manifest(export: Export, base_url: str) -> dict[str, Any]:
    """The answer of a finished export: one file per type."""
    return {
        "transactionTime": instant(export.started_at),
        "request": export.request_url,
        "requiresAccessToken": True,
        "output": [{"type": name, "url": f"{base_url}/BulkRequest/{export.id}/{name}"} for name in export.types],
        "error": [],
    }


def file_of(export: Export, chart: Chart, name: str, now: datetime) -> bytes:
    """One file as NDJSON: a resource per line."""
    practice = chart.practice
    rows: list[dict[str, Any]]
    if name == "Patient":
        rows = [patient_resource(practice, row) for row in chart.patients()]
    elif name == "Practitioner":
        rows = [practitioner_resource(row) for row in practice.practitioners.values()]
    elif name == "Location":
        rows = [location_resource(row) for row in practice.locations.values()]
    else:
        day, span = chart.local_day(export.started_at), timedelta(days=APPOINTMENT_DAYS)
        rows = []
        for row in chart.appointments(day - span, day + span):
            patient = chart.patient(row.patient)
            if patient is not None:
                rows.append(appointment_resource(practice, row, patient, now))
    return b"".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows)
