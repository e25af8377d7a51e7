"""Requests as values, answers as named results: the shapes that servers really send."""

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms import fhir
from pms.fhir import AnswerKind

BASE = "https://ehr.example/api/FHIR/R4"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)


def test_appointments_of_a_window() -> None:
    request = fhir.appointments_in_window(date(2026, 3, 1), date(2026, 3, 7), count=100)
    assert request.operation == "Appointment.search"
    assert request.url(BASE) == f"{BASE}/Appointment?date=ge2026-03-01&date=le2026-03-07&_count=100"
    assert request.headers["Accept"] == "application/fhir+json"


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        fhir.appointments_in_window(date(2026, 3, 2), date(2026, 3, 1), count=10)


def test_patients_by_id() -> None:
    assert fhir.patients_by_id(["ea", "eb"]).url(BASE + "/") == f"{BASE}/Patient?_id=ea,eb&_count=2"


@pytest.mark.parametrize("ids", [[], ["a,b"], ["a", ""]])
def test_ids_that_would_ask_for_something_else_are_refused(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="_id"):
        fhir.patients_by_id(ids)


def test_other_requests() -> None:
    assert fhir.metadata().url(BASE) == f"{BASE}/metadata"
    assert fhir.read("Patient", "a/b").path == "Patient/a%2Fb"
    assert fhir.smart_configuration().url(BASE) == f"{BASE}/.well-known/smart-configuration"
    export = fhir.group_export("eG", ["Patient", "Appointment"], since="2026-01-01T00:00:00Z")
    assert export.headers["Prefer"] == "respond-async"
    assert export.path == "Group/eG/$export"
    assert ("_since", "2026-01-01T00:00:00Z") in export.query


@pytest.mark.parametrize(
    ("link", "same"),
    [
        (f"{BASE}/Appointment?sessionID=x", True),
        ("https://EHR.example:443/other", True),
        ("http://ehr.example/api/FHIR/R4", False),
        ("https://ehr.example:8443/api/FHIR/R4", False),
        ("https://ehr.example.evil.test/", False),
        ("https://[broken", False),
        ("/relative", False),
    ],
)
def test_a_link_to_elsewhere_is_seen(link: str, same: bool) -> None:
    assert fhir.same_origin(BASE, link) is same


def test_a_page_by_search_mode_with_its_next_link() -> None:
    body = {
        "resourceType": "Bundle",
        "total": 1,
        "link": [{"relation": "self", "url": "s"}, {"relation": "next", "url": "https://ehr.example/x?y=%20&z"}],
        "entry": [
            {"resource": {"resourceType": "Appointment", "id": "1"}},
            {"resource": {"resourceType": "Patient", "id": "2"}, "search": {"mode": "include"}},
            {
                "resource": {
                    "resourceType": "OperationOutcome",
                    "issue": [{"severity": "warning", "code": "processing"}],
                }
            },
            {"fullUrl": "without a resource"},
        ],
    }
    bundle = fhir.parse_answer("application/fhir+json", json.dumps(body).encode()).bundle
    assert bundle is not None
    assert [row["id"] for row in bundle.matches] == ["1"]
    assert [row["id"] for row in bundle.included] == ["2"]
    assert [issue.severity for issue in bundle.issues] == ["warning"]
    assert bundle.next == "https://ehr.example/x?y=%20&z"
    assert bundle.total == 1


def test_an_empty_result_with_an_outcome_entry_is_empty() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "processing"}]}
    bundle = fhir.parse_bundle({"entry": [{"resource": outcome, "search": {"mode": "outcome"}}]})
    assert bundle.empty
    assert bundle.next is None
    assert len(bundle.issues) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        ("application/fhir+json", b"", AnswerKind.EMPTY),
        ("", b" \r\n", AnswerKind.EMPTY),
        ("text/html", b"<html>", AnswerKind.HTML),
        ("", b"<!DOCTYPE HTML><title>404</title>", AnswerKind.HTML),
        ("application/fhir+xml", b'<?xml version="1.0"?><Bundle/>', AnswerKind.XML),
        ("application/fhir+json", b'\xef\xbb\xbf<Patient xmlns="x"/>', AnswerKind.XML),
        ("text/plain", b"Tenant not valid", AnswerKind.NOT_JSON),
        ("application/json", b'{"access_token":"x"}', AnswerKind.NOT_FHIR),
        ("application/json", b"[1]", AnswerKind.NOT_FHIR),
        ("application/json", b"[" * 100_000, AnswerKind.NOT_JSON),
        ("application/fhir+json", b'\xef\xbb\xbf{"resourceType":"Patient"}', AnswerKind.RESOURCE),
        ("application/fhir+json", b'{"resourceType":"OperationOutcome"}', AnswerKind.OUTCOME),
    ],
)
def test_bodies_are_named_for_what_they_are(content_type: str, body: bytes, kind: AnswerKind) -> None:
    assert fhir.parse_answer(content_type, body).kind is kind


@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_bytes_give_an_answer(body: bytes, content_type: str) -> None:
    assert fhir.parse_answer(content_type, body).kind in AnswerKind


@given(st.dictionaries(st.sampled_from(["entry", "link", "total", "issue", "rest", "software"]), JSON_VALUES))
def test_any_shape_of_a_bundle_is_read(document: dict) -> None:
    assert fhir.parse_bundle(document).next is None or isinstance(document["link"], list)
    assert isinstance(fhir.parse_outcome(document), tuple)
    assert fhir.parse_metadata({**document, "resourceType": "CapabilityStatement"}) is not None


def test_references_of_participants() -> None:
    appointment = {
        "participant": [
            {"actor": {"reference": "Patient/p1/_history/3"}},
            {"actor": {"reference": f"{BASE}/Patient/p2"}},
            {"actor": {"reference": "Practitioner/d"}},
            {"actor": {"reference": "Patient/p1"}},
            {"actor": {"display": "no reference"}},
            "broken",
        ]
    }
    assert fhir.references(appointment, "Patient") == ("p1", "p2")
    assert fhir.references({}, "Patient") == ()


def test_metadata() -> None:
    document = {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "software": {"name": "Epic", "version": "May 2026"},
        "rest": [{"resource": [{"type": "Patient", "interaction": [{"code": "read"}]}]}],
    }
    found = fhir.parse_metadata(document)
    assert found is not None
    assert (found.fhir_version, found.software) == ("4.0.1", "Epic")
    assert found.offers("Patient", "read")
    assert not found.offers("Patient", "create")
    assert fhir.parse_metadata({"resourceType": "Patient"}) is None


def test_patient_text_is_not_in_what_is_printed() -> None:
    issue = fhir.Issue("error", "invalid", text="Jane Doe is locked")
    answer = fhir.FhirAnswer(AnswerKind.RESOURCE, resource={"name": "Jane Doe"})
    assert "Jane" not in repr(issue) + repr(answer)
