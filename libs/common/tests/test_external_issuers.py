"""A practice's own OpenID provider on a real socket: whose tokens are taken, whose are not, and what happens when it is
away. Published vectors of attacks: RFC 8725 (JSON Web Token Best Current Practices)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from common.models.access import TENANT_ROLES, Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.runtime.authentication import Authenticator, Caller
from common.runtime.settings import OidcIssuer, RuntimeSettings, load
from common.testing import ISSUER, OTHER_TENANT, TENANT, TokenIssuer

AUDIENCE = "practice-studio"
AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
KEYS_LIFE_S = 30
STALE_KEYS_LIFE_S = 24 * 60 * 60
PEM_HEADER = b"-----BEGIN PUBLIC KEY-----"
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})
FOREIGN = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
NEW = RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"})


class Provider:
    """Discovery document and JWKS over HTTP; counts what is asked, and can hang, break or answer nonsense."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.keys: list[Any] = [RSA.as_dict(private=False), EC.as_dict(private=False)]
        self.document: dict[str, Any] = {}
        self.asked: list[str] = []
        self.status = 200
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            self.asked.append(path)
            await self.gate.wait()
            body = self.document if path.endswith("openid-configuration") else {"keys": self.keys}
            text = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {self.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + text
            )
            await writer.drain()
        writer.close()

    def token(self, key: Any = RSA, header: dict[str, Any] | None = None, **changed: Any) -> str:
        now = int(self.clock.now().timestamp())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "roles": ["viewer"], "iat": now, "exp": now + 300}
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        algorithm = (header or {}).get("alg", "ES256" if isinstance(key, ECKey) else "RS256")
        return jwt.encode({"alg": algorithm, "kid": key.kid, **(header or {})}, claims, key, algorithms=[algorithm])


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(AT)


@pytest.fixture
async def provider(clock: FixedClock) -> AsyncIterator[Provider]:
    made = Provider(clock)
    await made.start()
    yield made
    await made.stop()


def authenticator(provider: Provider, **settings: Any) -> Authenticator:
    row = OidcIssuer(**{"issuer": provider.url, "audience": AUDIENCE, "tenant": TENANT, **settings})
    return Authenticator(ISSUER, [row], TokenIssuer(provider.clock).keys, provider.clock)


async def caller(door: Authenticator, token: str) -> Caller:
    return await door.authenticate(f"Bearer {token}")


async def refusal(door: Authenticator, token: str) -> SuiteError:
    with pytest.raises(SuiteError) as refused:
        await caller(door, token)
    return refused.value


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_token_is_taken_and_keys_are_found_by_discovery(provider: Provider) -> None:
    door = authenticator(provider)
    for key in (RSA, EC):
        assert await caller(door, provider.token(key)) == Caller(TENANT, "ann", frozenset({Role.VIEWER}), provider.url)
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_key_set_named_by_the_setting_needs_no_discovery(provider: Provider) -> None:
    door = authenticator(provider, jwks_url=f"{provider.url}/keys")
    assert (await caller(door, provider.token(aud=["other", AUDIENCE]))).subject == "ann"
    assert provider.asked == ["/keys"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aud": "another application"}, "auth.token-invalid"),
        ({"aud": None}, "auth.token-invalid"),
        ({"iss": "https://elsewhere.example"}, "auth.token-invalid"),
        ({"iss": None}, "auth.token-invalid"),
        ({"exp": int(AT.timestamp()) - 6}, "auth.token-expired"),
        ({"exp": None}, "auth.token-invalid"),
        ({"exp": "tomorrow"}, "auth.token-invalid"),
        ({"nbf": int(AT.timestamp()) + 6}, "auth.token-invalid"),
        ({"iat": int(AT.timestamp()) + 60}, "auth.token-invalid"),
        ({"sub": None}, "auth.token-invalid"),
        ({"sub": ["ann"]}, "auth.token-invalid"),
    ],
    ids=str,
)
async def test_claims_that_are_not_right_are_refused(provider: Provider, changed: dict[str, Any], code: str) -> None:
    assert (await refusal(authenticator(provider), provider.token(**changed))).code == code


async def test_clocks_may_differ_by_five_seconds(provider: Provider) -> None:
    door = authenticator(provider)
    now = int(AT.timestamp())
    assert (await caller(door, provider.token(exp=now - 4))).subject == "ann"
    assert (await caller(door, provider.token(nbf=now + 5))).subject == "ann"


async def test_algorithms_are_pinned(provider: Provider) -> None:
    door = authenticator(provider)
    now = int(AT.timestamp())
    claims = {"iss": provider.url, "aud": AUDIENCE, "sub": "eve", "roles": ["tenant-admin"], "exp": now + 300}
    public = RSA.as_pem(private=False)
    assert public.startswith(PEM_HEADER)
    forged = [
        unsigned({"alg": "none", "kid": "rsa-1"}, claims),
        unsigned({"alg": "None", "kid": "rsa-1"}, claims),
        unsigned({"alg": "HS256", "kid": "rsa-1"}, claims, b"x" * 32),
        # RFC 8725 §2.1: the public key taken for the secret of an HMAC
        signed_with_public_key(public, claims),
        provider.token(header={"alg": "RS512"}),  # a good signature, of an algorithm that is not on the list
        provider.token(FOREIGN),  # the right kid, another key
        provider.token(FOREIGN, {"jwk": FOREIGN.as_dict(private=False)}),  # a key that the token brings along
    ]
    for token in forged:
        assert (await refusal(door, token)).code == "auth.token-invalid"


