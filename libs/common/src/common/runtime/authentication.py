"""Who calls: bearer tokens of the suite's own issuer or of an external OpenID issuer pinned to one tenant.

A token is verified before anything of the request is parsed. Algorithms are pinned per issuer; the tenant comes from
the token alone (own issuer: the `tenant` claim; external issuer: the tenant it is pinned to, whatever the token says).
JOSE by joserfc (RFC 7515, 7517, 7519).

Keys are fetched by one request at a time per issuer, again after half a minute, and at once for a token that names an
unknown key (a rotation), but not for every forged one. While an issuer is away its last keys serve for a day; what
cannot be decided without it is answered as its failure (503), never as the caller's (401).
"""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from fastapi import Request
from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, KeySet, OctKey, RSAKey

from common.models.access import Role, expand
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.keyring import KeyEncryptionKey
from common.runtime.settings import OidcIssuer

AUDIENCE: Final = "practice-studio-integrations"
ASSERTION_AUDIENCE: Final = "auth-gateway"
ASSERTION_LIFE_S: Final = 60
OWN_ALGORITHMS: Final = ("ES256",)
_LEEWAY_S: Final = 5
_KEYS_LIFE_S: Final = 30.0
# An unknown key makes the set be fetched again, but not for every forged token that comes.
_REFETCHES_MAX: Final = 5
_REFETCH_WINDOW_S: Final = 10.0
# An issuer that just failed is not asked again by every request, each of which would wait for its time-out.
_RETRY_AFTER_FAILURE_S: Final = 2.0
_STALE_KEYS_LIFE_S: Final = 24 * 60 * 60.0
_RSA_BITS_MIN: Final = 2048  # RFC 7518 §3.3
_TOKEN_CHARACTERS_MAX: Final = 16_384

_log = logging.getLogger("common.authentication")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from. `roles` is already expanded (tenant-admin holds the roles of its tenant)."""

    tenant: str
    subject: str
    roles: frozenset[Role]
    issuer: str = ""
    access: str = ""
    """The id of the access for a time (support, break-glass) that the token stands on; every use of it is audited."""


async def caller_of(request: Request) -> Caller:
    """Dependency: the caller that the gate authenticated before the handler ran.

    A coroutine, although it waits for nothing: FastAPI would run a plain function on a thread of its own.
    """
    caller: Caller = request.state.caller
    return caller


FetchKeys = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Fetches a JSON document: of the given URL, or the JWKS of the suite's own issuer when the URL is empty."""


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: str
    audience: str
    algorithms: Sequence[str]
    keys_url: str
    tenant: str | None
    roles_claim: str
    role_names: Mapping[str, str] = field(default_factory=dict)
    discovered: bool = False
    """Whether `keys_url` is the discovery document that names the key set's URL."""


def _external(row: OidcIssuer) -> _Issuer:
    return _Issuer(
        name=row.issuer,
        audience=row.audience,
        algorithms=row.algorithms,
        # OpenID Connect Discovery 1.0 §4
        keys_url=row.jwks_url or f"{row.issuer.rstrip('/')}/.well-known/openid-configuration",
        tenant=row.tenant,
        roles_claim=row.roles_claim,
        role_names=row.role_names,
        discovered=not row.jwks_url,
    )


