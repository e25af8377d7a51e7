"""Scopes of both versions, needs, probes, and the request's text."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.integration import Vendor
from pms.capabilities import Interaction
from pms.offers import offers_of
from pms.permissions import (
    WORDINGS,
    Need,
    ProbeResult,
    compare,
    needs_of,
    parse_scope,
    probe_request,
    probe_result,
    request_text,
    scope_words,
    scopes_lacking,
)
from pms.signatures import Surface, signature_of

R, S, C, P = Interaction.READ, Interaction.SEARCH, Interaction.CREATE, Interaction.PATCH
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def needs(*pairs: tuple[str, Interaction]) -> list[Need]:
    return [Need(resource, interaction, "sync") for resource, interaction in pairs]


@pytest.mark.parametrize(
    ("text", "rights", "version"),
    [
        ("system/Patient.read", "rs", 1), ("user/Patient.write", "cud", 1), ("patient/*.*", "cruds", 1),
        ("system/Patient.rs", "rs", 2), ("system/Patient.cruds", "cruds", 2), ("system/*.r", "r", 2),
        ("system/Observation.rs?category=laboratory", "rs", 2),
    ],
)  # fmt: skip
def test_scopes_of_both_versions(text: str, rights: str, version: int) -> None:
    scope = parse_scope(text)
    assert scope is not None
    assert (scope.rights, scope.version, scope.narrowed) == (frozenset(rights), version, "?" in text)


@pytest.mark.parametrize("text", ["openid", "launch", "system/Patient.", "system/Patient.sr", "system/.read", ""])
def test_other_words_are_no_resource_scopes(text: str) -> None:
    assert parse_scope(text) is None


@pytest.mark.parametrize(
    ("scopes", "probe", "place"),
    [
        (["system/Patient.read"], None, "granted"),
        (["system/Patient.rs"], None, "granted"),
        (["system/*.cruds"], None, "granted"),
        (["system/*.read"], None, "granted"),
        (["system/Patient.r"], None, "missing"),
        (["system/Appointment.rs"], None, "missing"),
        ([], None, "missing"),
        (None, None, "unknown"),
        (None, ProbeResult.GRANTED, "granted"),
        (None, ProbeResult.UNKNOWN, "unknown"),
        (["system/Patient.read"], ProbeResult.REFUSED, "missing"),
        ([], ProbeResult.GRANTED, "granted"),
        (["system/Patient.rs?active=true"], None, "unknown"),
        (["openid"], None, "missing"),
    ],
)
def test_where_a_need_is_placed(scopes: list[str] | None, probe: ProbeResult | None, place: str) -> None:
    found = compare(needs(("Patient", S)), scopes, {"Patient": probe} if probe else None)
    assert {name for name in ("missing", "unknown", "granted") if getattr(found, name)} == {place}


def test_a_probe_of_search_says_nothing_of_writing() -> None:
    found = compare(needs(("Patient", C), ("Patient", R)), None, {"Patient": ProbeResult.GRANTED})
    assert [need.interaction for need in found.unknown] == [C]
    assert compare(needs(("Patient", C)), ["system/Patient.rs"], {"Patient": ProbeResult.GRANTED}).missing


def test_excess_is_what_nobody_needs() -> None:
    scopes = ["system/Patient.read", "system/Patient.write", "system/Coverage.rs", "system/*.rs", "openid",
              "system/Appointment.cruds"]  # fmt: skip
    found = compare(needs(("Patient", S), ("Appointment", S), ("Appointment", P)), scopes)
    assert [scope.text for scope in found.excess] == [
        "system/Patient.write", "system/Coverage.rs", "system/*.rs", "system/Appointment.cruds",
    ]  # fmt: skip
    for enough in ("system/Patient.rs", "system/Patient.read"):
        assert compare(needs(("Patient", S)), [enough]).excess == ()
    assert compare(needs(("Patient", C)), ["system/Patient.write"]).excess == ()
    assert compare(needs(("Patient", C)), ["system/Patient.*"]).excess


def test_scopes_that_were_asked_for_and_not_granted() -> None:
    asked = ["openid", "system/Patient.read", "system/Appointment.rs", "system/Slot.cruds", "system/*.r", "own"]
    granted = ["system/Patient.rs", "system/Appointment.read", "system/Slot.rs", "own"]
    assert scopes_lacking(asked, granted) == ("openid", "system/Slot.cruds", "system/*.r")
    assert scopes_lacking(asked[1:4], ["system/*.*"]) == ()


def test_a_resource_reached_by_reference_needs_its_source() -> None:
    found = needs_of(offers_of(Vendor.EPIC), "Patient", [S], "schedule")
    assert [(need.resource, need.interaction) for need in found] == [("Patient", S), ("Appointment", S)]
    plain = offers_of(Vendor.FHIR)
    assert [need.resource for need in needs_of(plain, "Patient", [S, R], "x")] == [
        "Patient",
        "Patient",
    ]
    assert [need.resource for need in needs_of(offers_of(Vendor.EPIC), "Unheard", [S], "x")] == ["Unheard"]


def test_scopes_to_ask_for_in_both_versions() -> None:
    wanted = needs(("Patient", S), ("Patient", R), ("Appointment", P), ("Appointment", S))
    assert scope_words(wanted, version=2) == ("system/Patient.rs", "system/Appointment.us")
    assert scope_words(wanted, version=1) == (
        "system/Patient.read", "system/Appointment.read", "system/Appointment.write",
    )  # fmt: skip
    assert all(parse_scope(word) for version in (1, 2) for word in scope_words(wanted, version=version))


OUTCOME = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}'
INSUFFICIENT = {"www-authenticate": 'Bearer error="insufficient_scope"'}


@pytest.mark.parametrize(
    ("status", "headers", "body", "result"),
    [
        (200, {}, b'{"resourceType":"Bundle"}', ProbeResult.GRANTED),
        (404, {}, OUTCOME, ProbeResult.GRANTED),
        (400, {}, OUTCOME, ProbeResult.GRANTED),
        (403, INSUFFICIENT, b"", ProbeResult.REFUSED),
        (403, {}, OUTCOME, ProbeResult.REFUSED),
        (404, {"content-type": "text/html"}, b"<html>", ProbeResult.UNKNOWN),
        (401, {}, b"", ProbeResult.UNKNOWN),
        (503, {}, b"", ProbeResult.UNKNOWN),
        (429, {}, b"", ProbeResult.UNKNOWN),
    ],
)
def test_what_a_probe_shows(status: int, headers: dict, body: bytes, result: ProbeResult) -> None:
    for vendor in (Vendor.EPIC, Vendor.CERNER, Vendor.FHIR):
        signature = signature_of(vendor, Surface.RESOURCE, status, headers, body, now=NOW)
        assert probe_result(signature, status) is result


def test_a_probe_finds_nobody() -> None:
    assert probe_request(Vendor.EPIC, "Patient").url("b") == "b/Patient?_id=practice-studio-probe&_count=1"
    assert probe_request(Vendor.CERNER, "Slot").url("b") == "b/Slot?_id=0&_count=1"


@pytest.mark.parametrize("vendor", [Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR])
def test_the_request_is_written_in_the_vendor_s_words(vendor: Vendor) -> None:
    wanted = needs(("Patient", S), ("Patient", R))
    excess = [scope for scope in [parse_scope("system/Coverage.write")] if scope]
    text = request_text(vendor, client_id="c-1", endpoint="https://h/R4", missing=wanted, excess=excess)
    assert text.startswith(f"To: {WORDINGS[vendor].administrator}\n")
    for part in ("c-1", "https://h/R4", "Patient (R4): read, search (for: sync)", "system/Coverage.write"):
        assert part in text
    assert f"As scopes: system/Patient.{'read' if vendor is Vendor.EPIC else 'rs'}\n" in text
    assert WORDINGS[vendor].closing in text
    assert request_text(vendor, client_id="c", endpoint="e", missing=()) == ""


def test_other_vendors_have_the_general_wording() -> None:
    text = request_text(Vendor.FILES, client_id="c", endpoint="e", missing=needs(("Patient", S)))
    assert WORDINGS[Vendor.FHIR].administrator in text


@given(st.lists(st.text(max_size=30), max_size=5), st.sampled_from(list(Interaction)))
def test_any_words_are_compared(scopes: list[str], interaction: Interaction) -> None:
    found = compare(needs(("Patient", interaction)), scopes)
    assert len(found.missing) + len(found.unknown) + len(found.granted) == 1