def signed_with_public_key(pem: bytes, claims: dict[str, Any]) -> str:
    import hashlib
    import hmac

    body = unsigned({"alg": "HS256", "kid": "rsa-1"}, claims).rpartition(".")[0]
    signature = hmac.digest(pem, body.encode(), hashlib.sha256)
    return body + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        unsigned({"alg": "RS256", "kid": ["rsa-1"]}, {"iss": "ISS"}),
        unsigned({"alg": "RS256", "kid": {}}, {"iss": "ISS"}),
        unsigned({"alg": "RS256", "kid": "rsa-1", "crit": ["x"], "x": 1}, {"iss": "ISS"}),
        "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(b"[" * 12_000).decode().rstrip("=") + ".AA",
        "eyJhbGciOiJSUzI1NiJ9." + "A" * 20_000 + ".AA",
    ],
    ids=range(9),
)
async def test_what_is_no_token_is_refused_and_breaks_nothing(provider: Provider, token: str) -> None:
    header, _, rest = token.partition(".")
    if unsigned({}, {"iss": "ISS"}).split(".")[1] in rest:
        token = f"{header}.{unsigned({}, {'iss': provider.url}).split('.')[1]}.AA"
    refused = await refusal(authenticator(provider), token)
    assert refused.code == ("auth.token-missing" if not token else "auth.token-invalid")
    assert refused.row.status == 401


async def test_the_tenant_is_the_issuers_whatever_the_token_says(provider: Provider) -> None:
    door = authenticator(provider)
    assert (await caller(door, provider.token(tenant=OTHER_TENANT))).tenant == TENANT


async def test_two_rows_may_not_claim_one_issuer(provider: Provider) -> None:
    row = OidcIssuer(issuer=provider.url, audience=AUDIENCE, tenant=TENANT)
    for rows, own in (([row, row.model_copy(update={"tenant": OTHER_TENANT})], ISSUER), ([row], provider.url)):
        with pytest.raises(SuiteError, match="PS_OIDC_ISSUERS") as refused:
            Authenticator(own, rows, TokenIssuer(provider.clock).keys, provider.clock)
        assert refused.value.code == "start.bad-setting"


