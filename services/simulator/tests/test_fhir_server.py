"""The Epic-like server against what was captured from real ones."""

import json
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.answer import Answer
from simulator.core.bulk_export import Exports
from simulator.core.chart import Chart
from simulator.core.fhir_server import FhirCall, FhirServer
from simulator.core.paging import PageToken, decode_token
from simulator.core.practice import make_practice
from simulator.core.tokens import Tokens

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
BASE = "http://sim.test/epic/demo/api/FHIR/R4"
SCOPES = ("system/*.read",)
JSON = "application/fhir+json"
PRACTICE = make_practice("demo", 7, patients=60)
PATH_PARTS = ("Patient", "Appointment", "Group", "$export", "_search", "BulkRequest", "metadata", "x", "")
PARAMETERS = ("_id", "date", "_count", "sessionID", "identifier", "name", "birthdate", "_type")


def server(scopes: tuple[str, ...] = SCOPES) -> FhirServer:
    tokens = Tokens(300)
    tokens.issue("good", "app", "demo", scopes, NOW)
    return FhirServer(Chart(PRACTICE), tokens, Exports(2.0), BASE, "http://sim.test/token")


def get(
    fhir: FhirServer, path: str, *, now: datetime = NOW, token: str = "good", method: str = "GET", **headers: str
) -> Answer:
    parts = urlsplit(path)
    named = {"authorization": f"Bearer {token}", "accept": JSON} | {k.replace("_", "-"): v for k, v in headers.items()}
    call = FhirCall(method, parts.path, parse_qsl(parts.query), named, f"{BASE}/{path}")
    return fhir.answer(call, now)


def document(answer: Answer) -> dict:
    return json.loads(answer.body)


def code(answer: Answer) -> str:
    return document(answer)["issue"][0]["details"]["coding"][0]["code"]


def pages(fhir: FhirServer, path: str) -> list[dict]:
    found = [document(get(fhir, path))]
    while link := next((row["url"] for row in found[-1]["link"] if row["relation"] == "next"), None):
        found.append(document(get(fhir, link.removeprefix(BASE + "/"))))
    return found


def test_a_window_is_read_whole_over_pages_with_the_quirks() -> None:
    fhir = server()
    found = pages(fhir, "Appointment?date=ge2026-02-25&date=le2026-04-01&_count=10")
    rows = [entry["resource"] for page in found for entry in page["entry"]]
    assert len(found) > 5
    assert len({row["id"] for row in rows}) == len(rows)
    wanted = Chart(PRACTICE).appointments(date(2026, 2, 25), date(2026, 4, 1))
    assert [row["id"] for row in rows] == [row.id for row in wanted]
    assert all(page["total"] == len(page["entry"]) for page in found), "total is the page's size"
    assert any(len(page["entry"]) < 10 for page in found[:-1]), "a page is short and has a next"
    assert all("meta" not in row for row in rows)
    patients = {
        actor["actor"]["reference"]
        for row in rows
        for actor in row["participant"]
        if actor["actor"]["type"] == "Patient"
    }
    assert patients == {f"Patient/{key}" for key in PRACTICE.patients}


@given(st.dates(date(2025, 1, 1), date(2027, 1, 1)), st.integers(0, 20), st.integers(1, 30))
@settings(max_examples=25)
def test_pages_of_any_size_hold_each_appointment_once(start: date, days: int, count: int) -> None:
    end = start + timedelta(days=days)
    found = pages(server(), f"Appointment?date=ge{start}&date=le{end}&_count={count}")
    ids = [
        entry["resource"].get("id") for page in found for entry in page["entry"] if entry["search"]["mode"] == "match"
    ]
    low, high = NOW - timedelta(days=400), NOW + timedelta(days=400)
    assert ids == [row.id for row in Chart(PRACTICE).appointments(start, end) if low <= row.start < high]


def test_days_are_days_of_the_facility() -> None:
    rows = [entry["resource"] for entry in document(get(server(), "Appointment?date=2026-03-04"))["entry"]]
    assert rows
    assert all(row["start"].startswith("2026-03-04T") or row["start"] < "2026-03-05T06" for row in rows)
    one = rows[0]["start"]
    exact = document(get(server(), f"Appointment?date={one}"))
    assert rows[0]["id"] in {entry["resource"]["id"] for entry in exact["entry"]}
    later = document(get(server(), f"Appointment?date=gt{one}&date=lt2026-03-05"))
    assert rows[0]["id"] not in {entry["resource"].get("id") for entry in later["entry"]}


