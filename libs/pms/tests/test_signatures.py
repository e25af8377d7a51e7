"""Captured forms of failures, each recognised; and what must not be taken for one."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import ERRORS, Retry
from common.models.integration import Vendor
from pms import epic
from pms.signatures import ROWS, Surface, signature_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CERNER_URI = (
    "https://authorization.cerner.com/errors/urn%3Acerner%3Aerror%3Aauthorization-server%3Aoauth2%3Atoken%3A{}"
    "/instances/0000?client=c&tenant=t"
)


def outcome(code: str, severity: str = "fatal", *, status: int = 400) -> tuple[int, dict[str, str], bytes]:
    issue = {
        "severity": severity,
        "code": "processing",
        "details": {"coding": [{"system": epic.CODE_SYSTEM_EXAMPLE, "code": code}]},
    }
    return (
        status,
        {"Content-Type": "application/fhir+json"},
        json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode(),
    )


def oauth(error: str, suffix: str | None = None, status: int = 400) -> tuple[int, dict[str, str], bytes]:
    body = {"error": error, "error_description": None} | ({"error_uri": CERNER_URI.format(suffix)} if suffix else {})
    return status, {"content-type": "application/json"}, json.dumps(body).encode()


E, C, U, F = Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR
TOKEN, RESOURCE, UNITY = Surface.TOKEN, Surface.RESOURCE, Surface.UNITY
BEARER = 'Bearer error="{}", error_description="x"'

FAILURES = [
    (E, TOKEN, oauth("invalid_client"), "epic.invalid-client", "credential.rejected"),
    (F, TOKEN, oauth("invalid_client", status=401), "token.invalid-client", "credential.rejected"),
    (E, TOKEN, oauth("invalid_grant"), "token.invalid-grant", "credential.rejected"),
    (E, TOKEN, (503, {}, b"<html>busy</html>"), "token.unavailable", "credential.refresh-failed"),
    (E, TOKEN, (429, {"retry-after": "7"}, b""), "token.rate-limited", "credential.refresh-failed"),
    (E, TOKEN, (404, {}, b"<html>"), "token.wrong-path", "credential.rejected"),
    (E, TOKEN, (200, {}, b"<html>proxy</html>"), "token.unreadable", "credential.refresh-failed"),
    (C, TOKEN, oauth("invalid_client", "terminated-client"), "cerner.client-terminated", "credential.rejected"),
    (
        C,
        TOKEN,
        oauth("invalid_client", "client-assertion%3Ajwt-bearer%3Ainvalid-signature"),
        "cerner.assertion-signature",
        "credential.rejected",
    ),
    (
        C,
        TOKEN,
        oauth("invalid_grant", "refresh_token%3A%3Asession_invalid"),
        "cerner.grant-stale",
        "credential.rejected",
    ),
    (C, TOKEN, oauth("invalid_scope", "empty-scopes"), "cerner.scopes-empty", "credential.rejected"),
    (
        E,
        RESOURCE,
        (401, {"WWW-Authenticate": BEARER.format("invalid_token")}, b""),
        "fhir.token-refused",
        "peer.unauthorized",
    ),
    (
        E,
        RESOURCE,
        (403, {"WWW-Authenticate": BEARER.format("insufficient_scope")}, b""),
        "fhir.insufficient-scope",
        "peer.forbidden",
    ),
    (C, RESOURCE, (403, {}, b"Tenant not valid or accessible"), "cerner.tenant-not-accessible", "peer.forbidden"),
    (E, RESOURCE, (429, {"Retry-After": "5"}, b""), "fhir.rate-limited", "peer.rate-limited"),
    (E, RESOURCE, (503, {}, b""), "fhir.unavailable", "peer.unavailable"),
    (E, RESOURCE, (404, {"content-type": "text/html"}, b"<html>"), "fhir.wrong-path", "peer.unreadable"),
    (E, RESOURCE, outcome("59008", status=404), "epic.id-not-found", "peer.rejected"),
    (E, RESOURCE, outcome("59159"), "epic.demographics-required", "peer.rejected"),
    (E, RESOURCE, outcome("4113"), "epic.paging-expired", "peer.rejected"),
    (E, RESOURCE, outcome("4118", status=403), "epic.not-authorized", "peer.forbidden"),
    (E, RESOURCE, outcome("59177", status=500), "epic.internal-error", "peer.unavailable"),
    (F, RESOURCE, outcome("59159"), "fhir.refused", "peer.rejected"),
    (E, RESOURCE, outcome("99999", "error", status=200), "fhir.outcome-error", "peer.rejected"),
    (E, RESOURCE, (200, {"content-type": "application/fhir+xml"}, b"<Bundle/>"), "fhir.xml", "peer.unreadable"),
    (E, RESOURCE, (200, {"content-type": "text/html"}, b"<html>log in</html>"), "fhir.html", "peer.unreadable"),
    (E, RESOURCE, (200, {}, b""), "fhir.empty", "peer.unreadable"),
    (E, RESOURCE, (302, {}, b""), "fhir.redirected", "peer.rejected"),
    (
        U,
        UNITY,
        (200, {}, b'[{"Error":"Magic Error - you have been logged out due to inactivity."}]'),
        "unity.logged-out",
        "peer.unauthorized",
    ),
    (
        U,
        UNITY,
        (200, {}, b"error: Username and Password not valid for any licenses"),
        "unity.password-invalid",
        "credential.rejected",
    ),
    (
        U,
        UNITY,
        (200, {}, b'[{"getuserauthenticationinfo":[{"ValidUser":"NO"}]}]'),
        "unity.user-invalid",
        "credential.rejected",
    ),
    (U, UNITY, (200, {}, b'[{"Error":"Magic Error"}]'), "unity.error", "peer.rejected"),
]


@pytest.mark.parametrize(("vendor", "surface", "answer", "code", "error"), FAILURES, ids=[row[3] for row in FAILURES])
def test_captured_failures(vendor: Vendor, surface: Surface, answer: tuple, code: str, error: str) -> None:
    status, headers, body = answer
    found = signature_of(vendor, surface, status, headers, body, now=NOW)
    assert found is not None
    assert (found.code, found.error) == (code, error)
    assert found.evidence["http_status"] == status


USABLE = [
    (E, TOKEN, (200, {}, b'{"access_token":"t"}')),
    (E, RESOURCE, (200, {}, b'{"resourceType":"Bundle"}')),
    (E, RESOURCE, outcome("4101", "warning", status=200)),
    (E, RESOURCE, (202, {"content-location": "x"}, b"")),
    (U, UNITY, (200, {}, b'[{"getpatientinfo":[{"status":"active"}]}]')),
]


@pytest.mark.parametrize(("vendor", "surface", "answer"), USABLE)
def test_usable_answers_have_no_signature(vendor: Vendor, surface: Surface, answer: tuple) -> None:
    status, headers, body = answer
    assert signature_of(vendor, surface, status, headers, body, now=NOW) is None


def test_the_wait_a_peer_asks_for() -> None:
    found = signature_of(E, RESOURCE, 429, {"Retry-After": "Sun, 01 Mar 2026 00:00:09 GMT"}, b"", now=NOW)
    assert found is not None
    assert found.retry_after_s == 9.0
    assert found.retry is Retry.TRANSIENT


def test_one_body_for_many_causes_is_ambiguous() -> None:
    found = signature_of(E, TOKEN, *oauth("invalid_client"), now=NOW)
    assert found is not None
    assert found.ambiguous
    assert found.evidence["oauth_error"] == "invalid_client"


def test_evidence_holds_no_text_of_the_peer() -> None:
    issue = {"severity": "error", "code": "x", "details": {"coding": [{"code": "Jane Doe"}], "text": "Jane Doe"}}
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
    found = signature_of(E, RESOURCE, 400, {}, body, now=NOW)
    assert "Jane" not in repr(found)
    token = signature_of(E, TOKEN, 400, {}, b'{"error":"Jane Doe"}', now=NOW)
    assert "Jane" not in repr(token)


def test_break_the_glass_is_never_repeated() -> None:
    for code in ("4130", "4131", "4134"):
        status, headers, body = outcome(code, status=403)
        found = signature_of(E, RESOURCE, status, headers, body, now=NOW)
        assert found is not None
        assert found.code == "epic.break-the-glass"
        assert found.retry is Retry.PERMANENT


def test_every_row_leads_to_the_catalogue() -> None:
    assert {row.error for row in ROWS} <= set(ERRORS)


@given(
    st.sampled_from([E, C, U, F]), st.sampled_from(list(Surface)), st.integers(200, 599), st.binary(max_size=80),
)  # fmt: skip
def test_any_refusal_has_a_signature(vendor: Vendor, surface: Surface, status: int, body: bytes) -> None:
    found = signature_of(vendor, surface, status, {}, body, now=NOW)
    assert found is not None or status < 400


@pytest.mark.parametrize("row", epic.CODES.values(), ids=lambda row: row.code)
def test_epic_codes_are_found_in_any_site_s_system(row) -> None:
    from pms.fhir import Issue

    other_site = "urn:oid:1.2.840.114350.1.13.999.2.7.2.657369"
    assert epic.code_of(Issue("fatal", "x", ((other_site, row.code),))) is row
    assert epic.code_of(Issue("fatal", "x", (("http://elsewhere.example", row.code),))) is None


@pytest.mark.parametrize("word", ["Kanarienvogel", "kanarienvogel", "MRN77120455", "Alma Rivera"])
def test_an_error_that_is_no_registered_code_is_not_repeated(word: str) -> None:
    body = json.dumps({"error": word, "error_description": word}).encode()
    found = signature_of(Vendor.FHIR, Surface.TOKEN, 400, {"content-type": "application/json"}, body, now=NOW)
    assert found is not None
    assert found.evidence.get("oauth_error", "") in {"", "not registered"}
    assert word.strip() not in str(found.evidence)
