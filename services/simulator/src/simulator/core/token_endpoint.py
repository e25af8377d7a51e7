"""The token endpoint's forms: a request read, and the few bodies Epic answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from simulator.core.answer import Answer, json_answer
from simulator.core.assertion import Refusal, RefusedError

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRANT_TYPE: Final = "client_credentials"
_FIELDS_MAX: Final = 20
_NO_STORE: Final[Mapping[str, str]] = {"Cache_Control": "no-store", "Pragma": "no-cache"}


class GrantRefusedError(Exception):
    """A request that is refused for its form, before anybody is authenticated; `error` is RFC 6749's."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client_credentials request with a client assertion."""

    assertion: str = field(repr=False)
    scopes: tuple[str, ...]


def read_request(content_type: str, body: bytes) -> TokenRequest:
    """The request of a form; raises GrantRefusedError, or RefusedError where the client does not authenticate."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise GrantRefusedError("invalid_request")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=_FIELDS_MAX)
    except (UnicodeDecodeError, ValueError):
        raise GrantRefusedError("invalid_request") from None
    form = dict(pairs)
    if len(form) != len(pairs):  # RFC 6749 §3.2: no parameter twice
        raise GrantRefusedError("invalid_request")
    if form.get("grant_type") != GRANT_TYPE:
        raise GrantRefusedError("unsupported_grant_type" if form.get("grant_type") else "invalid_request")
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise RefusedError(Refusal.ASSERTION_TYPE)
    return TokenRequest(form.get("client_assertion", ""), tuple(form.get("scope", "").split()))


def invalid_client() -> Answer:
    """Epic's one body for every failure to authenticate the client."""
    return json_answer(400, {"error": "invalid_client", "error_description": None}, **_NO_STORE)


def refused_grant(error: str) -> Answer:
    """Another error of RFC 6749 §5.2, in the same form."""
    return json_answer(400, {"error": error, "error_description": None}, **_NO_STORE)


def granted_token(
    access_token: str, life_s: int, scopes: tuple[str, ...], extra: Mapping[str, str] | None = None
) -> Answer:
    """The token response (RFC 6749 §5.1); `scope` is always told, `extra` is a refresh token and launch context."""
    document = {
        **(extra or {}),
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": life_s,
        "scope": " ".join(scopes),
    }
    return json_answer(200, document, **_NO_STORE)