def test_an_empty_result_carries_an_outcome() -> None:
    bundle = document(get(server(), "Appointment?date=2026-03-07"))
    assert bundle["total"] == 0
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["outcome"]
    assert bundle["entry"][0]["resource"]["issue"][0]["details"]["coding"][0]["code"] == "4101"


@pytest.mark.parametrize(
    ("path", "status", "found"),
    [
        ("Appointment", 400, "4111"),
        ("Appointment?status=booked", 400, "4111"),
        ("Appointment?date=tomorrow", 400, "59111"),
        ("Appointment?date=2026-02-30", 400, "59111"),
        ("Appointment?date=ne2026-02-03", 400, "59111"),
        ("Appointment?sessionID=broken", 400, "4113"),
        ("Patient", 400, "59159"),
        ("Patient?_lastUpdated=gt2020-01-01", 400, "59159"),
        ("Patient?name=Smith", 400, "59159"),
        ("Patient/unknown", 404, "59008"),
        ("Appointment/unknown", 404, "59008"),
        ("Group/unknown", 404, "59008"),
        ("Practitioner", 400, "4111"),
        ("Patient?_id=" + ",".join(f"e{n}" for n in range(101)), 400, "59111"),
    ],
)
def test_refusals_have_epic_s_codes(path: str, status: int, found: str) -> None:
    answer = get(server(), path)
    assert (answer.status, code(answer)) == (status, found)
    assert answer.headers["Content-Type"] == JSON


def test_not_found_has_the_captured_body() -> None:
    issue = document(get(server(), "Patient/x"))["issue"][0]
    assert issue == {
        "severity": "fatal",
        "code": "not-found",
        "details": {
            "coding": [
                {
                    "system": "urn:oid:1.2.840.114350.1.13.0.1.7.2.657369",
                    "code": "59008",
                    "display": "The FHIR ID provided was not found.",
                }
            ],
            "text": "The FHIR ID provided was not found.",
        },
        "diagnostics": "Invalid FHIR ID provided",
    }


@pytest.mark.parametrize(
    "path", ["", "Nothing", "Slot", "patient", "Patient/a/b", "Group", "Group/a/$other", "Appointment/a/_history"]
)
def test_a_wrong_path_is_an_html_page(path: str) -> None:
    answer = get(server(), path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html")
    assert b"<html>" in answer.body


def test_patients_by_id_and_by_demographics() -> None:
    fhir, (first, second, *_) = server(), list(PRACTICE.patients.values())
    found = document(get(fhir, f"Patient?_id={first.id},unknown,{second.id}"))
    assert [entry["resource"]["id"] for entry in found["entry"]] == [first.id, second.id]
    queries = (
        f"identifier=urn:oid:1.2.840.114350.1.13.0.1.7.5.737384.0|{first.mrn}",
        f"family={first.family}&given={first.given[0]}&birthdate={first.birth_date}",
        f"name={first.family}&birthdate={first.birth_date}",
    )
    for query in queries:
        assert first.id in {entry["resource"]["id"] for entry in document(get(fhir, f"Patient?{query}"))["entry"]}
    posted = FhirCall("POST", "Patient/_search", [("_id", first.id)], {"authorization": "Bearer good", "accept": JSON})
    assert document(fhir.answer(posted, NOW))["total"] == 1
    assert document(get(fhir, f"Patient/{first.id}"))["birthDate"] == str(first.birth_date)


@pytest.mark.parametrize("accept", ["", "*/*", "application/fhir+xml", "text/html, */*"])
def test_who_does_not_ask_for_json_gets_xml(accept: str) -> None:
    answer = get(server(), f"Patient?_id={next(iter(PRACTICE.patients))}", accept=accept)
    assert answer.headers["Content-Type"].startswith("application/fhir+xml")
    root = ET.fromstring(answer.body)
    name = {"f": "http://hl7.org/fhir"}
    assert root.tag == "{http://hl7.org/fhir}Bundle"
    assert root.find("f:entry/f:resource/f:Patient/f:id", name).get("value") == next(iter(PRACTICE.patients))


def test_tokens_and_scopes() -> None:
    fhir = server(("system/Patient.r",))
    bad = get(fhir, "Appointment?date=2026-03-04", token="stolen")
    assert (bad.status, bad.body) == (401, b"")
    assert bad.headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The access token provided is not valid"'
    )
    assert get(fhir, "Patient/x", now=NOW + timedelta(seconds=300)).status == 401
    assert get(fhir, "Patient/x").status == 404
    for path in ("Patient?_id=x", "Appointment?date=2026-03-04"):
        refused = get(fhir, path)
        assert refused.status == 403
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    # A token of another practice's endpoint is none here.
    fhir.tokens.issue("foreign", "app", "other", SCOPES, NOW)
    assert get(fhir, "Patient/x", token="foreign").status == 401