@dataclass(slots=True)
class _Keys:
    """What is known of one issuer's keys; instants are the clock's monotonic seconds."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: KeySet | None = None
    fetched_at: float = 0.0
    failed_at: float | None = None
    fetches: int = 0
    refetched_at: list[float] = field(default_factory=list)

    def current(self, now: float) -> KeySet | None:
        """The keys while they need no look."""
        return self.held if now - self.fetched_at < _KEYS_LIFE_S else None

    def last_resort(self, now: float) -> KeySet | None:
        """The keys that serve while the issuer is away."""
        return self.held if now - self.fetched_at < _STALE_KEYS_LIFE_S else None

    def may_refetch(self, now: float) -> bool:
        """Whether an unknown key may cause one more fetch; counts it."""
        self.refetched_at = [at for at in self.refetched_at if now - at < _REFETCH_WINDOW_S]
        if len(self.refetched_at) >= _REFETCHES_MAX:
            return False
        self.refetched_at.append(now)
        return True


class Authenticator:
    """Verifies bearer tokens; keys are cached and fetched again for an unknown `kid`."""

    def __init__(self, own_issuer: str, external: Sequence[OidcIssuer], fetch_keys: FetchKeys, clock: Clock) -> None:
        self._clock = clock
        self._fetch_keys = fetch_keys
        self._issuers = {own_issuer: _Issuer(own_issuer, AUDIENCE, OWN_ALGORITHMS, "", None, "roles")}
        for row in external:
            if row.issuer in self._issuers:
                raise SuiteError(
                    "start.bad-setting", f"PS_OIDC_ISSUERS: {row.issuer} is named twice, or is the suite's own issuer"
                )
            self._issuers[row.issuer] = _external(row)
        self._keys = {name: _Keys() for name in self._issuers}

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller of an Authorization header; raises SuiteError `auth.*`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise SuiteError("auth.token-missing", headers={"WWW-Authenticate": "Bearer"})
        issuer = self._issuer_of(token)
        try:
            return self._verify(token, issuer, await self._key_set(issuer))
        except _UnknownKeyError:
            try:
                return self._verify(token, issuer, await self._key_set(issuer, for_unknown_key=True))
            except _UnknownKeyError:
                raise _invalid() from None

    def _issuer_of(self, token: str) -> _Issuer:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise _invalid()
        try:
            claims = jws.extract_compact(token.encode()).payload
            name = _json_object(claims).get("iss")
        except (JoseError, ValueError, UnicodeError, RecursionError) as error:
            raise _invalid() from error
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise _invalid()
        return issuer

    def _verify(self, token: str, issuer: _Issuer, keys: KeySet) -> Caller:
        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
            if kid is not None and not isinstance(kid, str):
                raise _invalid()
            if kid not in {key.kid for key in keys.keys}:
                raise _UnknownKeyError
            decoded = jwt.decode(token, keys, algorithms=list(issuer.algorithms))
            jwt.JWTClaimsRegistry(
                now=int(self._clock.now().timestamp()),
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": issuer.name},
                aud={"essential": True, "value": issuer.audience},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(decoded.claims)
        except ExpiredTokenError as error:
            raise SuiteError(
                "auth.token-expired", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            ) from error
        except (JoseError, ValueError) as error:
            raise _invalid() from error
        return _caller(decoded.claims, issuer)

    async def _key_set(self, issuer: _Issuer, *, for_unknown_key: bool = False) -> KeySet:
        """The issuer's keys; `for_unknown_key`: as new as they can be had, or `auth.issuer-unavailable`."""
        keys = self._keys[issuer.name]
        found = keys.current(self._clock.monotonic())
        if found is not None and not for_unknown_key:
            return found
        fetches = keys.fetches
        async with keys.lock:
            now = self._clock.monotonic()
            if keys.fetches != fetches:  # another request fetched while this one waited
                failed = keys.failed_at is not None
            elif keys.failed_at is not None and now - keys.failed_at < _RETRY_AFTER_FAILURE_S:
                failed = True
            elif found is not None and not keys.may_refetch(now):
                failed = False
            else:
                failed = not await self._fetch(issuer, keys)
                keys.fetches += 1
            usable = None if failed and for_unknown_key else keys.last_resort(now) if failed else keys.held
        if usable is None:
            raise SuiteError("auth.issuer-unavailable", f"The keys of {issuer.name} cannot be read.")
        return usable

    async def _fetch(self, issuer: _Issuer, keys: _Keys) -> bool:
        try:
            document = await self._fetch_keys(issuer.keys_url)
            if issuer.discovered:
                document = await self._fetch_keys(_keys_url(document, issuer.name))
            found = _key_set(document["keys"])
        except (SuiteError, JoseError, KeyError, TypeError, ValueError):
            _log.warning("issuer keys could not be refreshed", extra={"code": "auth.issuer-unavailable"})
            keys.failed_at = self._clock.monotonic()
            return False
        keys.held, keys.fetched_at, keys.failed_at = found, self._clock.monotonic(), None
        return True


def _keys_url(discovery: Mapping[str, Any], issuer: str) -> str:
    """Where a discovery document says the keys are; raises ValueError when it is not that issuer's (OpenID Connect
    Discovery 1.0 §4.3)."""
    url = discovery["jwks_uri"]
    if discovery["issuer"] != issuer or not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise ValueError("not the discovery document of this issuer")
    return url


class _UnknownKeyError(Exception):
    """The token names a key that the cached key set does not hold."""


