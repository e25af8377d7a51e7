"""Files of a day as interfaces without a network drop them: HL7 batches (chapter 2, §2.10.3) and CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from simulator.core.chart import Chart
from simulator.core.day_run import Told
from simulator.core.hl7_feed import SENDING_APPLICATION, escape, segment_of, timestamp
from simulator.core.practice import Practice
from simulator.core.resources import instant

CSV_COLUMNS: Final = (
    "event", "event_at", "mrn", "family", "given", "birth_date", "sex", "phone", "email", "address", "city", "state",
    "postal_code", "retired_mrn", "appointment_id", "start", "minutes", "visit_code", "status", "practitioner_npi",
    "location_code",
)  # fmt: skip


class FileForm(StrEnum):
    """How a file is written."""

    HL7 = "hl7"
    CSV = "csv"


def batch_file(practice: Practice, messages: Sequence[bytes], at: datetime, control_id: str) -> bytes:
    """One file with one batch: FHS, BHS, the messages, BTS with their number, FTS with the number of batches."""
    fields = {
        1: "^~\\&", 2: SENDING_APPLICATION, 3: escape(practice.name.upper()), 4: "PRACTICE_STUDIO", 5: "INTEGRATIONS",
        6: timestamp(at, practice), 10: control_id,
    }  # fmt: skip
    head = f"{segment_of('FHS', fields)}\r{segment_of('BHS', fields)}\r"
    foot = f"{segment_of('BTS', {1: str(len(messages))})}\r{segment_of('FTS', {1: '1'})}\r"
    return b"".join((head.encode(), *messages, foot.encode()))


def csv_file(rows: Sequence[Sequence[str]]) -> bytes:
    """UTF-8 with a header line; lines end in CR LF."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows((CSV_COLUMNS, *rows))
    return text.getvalue().encode()


def csv_row(chart: Chart, told: Told, at: datetime) -> tuple[str, ...]:
    """One line of what a message tells, in the order of `CSV_COLUMNS`; instants are UTC."""
    patient, home, row = told.patient, told.patient.address, told.appointment
    person = (
        told.kind, instant(at), patient.mrn, patient.family, " ".join(patient.given),
        patient.birth_date.isoformat() if patient.birth_date else "", patient.sex, patient.phone or "",
        patient.email or "",
    )  # fmt: skip
    place = (home.line, home.city, home.state, home.postal_code) if home is not None else ("",) * 4
    ended = told.ended.mrn if told.ended is not None else ""
    if row is None:
        return (*person, *place, ended, *("",) * 7)
    practice = chart.practice
    visit = (
        row.csn, instant(row.start), str(row.minutes), row.visit_type[0], row.state,
        practice.practitioners[row.practitioner].npi, practice.locations[row.location].code,
    )  # fmt: skip
    return (*person, *place, ended, *visit)
