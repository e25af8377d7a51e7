"""Oracle Health: every URN in every spelling, requests as the server wants them, nothing raised on any bytes."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.integration import Vendor
from pms import cerner
from pms.signatures import Surface, signature_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTANCE = "0b1d8b5c-0000-4000-8000-000000000001"
PREFIX = {
    cerner.TOKEN_URNS: "urn:cerner:error:authorization-server:oauth2:token:",
    cerner.LAUNCH_URNS: "urn:cerner:error:authorization-server:",
}
URNS = [
    (row, prefix + suffix) for rows, prefix in PREFIX.items() for row in rows for suffix in row.suffixes
]  # fmt: skip


def uri(urn: str) -> str:
    return f"https://authorization.example/errors/{quote(urn, safe='')}/instances/{INSTANCE}?client=c&tenant=t"


@pytest.mark.parametrize(("row", "urn"), URNS, ids=[urn.rpartition(":")[2] for _, urn in URNS])
def test_every_urn_in_every_spelling(row: cerner.Urn, urn: str) -> None:
    underscored = urn.replace("-", "_").replace("oauth2:token:", "oauth2::token::")
    for spelling in (
        uri(urn),
        urn,
        urn.upper(),
        uri(underscored),
        quote(quote(urn, safe=""), safe="").replace("25", ""),
    ):
        assert cerner.urn_of(spelling) is row
    assert cerner.instance_of(uri(urn)) == INSTANCE


@pytest.mark.parametrize(("row", "urn"), URNS, ids=[urn.rpartition(":")[2] for _, urn in URNS])
def test_every_urn_is_a_signature_with_evidence(row: cerner.Urn, urn: str) -> None:
    body = json.dumps({"error": row.oauth_error, "error_uri": uri(urn)}).encode()
    found = signature_of(Vendor.CERNER, Surface.TOKEN, 400, {}, body, now=NOW)
    assert found is not None
    assert (found.code, found.error) == (f"cerner.{row.name}", "credential.rejected")
    assert (found.evidence["urn"], found.evidence["correlation_id"]) == (row.name, INSTANCE)
    elsewhere = signature_of(Vendor.FHIR, Surface.TOKEN, 400, {}, body, now=NOW)
    assert elsewhere is not None
    assert not elsewhere.code.startswith("cerner.")


def test_the_tenant_s_name_is_not_taken_for_a_cause() -> None:
    assert cerner.urn_of("https://authorization.example/errors/urn%3Ax/instances/1?tenant=invalid-tenant") is None
    assert cerner.urn_of("") is None


def test_the_tenant_of_a_url() -> None:
    token = "https://authorization.example/tenants/ec2458f2-1e24/protocols/oauth2/profiles/smart-v1/token"
    assert cerner.tenant_of(token) == "ec2458f2-1e24"
    base = "https://fhir.example/r4/ec2458f2-1e24-41c8-b71b-0e701af7583d"
    assert cerner.tenant_of(base) == cerner.tenant_of(base + "/Patient/1") == base.rpartition("/")[2]
    assert cerner.tenant_of("https://fhir.example/api/FHIR/R4?x=/tenants/a/") is None


def test_code_sets_belong_to_a_tenant() -> None:
    system = cerner.code_set_system("t1", cerner.CODE_SET_APPOINTMENT_TYPE)
    assert (system, cerner.code_set_of(system)) == ("https://fhir.cerner.com/t1/codeSet/14249", 14249)
    assert cerner.code_set_of("http://snomed.info/sct") is None


def test_appointments_are_searched_by_someone_and_a_window() -> None:
    request = cerner.appointments("location", ["1", "2"], NOW, NOW + timedelta(days=1), count=100)
    assert request.url("https://h/r4/t") == (
        "https://h/r4/t/Appointment?location=1,2&date=ge2026-03-01T12:00:00Z&date=lt2026-03-02T12:00:00Z&_count=100"
    )
    for subject, ids, end in (
        ("room", ["1"], NOW + timedelta(1)),
        ("patient", [], NOW + timedelta(1)),
        ("patient", ["1,2"], NOW + timedelta(1)),
        ("patient", ["1"], NOW),
    ):
        with pytest.raises(ValueError, match=r"appointment|id list|window"):
            cerner.appointments(subject, ids, NOW, end, count=1)
    with pytest.raises(ValueError, match="time zone"):
        cerner.appointments("patient", ["1"], NOW.replace(tzinfo=None), NOW.replace(tzinfo=None, day=2), count=1)


def test_slots_have_a_count_of_five_to_two_hundred() -> None:
    request = cerner.slots(["https://x/codeSet/14249|1"], NOW, NOW + timedelta(hours=1), count=5)
    assert dict(request.query)["_count"] == "5"
    for types, count in ((["a"], 4), (["a"], 201), ([], 50)):
        with pytest.raises(ValueError, match=r"_count|service-type"):
            cerner.slots(types, NOW, NOW + timedelta(hours=1), count=count)


def test_encounters_are_searched_by_what_changed() -> None:
    query = cerner.encounters_changed(["9"], NOW, count=50).query
    assert query == (("patient", "9"), ("_lastUpdated", "ge2026-03-01T12:00:00Z"), ("_count", "50"))
    with pytest.raises(ValueError, match="id list"):
        cerner.encounters_changed([], NOW, count=50)


def test_a_patch_names_its_version() -> None:
    change = [{"op": "replace", "path": "/status", "value": "cancelled"}]
    request = cerner.patch("Appointment", "4/2", change, version="7")
    assert (request.method, request.path) == ("PATCH", "Appointment/4%2F2")
    assert request.headers["If-Match"] == 'W/"7"'
    assert json.loads(request.body or b"") == change
    with pytest.raises(ValueError, match="version"):
        cerner.patch("Appointment", "4", change, version="")


@pytest.mark.parametrize("row", cerner.PATCH_REFUSALS, ids=lambda row: row.name)
def test_every_refusal_of_a_patch_is_a_signature(row: cerner.Refusal) -> None:
    found = signature_of(Vendor.CERNER, Surface.RESOURCE, row.status, {}, b"", now=NOW)
    assert found is not None
    assert found.code == {
        409: "fhir.version-conflict", 412: "fhir.version-conflict", 423: "fhir.locked",
    }.get(row.status, f"cerner.{row.name}")  # fmt: skip


def test_ids_that_repeat_across_pages_are_taken_once() -> None:
    seen: set[str] = set()
    first, second = [{"id": "1"}, {"id": "2"}], [{"id": "2"}, {"id": "3"}, {}, {"id": 4}]
    assert cerner.fresh(first, seen) == first
    assert cerner.fresh(second, seen) == [{"id": "3"}, {}, {"id": 4}]


def test_a_resource_s_challenge_is_evidence_in_registered_words() -> None:
    challenge = (
        'Bearer realm="x", code="urn:cerner:error:oauth2:resource-access:insufficient-scopes", '
        'error="insufficient_scope", subcode="no_scope_for_resource_path"'
    )
    headers = {"WWW-Authenticate": challenge, "cerner-correlation-id": INSTANCE}
    found = signature_of(Vendor.CERNER, Surface.RESOURCE, 403, headers, b"", now=NOW)
    assert found is not None
    assert found.evidence["challenge_error"] == "insufficient_scope"
    assert found.evidence["challenge_subcode"] == "no_scope_for_resource_path"
    assert found.evidence["correlation_id"] == INSTANCE
    foreign = {"WWW-Authenticate": 'Bearer error="Jane Doe", subcode=Jane', "Cerner-Correlation-ID": "Jane Doe"}
    other = signature_of(Vendor.CERNER, Surface.RESOURCE, 403, foreign, b"", now=NOW)
    assert "jane" not in repr(other).lower()


@given(st.text(max_size=300))
def test_any_text_has_a_urn_or_none(text: str) -> None:
    assert cerner.urn_of(text) is None or cerner.urn_of(text) in (*cerner.TOKEN_URNS, *cerner.LAUNCH_URNS)
    assert cerner.instance_of(text) is None or len(text) > 8
    assert cerner.tenant_of(text) is None or "/" in text
