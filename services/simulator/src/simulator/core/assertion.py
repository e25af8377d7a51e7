"""Verifying a SMART client assertion, claim by claim (SMART App Launch 2.2, RFC 7523 §3, Epic's own limits).

The reason of a refusal is named here and kept on our side of the wire: the vendor answers all of them alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

ASSERTION_CHARACTERS_MAX: Final = 16_384
ASSERTION_LIFE_S_MAX: Final = 300
JTI_CHARACTERS_MAX: Final = 151
# Two hosts with good clocks still differ by moments.
CLOCK_LEEWAY_S: Final = 5
REPLAYS_KEPT_MAX: Final = 200_000
_RSA_BITS_MIN: Final = 2048
_ALGORITHMS: Final[Mapping[str, str]] = {"RS384": "RSA", "ES384": "EC"}
_CURVE: Final = "P-384"


class Refusal(StrEnum):
    """Why a token request was refused."""

    MALFORMED = "malformed"
    NO_HEADER = "no-header"
    SECRET = "secret"  # noqa: S105 - a reason, no secret
    ASSERTION_TYPE = "assertion-type"
    ALGORITHM = "algorithm"
    CLIENT_UNKNOWN = "client-unknown"
    CLIENT_DISABLED = "client-disabled"
    SECRET_EXPIRED = "secret-expired"  # noqa: S105 - a reason, no secret
    KEYS_UNAVAILABLE = "keys-unavailable"
    KID_UNKNOWN = "kid-unknown"
    KID_AMBIGUOUS = "kid-ambiguous"
    KEY_UNFIT = "key-unfit"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    LIVES_TOO_LONG = "lives-too-long"
    NOT_YET_VALID = "not-yet-valid"
    JTI = "jti"
    REPLAYED = "replayed"


class RefusedError(Exception):
    """The assertion is refused."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion taken apart, nothing of it believed yet."""

    text: str = field(repr=False)
    algorithm: str
    kid: str
    claims: Mapping[str, Any] = field(repr=False)

    @property
    def issuer(self) -> str:
        """Who it says it comes from."""
        return str(self.claims.get("iss", ""))


def take_apart(text: str) -> Assertion:
    """Header and claims of a compact JWS; raises RefusedError `malformed` or `algorithm`."""
    if len(text) > ASSERTION_CHARACTERS_MAX:
        raise RefusedError(Refusal.MALFORMED)
    try:
        compact = jws.extract_compact(text.encode("ascii"))
        header, claims = compact.headers(), json.loads(compact.payload)
    except (JoseError, ValueError, RecursionError, KeyError, TypeError):
        raise RefusedError(Refusal.MALFORMED) from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(claims, dict) or not isinstance(kid, str) or not kid or "crit" in header:
        raise RefusedError(Refusal.MALFORMED)
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise RefusedError(Refusal.ALGORITHM)
    return Assertion(text, algorithm, kid, claims)


def key_of(assertion: Assertion, document: Mapping[str, Any]) -> RSAKey | ECKey:
    """The one key of a JWKS that the assertion names (its `jku`, `x5u` and `jwk` headers are never looked at).

    Raises RefusedError `kid-unknown`, `kid-ambiguous` or `key-unfit`.
    """
    rows = document.get("keys")
    held = rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ()
    named = [row for row in held if isinstance(row, dict) and row.get("kid") == assertion.kid]
    if not named:
        raise RefusedError(Refusal.KID_UNKNOWN)
    if len(named) > 1:
        raise RefusedError(Refusal.KID_AMBIGUOUS)
    row = named[0]
    fits = row.get("kty") == _ALGORITHMS[assertion.algorithm] and row.get("use", "sig") == "sig"
    if not fits or row.get("alg", assertion.algorithm) != assertion.algorithm:
        raise RefusedError(Refusal.KEY_UNFIT)
    try:
        key = import_key(row)
    except (JoseError, ValueError, KeyError, TypeError):
        raise RefusedError(Refusal.KEY_UNFIT) from None
    if isinstance(key, RSAKey) and key.public_key.key_size >= _RSA_BITS_MIN:
        return key
    if isinstance(key, ECKey) and key.curve_name == _CURVE:
        return key
    raise RefusedError(Refusal.KEY_UNFIT)


def verify(assertion: Assertion, key: RSAKey | ECKey, *, client_id: str, token_url: str, now: datetime) -> None:
    """Signature and claims; raises RefusedError naming the first thing that is wrong. Replay is checked apart."""
    try:
        jws.deserialize_compact(assertion.text.encode("ascii"), key, algorithms=[assertion.algorithm])
    except (JoseError, ValueError):
        raise RefusedError(Refusal.SIGNATURE) from None
    claims = assertion.claims
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise RefusedError(Refusal.ISSUER)
    if claims.get("aud") not in (token_url, [token_url]):
        raise RefusedError(Refusal.AUDIENCE)
    _verify_times(claims, now.timestamp())
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= JTI_CHARACTERS_MAX:
        raise RefusedError(Refusal.JTI)


def _verify_times(claims: Mapping[str, Any], now: float) -> None:
    expires = _seconds(claims.get("exp"))
    if expires is None or now >= expires:
        raise RefusedError(Refusal.EXPIRED)
    if expires - now > ASSERTION_LIFE_S_MAX + CLOCK_LEEWAY_S:
        raise RefusedError(Refusal.LIVES_TOO_LONG)
    for name in ("nbf", "iat"):
        if claims.get(name) is None:
            continue
        begins = _seconds(claims[name])
        if begins is None or begins > now + CLOCK_LEEWAY_S:
            raise RefusedError(Refusal.NOT_YET_VALID)
        if name == "iat" and expires - begins > ASSERTION_LIFE_S_MAX:
            raise RefusedError(Refusal.LIVES_TOO_LONG)


def _seconds(value: Any) -> float | None:
    """A NumericDate (RFC 7519 §2); None for anything else, not-a-number and infinity included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


class Replays:
    """The assertion ids that were used, per issuer, for as long as their assertions live."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def use(self, issuer: str, jti: str, expires: float, now: datetime) -> None:
        """Use an id; raises RefusedError `replayed` for one that was used before."""
        moment = now.timestamp()
        if len(self._until) >= REPLAYS_KEPT_MAX:
            self._until = {key: until for key, until in self._until.items() if until > moment}
        if (issuer, jti) in self._until:
            raise RefusedError(Refusal.REPLAYED)
        self._until[(issuer, jti)] = expires
