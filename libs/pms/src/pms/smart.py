"""SMART Backend Services: the client assertion's claims, the token request, the token response.

SMART App Launch 2.2 (Backend Services, Asymmetric Client Authentication), RFC 7523, RFC 6749 §5. Signing happens
where the key is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE_S_MAX: Final = 300
ASSERTION_LIFE_S_DEFAULT: Final = 240
JTI_CHARACTERS_MAX: Final = 151
ALGORITHMS: Final = ("RS384", "ES384")
# A response without expires_in says nothing (RFC 6749 §5.1): the SMART recommendation is taken.
TOKEN_LIFE_S_ASSUMED: Final = 300
TOKEN_LIFE_S_MAX: Final = 24 * 3600


def assertion_claims(
    client_id: str, token_url: str, *, now: datetime, jti: str, life_s: int = ASSERTION_LIFE_S_DEFAULT
) -> dict[str, Any]:
    """Claims of a client assertion: iss = sub = client id, aud = token URL, exp at most 5 min ahead.

    Raises ValueError for a life or a jti over the vendors' limits, and for a `now` without a zone.
    """
    if not 0 < life_s <= ASSERTION_LIFE_S_MAX:
        raise ValueError(f"an assertion lives at most {ASSERTION_LIFE_S_MAX} s")
    if not 0 < len(jti) <= JTI_CHARACTERS_MAX:
        raise ValueError(f"a jti has 1 to {JTI_CHARACTERS_MAX} characters")
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    issued = int(now.timestamp())
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "iat": issued,
        "nbf": issued,
        "exp": issued + life_s,
        "jti": jti,
    }


def assertion_header(algorithm: str, kid: str) -> dict[str, str]:
    """The protected header of a client assertion; raises ValueError for an algorithm SMART does not name."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"SMART names {' and '.join(ALGORITHMS)}")
    return {"alg": algorithm, "kid": kid, "typ": "JWT"}


def token_request(assertion: str, scopes: Sequence[str]) -> list[tuple[str, str]]:
    """The form of a client_credentials request with a client assertion (RFC 7523 §2.2)."""
    form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ]
    if scopes:
        form.append(("scope", " ".join(scopes)))
    return form


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A granted token. `life_s` is what the server said, or the assumption when it said nothing.

    `refresh_token` is None when none came: the old one stays in use. `context` holds SMART's launch context.
    """

    access_token: str = field(repr=False)
    token_type: str
    life_s: int
    life_stated: bool
    scope: tuple[str, ...]
    scope_stated: bool
    refresh_token: str | None = field(default=None, repr=False)
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def expires_at(self, received_at: datetime) -> datetime:
        """The end of its life, counted from when the request was sent or the answer came."""
        return received_at + timedelta(seconds=self.life_s)


# SMART App Launch 2.2, "Scopes and Launch Context": resource scopes of both versions, words for identity and launch.
_SCOPE: Final = re.compile(
    r"(?:patient|user|system)/[A-Za-z*]{1,64}\.(?:read|write|\*|c?r?u?d?s?)(?:\?[\w.=&:|/-]{1,200})?"
    r"|openid|profile|fhirUser|launch(?:/[a-z]{1,32})?|offline_access|online_access"
)


def scope_shown(granted: Sequence[str], asked: Sequence[str]) -> str:
    """Granted scopes that may be shown and kept: what was asked for, and SMART's own. A server may write anything."""
    return " ".join(word for word in granted if word in asked or _SCOPE.fullmatch(word))


_CONTEXT: Final = ("patient", "encounter", "location", "appointment", "fhirUser", "need_patient_banner", "tenant")


def parse_token_response(body: bytes) -> TokenResponse | None:
    """The token of a 200 answer; None when the body is none (a page of a proxy, an error with status 200)."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    token = document.get("access_token")
    if not isinstance(token, str) or not token:
        return None
    life = _life_s(document.get("expires_in"))
    scope, refresh = document.get("scope"), document.get("refresh_token")
    return TokenResponse(
        access_token=token,
        token_type=str(document.get("token_type") or "Bearer"),
        life_s=TOKEN_LIFE_S_ASSUMED if life is None else life,
        life_stated=life is not None,
        scope=tuple(scope.split()) if isinstance(scope, str) else (),
        scope_stated=isinstance(scope, str),
        refresh_token=refresh if isinstance(refresh, str) and refresh else None,
        context={name: document[name] for name in _CONTEXT if name in document},
    )


def _life_s(value: Any) -> int | None:
    """Seconds; some servers write the number as text. Zero and less mean a token that is dead already."""
    if isinstance(value, bool):
        return None
    try:
        seconds = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0), TOKEN_LIFE_S_MAX)
