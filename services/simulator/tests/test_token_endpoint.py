"""The token endpoint: every claim of the assertion is looked at, and every failure answered alike."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from simulator.core.answer import Answer
from simulator.core.assertion import RefusedError, take_apart
from simulator.core.clients import Client
from simulator.core.faults import Effect, Faults, Surface
from simulator.core.metadata import SCOPES_OFFERED
from simulator.core.refused_clients import REASONS
from simulator.core.world import World
from simulator.use_cases.issue_token import issue_token
from simulator.use_cases.register_client import register_client

NOW = datetime(2026, 3, 4, 15, 0, 0, 500_000, tzinfo=UTC)
URL = "http://sim.test/simulator/v1/epic/demo/oauth2/token"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS384"})
EC = ECKey.generate_key("P-384", {"kid": "ec", "use": "sig", "alg": "ES384"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec", "use": "sig", "alg": "ES384"})
SMALL = ECKey.generate_key("P-256", {"kid": "small", "use": "sig"})
JWKS = {"keys": [RSA.as_dict(private=False), EC.as_dict(private=False), SMALL.as_dict(private=False)]}
EPIC_REFUSAL = b'{"error":"invalid_client","error_description":null}'


class GivenKeys:
    """`KeySets` that a test fills: first what is cached, then what a refetch finds."""

    def __init__(self, cached: Any = JWKS, fresh: Any = JWKS) -> None:
        self.cached, self.published, self.fetches = cached, fresh, 0

    async def keys(self, client: Client, *, fresh: bool) -> Any:
        self.fetches += fresh
        return self.published if fresh else self.cached


def world(**changes: Any) -> World:
    made = World(("demo",), seed=1, patients=5, token_life_s=300, export_takes_s=1)
    fields = {
        "client_id": "app", "owner": "ten", "jwks_url": "http://keys.test", "jwks": None, "scopes": SCOPES_OFFERED,
        "enabled": True, "expires_at": None, "registered_at": NOW, **changes,
    }  # fmt: skip
    register_client(made, Client(**fields))
    return made


def claims(**changes: Any) -> dict[str, Any]:
    issued = int(NOW.timestamp())
    merged = {
        "iss": "app",
        "sub": "app",
        "aud": URL,
        "iat": issued,
        "nbf": issued,
        "exp": issued + 240,
        "jti": "one",
        **changes,
    }
    return {name: value for name, value in merged.items() if value is not ...}


def sign(content: dict[str, Any], key: Any = EC, header: dict[str, Any] | None = None) -> str:
    header = header or {"alg": "ES384", "kid": "ec"}
    return jwt.encode(header, content, key, algorithms=[header["alg"]])


def effect_of(fault: str | None, now: datetime) -> Effect:
    faults = Faults()
    if fault is not None:
        faults.start(fault, {}, now)
    return faults.effect(Surface.TOKEN_ENDPOINT, now)


async def test_a_registration_has_arrived_after_so_long() -> None:
    arrived = world(registered_at=NOW - timedelta(hours=12))
    assert (await ask(arrived, sign(claims()), fault="registration-travels")).status == 200


async def ask(
    made: World,
    assertion: str,
    *,
    keys: GivenKeys | None = None,
    now: datetime = NOW,
    fault: str | None = None,
    **form: str,
) -> Answer:
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        **form,
    }
    counter = iter(range(1000))
    return await issue_token(
        made, keys or GivenKeys(), practice="demo", token_url=URL, content_type="application/x-www-form-urlencoded",
        body=urlencode(fields).encode(), now=now, effect=effect_of(fault, now),
        new_token=lambda: f"opaque-{next(counter)}",
    )  # fmt: skip


@pytest.mark.parametrize(("key", "alg", "kid"), [(RSA, "RS384", "rsa"), (EC, "ES384", "ec")])
async def test_a_good_assertion_gets_a_token(key: Any, alg: str, kid: str) -> None:
    made = world()
    answer = await ask(made, sign(claims(), key, {"alg": alg, "kid": kid}), scope="system/Patient.read")
    document = json.loads(answer.body)
    assert (answer.status, document["expires_in"], document["scope"]) == (200, 300, "system/Patient.read")
    assert answer.headers["Cache-Control"] == "no-store"
    token = made.tokens.find(document["access_token"], NOW)
    assert token is not None
    assert token.expires_at == NOW + timedelta(seconds=300)
    client = made.clients.find("app")
    assert client is not None
    assert client.last_token_at == NOW


ISSUED = int(NOW.timestamp())
REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("issuer", {"sub": "other"}),
    ("audience", {"aud": "http://elsewhere.test/token"}),
    ("audience", {"aud": ...}),
    ("audience", {"aud": [URL, "http://elsewhere.test"]}),
    ("expired", {"exp": ISSUED}),
    ("expired", {"exp": ...}),
    ("expired", {"exp": "later"}),
    ("expired", {"exp": True}),
    ("lives-too-long", {"exp": ISSUED + 301}),
    ("lives-too-long", {"exp": ISSUED + 400, "iat": ..., "nbf": ...}),
    ("not-yet-valid", {"nbf": ISSUED + 30}),
    ("not-yet-valid", {"iat": ISSUED + 30}),
    ("not-yet-valid", {"iat": "now"}),
    ("jti", {"jti": ...}),
    ("jti", {"jti": ""}),
    ("jti", {"jti": "x" * 152}),
    ("jti", {"jti": 7}),
    ("client-unknown", {"iss": "nobody", "sub": "nobody"}),
]


@pytest.mark.parametrize(("reason", "changes"), REFUSALS)
async def test_a_wrong_claim_is_refused_with_the_one_body(reason: str, changes: dict[str, Any]) -> None:
    made = world()
    answer = await ask(made, sign(claims(**changes)))
    assert (answer.status, answer.body) == (400, EPIC_REFUSAL)
    client = made.clients.find("app")
    assert client is not None
    assert client.last_refusal == (None if reason == "client-unknown" else reason)


async def test_a_jti_is_used_once_per_issuer() -> None:
    made = world()
    assertion = sign(claims())
    assert (await ask(made, assertion)).status == 200
    assert (await ask(made, assertion)).body == EPIC_REFUSAL
    assert (await ask(made, sign(claims(jti="two")))).status == 200


async def test_a_refused_assertion_does_not_use_up_its_jti() -> None:
    made = world()
    assert (await ask(made, sign(claims(aud="x")))).status == 400
    assert (await ask(made, sign(claims()))).status == 200


@pytest.mark.parametrize(
    ("reason", "keys"),
    [
        ("kid-unknown", GivenKeys({"keys": []}, {"keys": []})),
        ("kid-unknown", GivenKeys({"keys": "broken"}, {})),
        ("keys-unavailable", GivenKeys(None, None)),
        ("kid-ambiguous", GivenKeys({"keys": [EC.as_dict(private=False)] * 2})),
        ("key-unfit", GivenKeys({"keys": [{**RSA.as_dict(private=False), "kid": "ec"}]})),
        ("key-unfit", GivenKeys({"keys": [{**SMALL.as_dict(private=False), "kid": "ec"}]})),
        ("key-unfit", GivenKeys({"keys": [{**EC.as_dict(private=False), "use": "enc"}]})),
        ("key-unfit", GivenKeys({"keys": [{"kty": "EC", "kid": "ec"}]})),
        ("signature", GivenKeys({"keys": [STRANGER.as_dict(private=False)]})),
    ],
)
async def test_the_kid_must_match_exactly_one_fitting_key(reason: str, keys: GivenKeys) -> None:
    made = world()
    answer = await ask(made, sign(claims()), keys=keys)
    client = made.clients.find("app")
    assert client is not None
    assert (answer.body, client.last_refusal) == (EPIC_REFUSAL, reason)


async def test_an_unknown_kid_is_looked_up_once_more() -> None:
    keys = GivenKeys({"keys": []}, JWKS)
    assert (await ask(world(), sign(claims()), keys=keys)).status == 200
    assert keys.fetches == 1


async def test_only_the_two_algorithms_pass() -> None:
    secret = OctKey.import_key(b"0123456789abcdef0123456789abcdef")
    header_none = "eyJhbGciOiJub25lIiwia2lkIjoiZWMifQ"
    good = sign(claims())
    forged = ".".join([header_none, good.split(".")[1], ""])
    for assertion in (
        forged,
        sign(claims(), secret, {"alg": "HS256", "kid": "ec"}),
        "a.b.c",
        "",
        "x" * 20_000,
        good[:-4] + "AAAA",
    ):
        assert (await ask(world(), assertion)).body == EPIC_REFUSAL


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"enabled": False}, None), ({"expires_at": NOW}, None), *(({}, name) for name in REASONS),
        ({"registered_at": NOW - timedelta(hours=11)}, "registration-travels"),
    ],
)  # fmt: skip
async def test_a_registration_that_does_not_hold(changes: dict[str, Any], fault: str | None) -> None:
    assert (await ask(world(**changes), sign(claims()), fault=fault)).body == EPIC_REFUSAL


@pytest.mark.parametrize("offset_s", [-600, -30, 600])
async def test_a_skewed_clock_refuses_good_assertions(offset_s: int) -> None:
    assert (await ask(world(), sign(claims()), now=NOW + timedelta(seconds=offset_s))).body == EPIC_REFUSAL


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
        ({"scope": "system/Coverage.read"}, "invalid_scope"),
        ({"client_assertion_type": "other"}, "invalid_client"),
    ],
)
async def test_requests_of_another_form(form: dict[str, str], error: str) -> None:
    answer = await ask(world(), sign(claims()), **form)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, error)


async def test_without_a_scope_all_that_is_registered_is_granted() -> None:
    answer = await ask(world(), sign(claims()))
    assert set(json.loads(answer.body)["scope"].split()) == set(SCOPES_OFFERED)


@given(st.text(max_size=80))
def test_any_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(RefusedError):
        take_apart(text)


@given(st.integers(-1000, 1000), st.integers(1, 400))
def test_only_a_short_time_around_issue_is_accepted(late_s: int, life_s: int) -> None:
    from simulator.core.assertion import verify

    assertion = take_apart(sign(claims(exp=ISSUED + life_s)))
    now = NOW + timedelta(seconds=late_s)
    fits = life_s <= 300 and late_s + 0.5 >= -5 and late_s + 0.5 < life_s
    try:
        verify(assertion, EC, client_id="app", token_url=URL, now=now)
        accepted = True
    except RefusedError:
        accepted = False
    assert accepted == (fits and ISSUED + life_s - now.timestamp() <= 305)
