"""Who calls: bearer tokens of the suite's own issuer or of an external OpenID issuer pinned to one tenant.

A token is verified before anything of the request is parsed. Algorithms are pinned per issuer; the tenant comes from
the token alone (own issuer: the `tenant` claim; external issuer: the tenant it is pinned to, whatever the token says).
JOSE by joserfc (RFC 7515, 7517, 7519).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet, OctKey

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
_TOKEN_CHARACTERS_MAX: Final = 16_384

_log = logging.getLogger("common.authentication")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from. `roles` is already expanded (tenant-admin holds the roles of its tenant)."""

    tenant: str
    subject: str
    roles: frozenset[Role]
    issuer: str = ""


def caller_of(request: Request) -> Caller:
    """Dependency: the caller that the gate authenticated before the handler ran."""
    caller: Caller = request.state.caller
    return caller


FetchKeys = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Fetches a JWKS document: of the given URL, or of the suite's own issuer when the URL is empty."""


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: str
    audience: str
    algorithms: Sequence[str]
    jwks_url: str
    tenant: str | None
    roles_claim: str


class Authenticator:
    """Verifies bearer tokens; keys are cached and fetched again for an unknown `kid`."""

    def __init__(self, own_issuer: str, external: Sequence[OidcIssuer], fetch_keys: FetchKeys, clock: Clock) -> None:
        self._clock = clock
        self._fetch_keys = fetch_keys
        self._issuers = {own_issuer: _Issuer(own_issuer, AUDIENCE, OWN_ALGORITHMS, "", None, "roles")}
        for row in external:
            self._issuers[row.issuer] = _Issuer(
                row.issuer, row.audience, row.algorithms, row.jwks_url, row.tenant, row.roles_claim
            )
        self._keys: dict[str, tuple[float, KeySet]] = {}
        self._refetched: dict[str, list[float]] = {}

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller of an Authorization header; raises SuiteError `auth.*`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise SuiteError("auth.token-missing", headers={"WWW-Authenticate": "Bearer"})
        issuer = self._issuer_of(token)
        try:
            return await self._verify(token, issuer, fresh=False)
        except _UnknownKeyError:
            try:
                return await self._verify(token, issuer, fresh=True)
            except _UnknownKeyError:
                raise _invalid() from None

    def _issuer_of(self, token: str) -> _Issuer:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise _invalid()
        try:
            claims = jws.extract_compact(token.encode()).payload
            name = _json_object(claims).get("iss")
        except (JoseError, ValueError, UnicodeError) as error:
            raise _invalid() from error
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise _invalid()
        return issuer

    async def _verify(self, token: str, issuer: _Issuer, *, fresh: bool) -> Caller:
        keys = await self._key_set(issuer, fresh=fresh)
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("kid") not in {key.kid for key in keys.keys}:
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

    async def _key_set(self, issuer: _Issuer, *, fresh: bool) -> KeySet:
        cached = self._keys.get(issuer.name)
        now = self._clock.monotonic()
        if cached is not None and now - cached[0] < _KEYS_LIFE_S and not (fresh and self._may_refetch(issuer, now)):
            return cached[1]
        try:
            document = await self._fetch_keys(issuer.jwks_url)
            keys = KeySet.import_key_set({"keys": list(document["keys"])})
        except (SuiteError, JoseError, KeyError, TypeError, ValueError) as error:
            if cached is not None:  # an issuer that is away for a moment does not lock everybody out
                _log.warning("issuer keys could not be refreshed", extra={"code": "auth.issuer-unavailable"})
                return cached[1]
            raise SuiteError("auth.issuer-unavailable") from error
        self._keys[issuer.name] = (now, keys)
        return keys

    def _may_refetch(self, issuer: _Issuer, now: float) -> bool:
        recent = [at for at in self._refetched.get(issuer.name, ()) if now - at < _REFETCH_WINDOW_S]
        allowed = len(recent) < _REFETCHES_MAX
        self._refetched[issuer.name] = [*recent, now] if allowed else recent
        return allowed


class _UnknownKeyError(Exception):
    """The token names a key that the cached key set does not hold."""


def _invalid() -> SuiteError:
    return SuiteError("auth.token-invalid", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _json_object(raw: bytes) -> dict[str, Any]:
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("claims are not an object")  # noqa: TRY004 - the caller knows one kind of bad token
    return value


def _caller(claims: Mapping[str, Any], issuer: _Issuer) -> Caller:
    tenant = issuer.tenant if issuer.tenant is not None else claims.get("tenant")
    names = claims.get(issuer.roles_claim)
    if not isinstance(tenant, str) or not tenant or not isinstance(names, list):
        raise _invalid()
    roles = expand(name for name in names if isinstance(name, str))
    if issuer.tenant is not None:  # a practice's provider can not make platform operators or services
        roles -= {Role.PLATFORM_OPERATOR, Role.SERVICE}
    return Caller(tenant=tenant, subject=str(claims["sub"]), roles=roles, issuer=issuer.name)


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
        decoded = jwt.decode(token, _assertion_key(kek), algorithms=["HS256"])
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


def _assertion_key(kek: KeyEncryptionKey) -> OctKey:
    return OctKey.import_key(kek.derive("service-assertion"))
