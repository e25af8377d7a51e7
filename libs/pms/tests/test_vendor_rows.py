"""Every row of methods and quirks is used, sourced, and true of the code that handles it; no parser breaks."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import Retry
from common.models.integration import Vendor
from pms import cerner, fhir, unity
from pms.authentication import METHODS, methods_of, offers
from pms.capabilities import HABITS, RESOURCES, Interaction, capability, habit
from pms.challenge import parse_challenge
from pms.quirks import QUIRKS, quirks_of
from pms.retry_after import retry_after_s
from pms.signatures import Surface, signature_of
from pms.smart import parse_token_response
from pms.source import Source

NOW = datetime(2026, 3, 1, tzinfo=UTC)
E, C, U, F = Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR


def code_of(vendor: Vendor, status: int, body: bytes, content_type: str = "") -> str:
    found = signature_of(vendor, Surface.RESOURCE, status, {"content-type": content_type}, body, now=NOW)
    return found.code if found else ""


def page(*modes: str, **also: object) -> fhir.Bundle:
    kind = {"outcome": "OperationOutcome"}
    entries = [{"resource": {"resourceType": kind.get(mode, "Patient")}, "search": {"mode": mode}} for mode in modes]
    return fhir.parse_bundle({"resourceType": "Bundle", "entry": entries, **also})


def _xml() -> bool:
    asked = [fhir.metadata(), fhir.by_ids("Patient", ["1"]), fhir.changed_since("Patient", NOW, count=1)]
    return all(row.headers["Accept"] == fhir.FHIR_JSON for row in asked) and code_of(E, 200, b"<Bundle/>") == "fhir.xml"


def _six_causes() -> bool:
    found = signature_of(E, Surface.TOKEN, 400, {}, b'{"error":"invalid_client"}', now=NOW)
    return found is not None and found.ambiguous


def _ignored_parameter() -> bool:
    issue = {"severity": "warning", "code": "processing", "details": {"coding": [{"code": "59100"}]}}
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
    return code_of(E, 200, body) == ""


def _field_missing() -> bool:
    body = b'{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"required"}]}'
    found = signature_of(C, Surface.RESOURCE, 500, {}, body, now=NOW)
    return found is not None and (found.code, found.retry) == ("cerner.field-missing", Retry.PERMANENT)


def _three_forms() -> bool:
    forms = ("30", "Sun, 01 Mar 2026 00:00:30 GMT", "2026-03-01T00:00:30Z")
    return [retry_after_s(form, NOW) for form in forms] == [30.0] * 3


PROOFS: dict[str, Callable[[], bool]] = {
    "xml-without-accept": _xml,
    "html-404": lambda: code_of(E, 404, b"<!DOCTYPE html>", "text/html") == "fhir.wrong-path",
    "total-is-page-size": lambda: page("match", total=1, link=[{"relation": "next", "url": "n"}]).next == "n",
    "short-page-with-next": lambda: page(link=[{"relation": "next", "url": "n"}]).next == "n",
    "outcome-entry": lambda: page("outcome").empty,
    "one-body-for-six-causes": _six_causes,
    "unknown-parameters-ignored": _ignored_parameter,
    "cause-in-error-uri": lambda: cerner.urn_of("urn:x:invalid_tenant") is not None,
    "ids-repeat-across-pages": lambda: cerner.fresh([{"id": "1"}, {"id": "1"}], set()) == [{"id": "1"}],
    "missing-field-is-500": _field_missing,
    "v1-scopes-dropped": lambda: (
        parse_token_response(b'{"access_token":"t","scope":"system/Patient.r"}').scope == ("system/Patient.r",)  # type: ignore[union-attr]
    ),
    "errors-in-http-200": lambda: signature_of(U, Surface.UNITY, 200, {}, b'[{"Error":"x"}]', now=NOW) is not None,
    "bare-token": lambda: unity.parse_answer(b"guid").text == unity.parse_answer(b'"guid"').text == "guid",
    "server-local-times": lambda: (
        unity.to_utc(NOW.replace(tzinfo=None), timedelta(hours=-5)) == datetime(2026, 3, 1, 5, tzinfo=UTC)
    ),
    "retry-after-three-forms": _three_forms,
    "dstu2-conformance": lambda: fhir.parse_metadata({"resourceType": "Conformance"}) is not None,
}


@pytest.mark.parametrize("row", QUIRKS, ids=lambda row: row.name)
def test_every_quirk_is_handled_as_its_row_says(row) -> None:
    assert PROOFS[row.name]()
    assert all(row in quirks_of(vendor) for vendor in row.vendors)


def test_the_rows_and_their_proofs_are_the_same() -> None:
    assert {row.name for row in QUIRKS} == set(PROOFS)
    assert len(QUIRKS) == len(PROOFS)


@pytest.mark.parametrize("row", METHODS, ids=lambda row: f"{row.vendor}-{row.method}-{row.grant}")
def test_every_method_is_offered(row) -> None:
    assert offers(row.vendor, row.method)
    assert row in methods_of(row.vendor)
    stated = habit(row.vendor, "token-life-s")
    if row.token_life_s and row.method != "unity" and stated is not None:
        assert row.token_life_s == stated.value


def test_what_is_not_offered() -> None:
    assert not offers(E, "client_secret_post")
    assert not offers(Vendor.HL7V2, "private_key_jwt")
    assert {row.method for row in methods_of(U)} == {"unity", "private_key_jwt"}


def test_what_has_no_source_is_marked() -> None:
    assert {row.name for row in HABITS if row.source is Source.ASSUMED} == {"rate-limit-status"}
    assert [row.name for row in QUIRKS if row.source is Source.ASSUMED] == ["retry-after-three-forms"]
    assert {row.product for row in unity.PRODUCTS if row.source is Source.ASSUMED} == {
        unity.Product.PROFESSIONAL,
        unity.Product.PM,
    }


def test_unity_resources_have_actions() -> None:
    wanted = {row.resource for row in RESOURCES if row.vendor is U}
    assert wanted == {row.resource for row in unity.ACTIONS.values() if row.resource}
    slots = capability(U, "Slot")
    assert slots is not None
    assert slots.products == {"PM"}
    assert not slots.offers(Interaction.READ)


def test_writing_and_incremental_requests_of_plain_fhir() -> None:
    assert fhir.changed_since("Patient", NOW, count=9).query == (
        ("_lastUpdated", "ge2026-03-01T00:00:00Z"),
        ("_count", "9"),
    )
    with pytest.raises(ValueError, match="zone"):
        fhir.changed_since("Patient", NOW.replace(tzinfo=None), count=9)
    made = fhir.create("Patient", {"resourceType": "Patient"})
    assert (made.method, made.path, made.body) == ("POST", "Patient", b'{"resourceType": "Patient"}')
    changed = fhir.update("Patient", "1", {}, version="3")
    assert (changed.method, changed.path, changed.headers["If-Match"]) == ("PUT", "Patient/1", 'W/"3"')
    assert "If-Match" not in fhir.update("Patient", "1", {}).headers
    assert fhir.appointments_in_window(date(2026, 3, 1), date(2026, 3, 1), count=1).body is None


def test_a_challenge_is_read_in_any_order_and_quoting() -> None:
    header = 'Bearer realm="a, b", error=invalid_token , error_description="not \\"valid\\"", ERROR="second"'
    found = {"realm": "a, b", "error": "invalid_token", "error_description": 'not "valid"'}
    assert parse_challenge(header) == found
    assert parse_challenge("Negotiate") == {}


NAMES = [
    "resourceType", "entry", "resource", "search", "mode", "link", "relation", "url", "issue", "details", "coding",
    "code", "system", "severity", "total", "expression", "rest", "interaction", "type", "fhirVersion", "software",
    "access_token", "expires_in", "scope", "error", "error_uri", "actor", "participant", "reference",
]  # fmt: skip
TEXTS = ["Bundle", "OperationOutcome", "CapabilityStatement", "Patient", "next", "match", "outcome", "1e999", "t"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=14,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6) | st.builds(
    lambda kind, rest: {**rest, "resourceType": kind},
    st.sampled_from(TEXTS[:4]),
    st.dictionaries(st.sampled_from(NAMES[1:]), JSON, max_size=6),
)


@given(DOCUMENTS, st.sampled_from([E, C, U, F]), st.sampled_from(list(Surface)), st.integers(100, 599))
def test_no_parser_breaks_on_any_document(document: dict, vendor: Vendor, surface: Surface, status: int) -> None:
    body = json.dumps(document).encode()
    found = signature_of(vendor, surface, status, {"retry-after": "x"}, body, now=NOW)
    assert found is None or found.evidence["http_status"] == status
    answer = fhir.parse_answer("", body)
    assert (answer.bundle is not None) == (answer.kind is fhir.AnswerKind.BUNDLE)
    metadata = fhir.parse_metadata(document)
    assert metadata is None or isinstance(metadata.fhir_version, str)
    token = parse_token_response(body)
    assert token is None or token.life_s >= 0
    assert isinstance(fhir.references(document, "Patient"), tuple)


@given(st.binary(max_size=60), st.text(max_size=40))
def test_no_parser_breaks_on_any_bytes(body: bytes, text: str) -> None:
    assert fhir.parse_answer(text, body).kind in fhir.AnswerKind
    assert parse_token_response(body) is None
    wait = retry_after_s(text, NOW)
    assert wait is None or wait >= 0
    assert isinstance(parse_challenge(text), dict)


def test_a_link_relation_that_is_no_text_is_passed_over() -> None:
    assert page(link=[{"relation": ["next"], "url": "n"}, {"relation": "next", "url": "m"}]).next == "m"
    assert fhir.parse_metadata({"resourceType": ["CapabilityStatement"]}) is None
