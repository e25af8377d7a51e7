"""Credential methods as rows: which fields each needs, which of them are secret, and how its token request is made.

A method says how the client proves itself; a grant says what it asks a token for. Methods without a token (keys, HTTP
basic, SFTP, mutual TLS) are lent to a service for one purpose instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.models.errors import FieldError, SuiteError
from pms.smart import assertion_claims, token_request


class TokenKind(StrEnum):
    """What a credential gives to a service."""

    OAUTH = "oauth"
    UNITY = "unity"
    NONE = "none"


class Grant(StrEnum):
    """What a token is asked for (RFC 6749 §4.4, §4.1): the client's own rights, or those a person granted."""

    CLIENT_CREDENTIALS = "client_credentials"
    AUTHORIZATION_CODE = "authorization_code"


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A token request: form fields, and how the client authenticates (None: by what stands in the form)."""

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
    """One way to prove who we are. `second`: the field of its second secret; `may`: fields it can do without."""

    name: str
    title: str
    kind: TokenKind
    needs: frozenset[str]
    may: frozenset[str] = frozenset()
    second: str = ""
    authenticate: Callable[[MethodInput], TokenCall] | None = field(default=None, repr=False)

    @property
    def needs_secret(self) -> bool:
        """Whether it has a secret of the practice's."""
        return "secret" in self.needs

    @property
    def uses_our_key(self) -> bool:
        """Whether it signs with the tenant's own key."""
        return self.name == "private_key_jwt"


def _private_key_jwt(given: MethodInput) -> TokenCall:
    claims = assertion_claims(given.client_id, given.token_url, now=given.now, jti=given.jti)
    form = dict(token_request(given.sign(claims), ()))
    form.pop("grant_type")
    return TokenCall(None, None, form)


def _secret(auth_method: str) -> Callable[[MethodInput], TokenCall]:
    return lambda given: TokenCall(auth_method, given.secret or "", {})


_OAUTH: Final = frozenset({"client_id", "token_url"})
_OAUTH_MAY: Final = frozenset(
    {"scopes", "grant", "authorize_url", "audience", "issuer", "refresh_margin_s", "token_life_max_s"}
)
_PLACE: Final = frozenset({"client_id", "token_url"})
METHODS: Final[dict[str, Method]] = {
    row.name: row
    for row in (
        Method(
            "private_key_jwt", "SMART Backend Services, asymmetric client authentication (RFC 7523)", TokenKind.OAUTH,
            _OAUTH, _OAUTH_MAY | {"algorithm"}, authenticate=_private_key_jwt,
        ),
        Method(
            "client_secret_basic", "OAuth 2.0 client secret, HTTP Basic (RFC 6749 §2.3.1)", TokenKind.OAUTH,
            _OAUTH | {"secret"}, _OAUTH_MAY, authenticate=_secret("client_secret_basic"),
        ),
        Method(
            "client_secret_post", "OAuth 2.0 client secret, form (RFC 6749 §2.3.1)", TokenKind.OAUTH,
            _OAUTH | {"secret"}, _OAUTH_MAY, authenticate=_secret("client_secret_post"),
        ),
        Method(
            "unity", "Unity: GetToken, then GetUserAuthentication", TokenKind.UNITY,
            _PLACE | {"username", "secret", "user_name", "user_secret"}, frozenset({"token_life_max_s"}),
            second="user_secret",
        ),
        Method("api_key", "API key in a header or in the query", TokenKind.NONE, frozenset({"secret"}),
               frozenset({"header", "query", "token_url", "client_id"})),
        Method("http_basic", "HTTP Basic (RFC 7617)", TokenKind.NONE, frozenset({"username", "secret"}),
               frozenset({"token_url", "client_id"})),
        Method("mutual_tls", "Mutual TLS: certificate and private key (RFC 8446)", TokenKind.NONE,
               frozenset({"certificate", "secret"}), frozenset({"token_url", "client_id", "passphrase"}),
               second="passphrase"),
        Method("sftp_password", "SFTP password", TokenKind.NONE, frozenset({"username", "secret", "host_key"})),
        Method("sftp_key", "SFTP private key", TokenKind.NONE, frozenset({"username", "secret", "host_key"}),
               frozenset({"passphrase"}), second="passphrase"),
    )
}  # fmt: skip
# Of every credential, whatever its method.
_ANY: Final = frozenset({"method", "secret_expires_at", "test_every_s"})


def check_fields(method: Method, given: Collection[str], *, grant: Grant, kept: Collection[str]) -> None:
    """Raises SuiteError `request.invalid` naming every field that a method lacks or has no use for.

    `given`: the fields that say something; `kept`: secrets that were given before.
    """
    needs = set(method.needs)
    if grant is Grant.AUTHORIZATION_CODE:
        needs.add("authorize_url")
    missing = sorted(needs - set(given) - set(kept))
    useless = sorted(set(given) - needs - method.may - _ANY)
    fields = [FieldError(f"/{name}", "missing", f"{method.name} needs it.") for name in missing]
    fields += [FieldError(f"/{name}", "not-used", f"{method.name} has no use for it.") for name in useless]
    if method.name == "api_key" and ("header" in given) == ("query" in given):
        fields.append(FieldError("/header", "missing", "An API key goes into a header or into the query: name one."))
    if fields:
        raise SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)


def client_credentials(method: Method, given: MethodInput) -> TokenCall:
    """RFC 6749 §4.4.2."""
    scope = {"scope": " ".join(given.scopes)} if given.scopes else {}
    return _call(method, given, {"grant_type": "client_credentials", **scope})


def refresh(method: Method, given: MethodInput, refresh_token: str) -> TokenCall:
    """RFC 6749 §6; without `scope`, which leaves it as it was granted."""
    return _call(method, given, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def redeem(method: Method, given: MethodInput, *, code: str, redirect_uri: str, verifier: str) -> TokenCall:
    """RFC 6749 §4.1.3 with RFC 7636 §4.5."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
    return _call(method, given, form)


def _call(method: Method, given: MethodInput, form: Mapping[str, str]) -> TokenCall:
    assert method.authenticate is not None
    proved = method.authenticate(given)
    return TokenCall(proved.auth_method, proved.secret, {**form, **proved.form})