def _invalid() -> SuiteError:
    return SuiteError("auth.token-invalid", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _key_set(rows: Sequence[Mapping[str, Any]]) -> KeySet:
    """The keys of a JWKS that can verify a signature; raises ValueError when there is none.

    Keys of a kind we do not know, or that cannot be read, are left out and do not spoil the others (RFC 7517 §5).
    Symmetric keys never come from a published set.
    """
    found = []
    for row in rows:
        if row.get("kty") == "oct" or row.get("use", "sig") != "sig":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # short keys are refused below
                key = JWKRegistry.import_key(dict(row))
        except (JoseError, KeyError, TypeError, ValueError):
            continue
        if not isinstance(key, RSAKey) or key.public_key.key_size >= _RSA_BITS_MIN:
            found.append(key)
    if not found:
        raise ValueError("no key of the set can be used")
    return KeySet(found)


def _json_object(raw: bytes) -> dict[str, Any]:
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("claims are not an object")  # noqa: TRY004 - the caller knows one kind of bad token
    return value


def _caller(claims: Mapping[str, Any], issuer: _Issuer) -> Caller:
    tenant = issuer.tenant if issuer.tenant is not None else claims.get("tenant")
    if not isinstance(tenant, str) or not tenant:
        raise _invalid()
    roles = expand(issuer.role_names.get(name, name) for name in _role_names(claims, issuer.roles_claim))
    if issuer.tenant is not None:  # a practice's provider can not make platform operators or services
        roles -= {Role.PLATFORM_OPERATOR, Role.SERVICE}
    access = claims.get("access") if issuer.tenant is None else None
    return Caller(
        tenant=tenant,
        subject=str(claims["sub"]),
        roles=roles,
        issuer=issuer.name,
        access=access if isinstance(access, str) else "",
    )


def _role_names(claims: Mapping[str, Any], claim: str) -> Sequence[str]:
    """The roles a token lists: a JSON list or a text of words. A token without them is a caller without rights (403),
    not a bad token (401)."""
    value: Any = claims.get(claim)
    if value is None and "." in claim:  # a claim inside another, as `realm_access.roles`
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return value.split()
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def sign_service_assertion(kek: KeyEncryptionKey, subject: str, clock: Clock, ids: Ids) -> str:
    """A 60 s assertion by which a service (`service:<module>`) or the local operator proves that it holds the KEK."""
    now = int(clock.now().timestamp())
    claims = {
        "iss": subject,
        "sub": subject,
        "aud": ASSERTION_AUDIENCE,
        "iat": now,
        "exp": now + ASSERTION_LIFE_S,
        "jti": ids.new("jti"),
    }
    return jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, _assertion_key(kek), algorithms=["HS256"])


def verify_service_assertion(token: str, kek: KeyEncryptionKey, now: datetime) -> tuple[str, str]:
    """(subject, jti) of an assertion; raises SuiteError `auth.assertion-invalid`. The caller refuses a used jti."""
    try:
        decoded = decode_by_any(token, [_assertion_key(one) for one in kek.all()])
        jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_S,
            aud={"essential": True, "value": ASSERTION_AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            jti={"essential": True},
        ).validate(decoded.claims)
    except (JoseError, ValueError) as error:
        raise SuiteError("auth.assertion-invalid") from error
    claims = decoded.claims
    if claims["exp"] - claims["iat"] > ASSERTION_LIFE_S:
        raise SuiteError("auth.assertion-invalid")
    return str(claims["sub"]), str(claims["jti"])


def claimed_subject(authorization: str | None) -> str | None:
    """Whom a token says it is of, not verified: only to count failures by."""
    token = (authorization or "").partition(" ")[2]
    if not token or len(token) > _TOKEN_CHARACTERS_MAX:
        return None
    try:
        claims = _json_object(jws.extract_compact(token.encode()).payload)
    except (JoseError, ValueError, UnicodeError, RecursionError):
        return None
    return f"{claims.get('iss')}\x00{claims['sub']}" if isinstance(claims.get("sub"), str) else None


def decode_by_any(token: str, keys: Sequence[OctKey]) -> jwt.Token:
    """The token, verified (HS256) by one of the keys; raises JoseError or ValueError.

    While a key-encryption key is replaced, some services hold the new one and some the old one.
    """
    *first, last = keys
    for key in first:
        try:
            return jwt.decode(token, key, algorithms=["HS256"])
        except BadSignatureError:
            continue
    return jwt.decode(token, last, algorithms=["HS256"])


def _assertion_key(kek: KeyEncryptionKey) -> OctKey:
    return OctKey.import_key(kek.derive("service-assertion"))
