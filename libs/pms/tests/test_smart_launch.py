"""SMART launches: what is missing and why; templates, messages; nothing raised, no value repeated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.integration import Vendor
from pms import cerner
from pms.smart_launch import (
    CONTEXTS,
    POWERCHART_MESSAGES,
    Asked,
    Kind,
    check_parameters,
    check_template,
    check_token,
    issuer_key,
    kind_of,
    message_of,
    same_issuer,
    shown_names,
)

ISS = "https://ehr.example/api/FHIR/R4"
E, C = Vendor.EPIC, Vendor.CERNER


def asked(*scopes: str, kind: Kind = Kind.EHR, aud: str | None = ISS, wanted: tuple[str, ...] = ("patient",)) -> Asked:
    return Asked(kind, scopes, aud, ISS, wanted)


def token(**parts: object) -> bytes:
    return json.dumps({"access_token": "t", **parts}).encode()


def codes(vendor: Vendor, what: Asked, response: bytes) -> list[tuple[str, str]]:
    return [(row.code, row.about) for row in check_token(vendor, what, response).findings]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ([("iss", ISS), ("launch", "x")], []),
        ([("launch", "x")], [("iss-missing", "iss")]),
        ([("iss", "ehr.example"), ("launch", "x")], [("iss-invalid", "iss")]),
        ([("iss", ISS)], [("launch-missing", "launch")]),
        ([("iss", ISS), ("launch", "")], [("launch-missing", "launch")]),
        ([("iss", ISS), ("iss", ISS), ("launch", "x")], [("parameter-repeated", "iss")]),
        ([("iss", ISS), ("launch", "x"), ("user", "$USR_Name$")], [("placeholder-left", "user")]),
        ([("iss", ISS), ("launch", "x"), ("csn", "%EPT%"), ("a", "{{b}}")],
         [("placeholder-left", "csn"), ("placeholder-left", "a")]),
        ([("iss", ISS), ("launch", "x"), ("error", "access_denied")], [("launch-refused", "error")]),
    ],
)  # fmt: skip
def test_the_parameters_of_a_launch(parameters: list, found: list) -> None:
    assert [(row.code, row.about) for row in check_parameters(E, parameters)] == found


def test_a_launch_urn_is_named_at_oracle_health_only() -> None:
    urn = "urn:cerner:error:authorization-server:smart-v1:grant:launch:invalid-code"
    parameters = [("iss", ISS), ("launch", "x"), ("error_uri", urn)]
    assert [row.code for row in check_parameters(C, parameters)] == ["launch-invalid-code"]
    assert check_parameters(E, parameters) == []


def test_names_are_kept_only_when_they_look_like_names() -> None:
    parameters = [("iss", "a"), ("Jane Doe", "b"), ("iss", "c"), ("x" * 65, "d"), ("a.b-c", "e")]
    assert shown_names(parameters) == ["iss", "a.b-c"]
    assert kind_of([("launch", "")]) is Kind.STANDALONE
    assert kind_of([("launch", "x")]) is Kind.EHR


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda row: row.name)
def test_why_a_context_is_missing(context) -> None:
    name, want = context.name, (context.name,)
    ehr, alone = Kind.EHR, Kind.STANDALONE
    cases = [
        (asked("openid", wanted=want), token(), "launch-scope-missing"),
        (asked("launch", wanted=want), token(scope="openid"), "scope-refused"),
        (asked("launch", wanted=want), token(scope="launch openid"), "context-absent"),
        (asked("launch", wanted=want), token(), "context-absent"),
        (asked("launch", kind=alone, wanted=want), token(), "standalone-scope-missing"),
        (asked(context.scope, kind=alone, wanted=want), token(scope=""), "scope-refused"),
        (asked(context.scope, kind=alone, wanted=want), token(), "context-absent"),
        (asked(context.scope, kind=ehr, wanted=want), token(), "context-absent"),
    ]
    for what, response, code in cases:
        assert codes(E, what, response) == [(code, name)], (what, response)
    whole = check_token(E, asked("launch", wanted=want), token(**{name: "123"}))
    assert (whole.present, whole.missing, whole.findings) == ((name,), (), ())


def test_aud_and_fhir_user() -> None:
    assert codes(E, asked("launch", aud=None), token(patient="1")) == [("aud-missing", "aud")]
    assert codes(E, asked("launch", aud="https://other.example/R4"), token(patient="1")) == [("aud-differs", "aud")]
    assert codes(E, asked("launch", aud=ISS + "/"), token(patient="1")) == []
    assert codes(E, asked("launch", "fhirUser"), token(patient="1")) == [("openid-missing", "fhirUser")]
    both = asked("launch", "openid", "fhirUser")
    assert codes(E, both, token(patient="1", scope="launch openid")) == [("scope-refused", "fhirUser")]
    assert codes(E, both, token(patient="1")) == [("id-token-missing", "fhirUser")]
    assert codes(E, both, token(patient="1", id_token="j")) == []


def test_a_refused_token_is_named() -> None:
    assert codes(E, asked("launch"), b'{"error":"invalid_grant"}') == [("token-refused", "token_response")]
    assert codes(E, asked("launch"), b"<html>") == [("response-unreadable", "token_response")]
    for row in cerner.LAUNCH_URNS:
        body = json.dumps({"error": "invalid_request", "error_uri": "urn:x:" + row.suffixes[0]}).encode()
        assert codes(C, asked("launch"), body) == [(row.name, "error_uri")]
        assert message_of(f"error_uri=urn:x:{row.suffixes[0]}").code == row.name  # type: ignore[union-attr]


@pytest.mark.parametrize("row", POWERCHART_MESSAGES, ids=lambda row: row.name)
def test_every_message_of_powerchart(row) -> None:
    for word in row.words:
        found = message_of(f"Error:\n {word.upper()} - see log")
        assert found is not None
        assert found.code == row.name
    assert message_of("all is well") is None


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("https://app.example/launch?iss=x&tenant=t1&username=$USR$", []),
        ("https://app.example/launch?tenant_id=t1&USER-NAME=u", []),
        ("launch=x; tenantId = t1; userName = u", []),
        ("https://app.example/launch?iss=https://f/r4/ec2458f2-1e24-41c8-b71b-0e701af7583d/&user=u", []),
        ("https://app.example/launch?iss=x&username=u", ["template-tenant-missing"]),
        ("https://app.example/launch?tenant=&username=u", ["template-tenant-missing"]),
        ("https://app.example/launch?tenant=t1", ["template-username-missing"]),
        ("", ["template-tenant-missing", "template-username-missing"]),
    ],
)
def test_a_template_gives_tenant_and_user_name(template: str, missing: list[str]) -> None:
    assert [row.code for row in check_template(template)] == missing


def test_issuers_are_compared_as_urls() -> None:
    assert same_issuer("HTTPS://EHR.example:443/api/FHIR/R4/", ISS)
    assert not same_issuer("https://ehr.example/api/fhir/r4", ISS)
    assert not same_issuer("x", "x")
    assert issuer_key("https://h:99999/") is None
    assert issuer_key("http://h:8080/R4/") == "http://h:8080/R4"


@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=5),
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["access_token", "scope", "patient", "error_uri", "id_token"]),
        st.none() | st.booleans() | st.text(max_size=8) | st.lists(st.integers(), max_size=2),
    ).map(lambda value: json.dumps(value).encode()),
    st.text(max_size=80),
)
def test_nothing_raises_on_anything(parameters: list, response: bytes, text: str) -> None:
    for vendor in (E, C):
        assert isinstance(check_parameters(vendor, parameters), list)
        report = check_token(vendor, asked("launch", "fhirUser", "openid"), response)
        assert set(report.missing) <= {"patient"}
    assert isinstance(check_template(text), list)
    assert issuer_key(text) is None or text


def test_values_are_not_repeated() -> None:
    canary = "Kanarienvogel"
    parameters = [("iss", ISS), ("launch", canary), ("patient", canary), ("user", f"${canary}$"), ("error", canary)]
    shown = repr(check_parameters(C, parameters)) + repr(shown_names(parameters))
    shown += repr(check_token(C, asked("launch"), token(patient=canary, encounter=canary)))
    assert canary not in shown
