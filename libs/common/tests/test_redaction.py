"""What may leave in logs and spans: listed names, in the listed shape."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.identifiers import type_id
from common.models.redaction import ALLOWED, project

RECORD = type_id("rec", 2**70)
PATIENT_TEXTS = (
    "Rivera, Alma",
    "Alma Rivera",
    "Rivera^Alma",
    "Müller",
    "1980-02-14 00:00",
    "PID|1||123456^^^EPIC^MR||Rivera^Alma",
    "alma@example.test, 555-0100",
    "x" * 200,
    "",
    "line\nbreak",
)


@given(st.dictionaries(st.text(max_size=20), st.text() | st.integers() | st.floats() | st.none() | st.binary()))
def test_only_listed_names_and_plain_values_are_kept(fields: dict[str, Any]) -> None:
    kept = project(fields)
    assert set(kept) <= set(ALLOWED)
    assert all(isinstance(value, (str, int, float, bool)) for value in kept.values())


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_no_listed_name_lets_a_patients_text_pass(name: str) -> None:
    assert [text for text in PATIENT_TEXTS if project({name: text})] == []
    assert project({name: {"name": "Rivera"}, f"{name}s": "ok"}) == {}
    assert project({name: ["Rivera"]}) == {}
    assert project({name: date(1980, 2, 14)}) == {}
    assert project({name: b"Rivera"}) == {}
    assert project({name: ValueError("Rivera")}) == {}


@pytest.mark.parametrize(
    "name", ["patient", "name", "family", "mrn", "identifier", "body", "message", "detail", "url", "path", "query"]
)
def test_names_that_hold_patients_are_not_listed(name: str) -> None:
    assert project({name: "ok"}) == {}


def test_an_id_of_ours_is_a_text_and_nobody_elses_number() -> None:
    assert project({"record_id": RECORD, "tenant": "ten_01h455vb4pex5vsknk084sn02q"}) == {
        "record_id": RECORD,
        "tenant": "ten_01h455vb4pex5vsknk084sn02q",
    }
    # a record number of the PMS under the name of ours
    assert project({"record_id": 12345678, "message_id": "12345678", "run_id": "MRN-12345678"}) == {}


def test_a_route_is_a_template_of_ours() -> None:
    assert project({"route": "/sync/v1/records/patient?name=Rivera"}) == {}
    assert project({"route": "/sync/v1/records/Rivera, Alma"}) == {}
    assert project({"code": "/sync/v1/records"}) == {}


def test_codes_numbers_and_truth_are_kept() -> None:
    fields = {
        "code": "peer.timeout",
        "route": "/sync/v1/records/{record_type}:search",
        "status": 503,
        "duration_ms": 1.5,
        "tolerated": True,
        "event_type": "ps.hl7.received",
    }
    assert project(fields) == fields


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_left_out(value: float) -> None:
    assert project({"duration_ms": value}) == {}