def test_writing_is_not_offered() -> None:
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert get(server(), "Appointment/x", method=method).status == 405


def test_metadata_and_smart_configuration_need_no_token() -> None:
    statement = document(get(server(), "metadata", token=""))
    assert statement["fhirVersion"] == "4.0.1"
    parameters = {
        p["name"] for rest in statement["rest"] for row in rest["resource"] for p in row.get("searchParam", [])
    }
    assert "_lastUpdated" not in parameters
    assert {row["type"] for row in statement["rest"][0]["resource"]} >= {"Patient", "Appointment"}
    smart = document(get(server(), ".well-known/smart-configuration", token=""))
    assert smart["token_endpoint"] == "http://sim.test/token"
    assert "RS384" in smart["token_endpoint_auth_signing_alg_values_supported"]


def test_group_export_from_start_to_ndjson() -> None:
    fhir = server()
    path = f"Group/{PRACTICE.group}/$export?_type=Patient,Appointment"
    assert get(fhir, path).status == 400, "without Prefer"
    started = get(fhir, path, prefer="respond-async")
    assert started.status == 202
    poll = started.headers["Content-Location"].removeprefix(BASE + "/")
    waiting = get(fhir, poll, now=NOW + timedelta(seconds=1))
    assert (waiting.status, waiting.headers["X-Progress"], waiting.headers["Retry-After"]) == (202, "50% complete", "1")
    assert get(fhir, f"{poll}/Patient").status == 404, "no file before the end"
    later = NOW + timedelta(seconds=3)
    manifest = document(get(fhir, poll, now=later))
    assert [row["type"] for row in manifest["output"]] == ["Patient", "Appointment"]
    file = get(fhir, manifest["output"][0]["url"].removeprefix(BASE + "/"), now=later)
    assert {json.loads(line)["id"] for line in file.body.splitlines()} == set(PRACTICE.patients)
    again = get(fhir, path, prefer="respond-async", now=later)
    assert (again.status, code(again)) == (400, "4135")
    assert get(fhir, poll, method="DELETE", now=later).status == 202
    assert get(fhir, poll, now=later).status == 404


def test_the_same_group_may_be_exported_a_day_later() -> None:
    exports, chart = Exports(1.0), Chart(PRACTICE)
    assert exports.start("app", chart, ("Patient",), "u", NOW) is not None
    assert exports.start("app", chart, ("Patient",), "u", NOW + timedelta(hours=23, minutes=59)) is None
    assert exports.start("other", chart, ("Patient",), "u", NOW) is not None
    assert exports.start("app", chart, ("Patient",), "u", NOW + timedelta(hours=24)) is not None


def test_a_paging_session_expires() -> None:
    token = PageToken("Appointment", {"date": ["ge2026-01-01"]}, 10, 1, int(NOW.timestamp()))
    assert decode_token(token.encode(), NOW + timedelta(minutes=59)) == token
    assert decode_token(token.encode(), NOW + timedelta(minutes=61)) is None


@given(st.text(max_size=60))
def test_any_session_text_is_read_or_refused(text: str) -> None:
    token = decode_token(text, NOW)
    assert token is None or token.offset >= 0


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(st.sampled_from(PATH_PARTS), max_size=4),
    st.lists(st.tuples(st.sampled_from(PARAMETERS), st.text(max_size=12)), max_size=4),
)
def test_any_call_has_an_answer(method: str, parts: list[str], parameters: list[tuple[str, str]]) -> None:
    call = FhirCall(method, "/".join(parts), parameters, {"authorization": "Bearer good", "accept": JSON}, BASE)
    answer = server().answer(call, NOW)
    assert answer.status in {200, 202, 400, 404, 405}
    if answer.headers.get("Content-Type") == JSON:
        assert json.loads(answer.body)["resourceType"]
