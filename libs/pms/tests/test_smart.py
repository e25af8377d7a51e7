"""Claims and forms of SMART Backend Services."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms import smart

NOW = datetime(2026, 3, 1, 12, 0, 0, 900_000, tzinfo=UTC)
URL = "https://ehr.example/oauth2/token"


def test_claims() -> None:
    claims = smart.assertion_claims("app", URL, now=NOW, jti="j1")
    issued = int(NOW.timestamp())
    assert claims == {
        "iss": "app", "sub": "app", "aud": URL, "iat": issued, "nbf": issued,
        "exp": issued + smart.ASSERTION_LIFE_S_DEFAULT, "jti": "j1",
    }  # fmt: skip


@given(st.integers(1, 300), st.text("abc123", min_size=1, max_size=151))
def test_claims_keep_the_limits(life_s: int, jti: str) -> None:
    claims = smart.assertion_claims("app", URL, now=NOW, jti=jti, life_s=life_s)
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert claims["iat"] <= NOW.timestamp()


@pytest.mark.parametrize(
    "wrong", [{"life_s": 301}, {"life_s": 0}, {"jti": ""}, {"jti": "x" * 152}, {"now": NOW.replace(tzinfo=None)}]
)
def test_limits_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"assertion|jti|zone"):
        smart.assertion_claims(**{"client_id": "a", "token_url": URL, "now": NOW, "jti": "j", **wrong})


def test_header_names_only_what_smart_names() -> None:
    assert smart.assertion_header("ES384", "k") == {"alg": "ES384", "kid": "k", "typ": "JWT"}
    with pytest.raises(ValueError, match="SMART"):
        smart.assertion_header("HS256", "k")


def test_request_form() -> None:
    form = dict(smart.token_request("a.b.c", ["system/Patient.read", "system/Appointment.read"]))
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "system/Patient.read system/Appointment.read"
    assert "scope" not in dict(smart.token_request("a.b.c", []))


def test_response() -> None:
    body = {"access_token": "t", "token_type": "bearer", "expires_in": "3600", "scope": "a b", "patient": "p"}
    token = smart.parse_token_response(json.dumps(body).encode())
    assert token is not None
    assert (token.life_s, token.life_stated, token.scope, token.refresh_token) == (3600, True, ("a", "b"), None)
    assert token.expires_at(NOW) == NOW + timedelta(hours=1)
    assert token.context == {"patient": "p"}


@pytest.mark.parametrize(("stated", "life_s"), [(None, 300), (True, 300), ("x", 300), (-1, 0), (10**9, 86_400)])
def test_life_of_a_token(stated: object, life_s: int) -> None:
    token = smart.parse_token_response(json.dumps({"access_token": "t", "expires_in": stated}).encode())
    assert token is not None
    assert token.life_s == life_s


@given(st.binary(max_size=100))
def test_any_other_body_is_no_token(body: bytes) -> None:
    assert smart.parse_token_response(body) is None


def test_a_token_is_not_printed() -> None:
    token = smart.parse_token_response(b'{"access_token":"secret-token","refresh_token":"secret-refresh"}')
    assert "secret" not in repr(token)


def test_of_the_scopes_granted_only_scopes_are_shown() -> None:
    scopes = "system/Patient.read system/Patient.rs?category=lab patient/*.* openid launch/patient vendor.special"
    words = "Rivera, Alma born 1980-02-14 MRN77120455 system/Rivera system/Patient.Alma"
    assert smart.scope_shown(f"{words} {scopes} {words}".split(), ["vendor.special"]) == scopes
    assert smart.scope_shown([], ["system/Patient.read"]) == ""
