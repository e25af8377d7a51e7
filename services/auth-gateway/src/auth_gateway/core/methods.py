"""Credential methods as rows: what each needs, and how its token request is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from common.models.errors import FieldError, SuiteError
from pms.smart import assertion_claims, token_request


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A client_credentials request: form fields, and how the client authenticates (None: by an assertion in the
    form)."""

    auth_method: str | None
    secret: str | None = field(repr=False)
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MethodInput:
    """What a method makes its request from. `sign` signs assertion claims with the tenant's key."""

    client_id: str
    token_url: str
    scopes: Sequence[str]
    secret: str | None = field(repr=False)
    now: datetime
    jti: str
    sign: Callable[[dict[str, Any]], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Method:
    """One way to authenticate a client at a token endpoint."""

    name: str
    title: str
    needs_secret: bool
    uses_our_key: bool
    call: Callable[[MethodInput], TokenCall] = field(repr=False)


def _private_key_jwt(given: MethodInput) -> TokenCall:
    claims = assertion_claims(given.client_id, given.token_url, now=given.now, jti=given.jti)
    return TokenCall(None, None, dict(token_request(given.sign(claims), given.scopes)))


def _secret(auth_method: str) -> Callable[[MethodInput], TokenCall]:
    def call(given: MethodInput) -> TokenCall:
        scope = {"scope": " ".join(given.scopes)} if given.scopes else {}
        return TokenCall(auth_method, given.secret or "", {"grant_type": "client_credentials", **scope})

    return call


METHODS: Final[dict[str, Method]] = {
    row.name: row
    for row in (
        Method("private_key_jwt", "SMART Backend Services (RFC 7523)", False, True, _private_key_jwt),
        Method(
            "client_secret_basic",
            "OAuth 2.0 client credentials, HTTP Basic (RFC 6749 §2.3.1)",
            True,
            False,
            _secret("client_secret_basic"),
        ),
        Method(
            "client_secret_post",
            "OAuth 2.0 client credentials, form (RFC 6749 §2.3.1)",
            True,
            False,
            _secret("client_secret_post"),
        ),
    )
}


def check_secret(method: Method, *, given: bool, kept: bool) -> None:
    """Raises SuiteError `request.invalid` when a method's secret is missing, or one is given that it has no use for."""
    if method.needs_secret and not given and not kept:
        raise SuiteError("request.invalid", fields=[FieldError("/secret", "missing", f"{method.name} needs a secret.")])
    if given and not method.needs_secret:
        raise SuiteError(
            "request.invalid",
            fields=[FieldError("/secret", "not-used", f"{method.name} signs with the tenant's own key.")],
        )