@pytest.mark.parametrize(
    ("settings", "claims", "roles"),
    [
        ({}, {"roles": ["viewer", "auditor", "no-such-role", 5]}, {"viewer", "auditor"}),
        ({}, {"roles": "viewer operator"}, {"viewer", "operator"}),
        ({}, {"roles": None}, set()),
        ({}, {"roles": {"viewer": True}}, set()),
        ({}, {"roles": ["tenant-admin"]}, {role.value for role in TENANT_ROLES}),
        ({}, {"roles": ["viewer", "service", "platform-operator"]}, {"viewer"}),
        ({"roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["operator"]}}, {"operator"}),
        ({"roles_claim": "a.b"}, {"a.b": ["operator"], "a": {"b": ["auditor"]}}, {"operator"}),
        ({"roles_claim": "a.b"}, {"a": ["b"]}, set()),
        ({"role_names": {"PS Admins": "integration-admin"}}, {"roles": ["PS Admins"]}, {"integration-admin"}),
    ],
    ids=range(10),
)
async def test_roles_are_mapped(
    provider: Provider, settings: dict[str, Any], claims: dict[str, Any], roles: set[str]
) -> None:
    found = await caller(authenticator(provider, **settings), provider.token(**claims))
    assert {role.value for role in found.roles} == roles


async def test_a_rotated_key_is_fetched_once_and_the_old_one_ends(provider: Provider) -> None:
    door = authenticator(provider)
    old = provider.token()
    await caller(door, old)
    provider.keys = [NEW.as_dict(private=False)]
    assert (await caller(door, old)).subject == "ann"  # known still: for half a minute
    assert (await caller(door, provider.token(NEW))).subject == "ann"
    assert provider.asked.count("/keys") == 2
    assert (await refusal(door, old)).code == "auth.token-invalid"


async def test_forged_tokens_do_not_make_the_issuer_suffer(provider: Provider, clock: FixedClock) -> None:
    door = authenticator(provider)
    await caller(door, provider.token())
    forged = [provider.token(NEW, {"kid": f"made-up-{number}"}) for number in range(40)]
    refused = await asyncio.gather(*(refusal(door, token) for token in forged))
    for token in forged:
        refused.append(await refusal(door, token))
    assert {error.code for error in refused} == {"auth.token-invalid"}
    assert provider.asked.count("/keys") <= 1 + 5
    clock.advance(11)
    provider.keys.append(NEW.as_dict(private=False))
    assert (await caller(door, provider.token(NEW))).subject == "ann"


async def test_many_requests_at_once_are_one_fetch(provider: Provider, clock: FixedClock) -> None:
    door = authenticator(provider)
    for _ in range(2):
        provider.asked.clear()
        callers = await asyncio.gather(*(caller(door, provider.token()) for _ in range(50)))
        assert len(callers) == 50
        assert provider.asked.count("/keys") == 1
        clock.advance(KEYS_LIFE_S)


async def test_an_issuer_that_is_away_is_named_and_is_not_the_callers_fault(
    provider: Provider, clock: FixedClock
) -> None:
    door = authenticator(provider)
    provider.status = 500
    refused = await asyncio.gather(*(refusal(door, provider.token()) for _ in range(20)))
    assert {(error.code, error.row.status, error.row.fault, error.transient) for error in refused} == {
        ("auth.issuer-unavailable", 503, "operator", True)
    }
    assert provider.url in str(refused[0].detail)
    assert len(provider.asked) == 1
    provider.status = 200
    assert (await refusal(door, provider.token())).code == "auth.issuer-unavailable"  # not asked again at once
    clock.advance(2)
    assert (await caller(door, provider.token())).subject == "ann"


async def test_a_socket_that_refuses_is_the_issuers_failure(provider: Provider) -> None:
    door = authenticator(provider)
    await provider.stop()
    assert (await refusal(door, provider.token())).code == "auth.issuer-unavailable"


async def test_known_keys_serve_while_the_issuer_is_away_but_not_for_ever(
    provider: Provider, clock: FixedClock
) -> None:
    door = authenticator(provider)
    await caller(door, provider.token())
    provider.status = 503
    clock.advance(KEYS_LIFE_S + 1)
    provider.asked.clear()
    for _ in range(20):
        assert (await caller(door, provider.token())).subject == "ann"
    assert len(provider.asked) == 1
    # Perhaps a rotated key, perhaps a forgery: only the issuer could tell.
    assert (await refusal(door, provider.token(NEW))).code == "auth.issuer-unavailable"
    clock.advance(STALE_KEYS_LIFE_S)
    assert (await refusal(door, provider.token())).code == "auth.issuer-unavailable"


@pytest.mark.parametrize(
    "row",
    [
        {"kid": "no-type"},
        {"kty": "AKP", "kid": "post-quantum", "pub": "AA"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "odd-curve"},
        {"kty": "RSA", "n": "AA", "e": "AQAB", "kid": "tiny"},
        EC.as_dict(private=False) | {"kid": "for-encryption", "use": "enc"},
    ],
    ids=lambda row: str(row["kid"]),
)
async def test_a_key_we_cannot_use_does_not_spoil_the_others(provider: Provider, row: dict[str, Any]) -> None:
    provider.keys.insert(0, row)
    door = authenticator(provider)
    assert (await caller(door, provider.token())).subject == "ann"
    assert (await refusal(door, provider.token(EC, {"kid": row["kid"]}))).code == "auth.token-invalid"


@pytest.mark.filterwarnings("ignore:Key size")
async def test_short_and_shared_keys_verify_nothing(provider: Provider) -> None:
    short = RSAKey.generate_key(1024, {"kid": "short", "use": "sig"})
    shared = OctKey.generate_key(256, {"kid": "shared"})
    provider.keys += [short.as_dict(private=False), shared.as_dict(private=True)]
    door = authenticator(provider)
    assert (await refusal(door, provider.token(short))).code == "auth.token-invalid"
    token = jwt.encode({"alg": "HS256", "kid": "shared"}, {"iss": provider.url}, KeySet([shared]), algorithms=["HS256"])
    assert (await refusal(door, token)).code == "auth.token-invalid"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://elsewhere.example", "jwks_uri": "URL/keys"},
        {"issuer": "URL"},
        {"issuer": "URL", "jwks_uri": ""},
        {"issuer": "URL", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "URL", "jwks_uri": "http://[broken"},
    ],
    ids=str,
)
async def test_a_discovery_document_that_is_not_this_issuers_gives_no_keys(
    provider: Provider, document: dict[str, str]
) -> None:
    provider.document = {name: value.replace("URL", provider.url) for name, value in document.items()}
    assert (await refusal(authenticator(provider), provider.token())).code == "auth.issuer-unavailable"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"algorithms": []}, "at least 1"),
        ({"role_names": {"x": "platform-operator"}}, "tenant-admin"),
        ({"role_names": {"x": "king"}}, "tenant-admin"),
        ({"tenant": None}, "tenant|string"),
    ],
    ids=str,
)
def test_a_setting_that_would_open_the_door_stops_the_start(
    row: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"issuer": "https://id.example", "audience": AUDIENCE, "tenant": TENANT, **row}
    monkeypatch.setenv("PS_OIDC_ISSUERS", json.dumps([whole]))
    with pytest.raises(SuiteError, match=f"PS_OIDC_ISSUERS.*({named})") as refused:
        load(RuntimeSettings, data=tmp_path)
    assert refused.value.code == "start.bad-setting"
