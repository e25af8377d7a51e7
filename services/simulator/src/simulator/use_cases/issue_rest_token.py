"""A client of Oracle Health or of a plain FHIR server asks for a token: by its secret, or by a signed assertion."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote

from simulator.core.answer import Answer
from simulator.core.assertion import Refusal, RefusedError, take_apart
from simulator.core.clients import Client
from simulator.core.faults import Effect
from simulator.core.refused_clients import refuse_by_fault
from simulator.core.scopes import granted, is_v1
from simulator.core.token_endpoint import ASSERTION_TYPE, GRANT_TYPE, granted_token
from simulator.core.world import World
from simulator.ports import KeySets
from simulator.use_cases.issue_token import authenticate

_log = logging.getLogger("simulator.token")
_FIELDS_MAX: Final = 20


class TokenWords(Protocol):
    """How a vendor refuses a token."""

    def refused(self, reason: Refusal) -> Answer:
        """A client that did not authenticate."""

    def error(self, error: str) -> Answer:
        """Another error of RFC 6749 §5.2, or one that a fault names."""


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A token request as it came: the Authorization header and the form."""

    authorization: str = field(repr=False)
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One token endpoint: whose practice, at which URL, for how long its tokens live; `v2_only`: SMART v1 scopes are
    dropped."""

    practice: str
    token_url: str
    life_s: int
    words: TokenWords
    v2_only: Callable[[Client], bool] = lambda _: False


async def issue_rest_token(
    world: World,
    keys: KeySets,
    endpoint: Endpoint,
    call: TokenCall,
    *,
    now: datetime,
    effect: Effect,
    new_token: Callable[[], str],
) -> Answer:
    """The token endpoint's answer; `now` is the vendor's clock."""
    form = form_of(call)
    if form is None:
        return endpoint.words.error("invalid_request")
    if form.get("grant_type") != GRANT_TYPE:
        return endpoint.words.error("unsupported_grant_type" if form.get("grant_type") else "invalid_request")
    wrong_tenant = effect.word("tenant-not-enabled", "urn")
    if wrong_tenant is not None:
        return endpoint.words.error(wrong_tenant)
    try:
        client = await authenticated(world, keys, endpoint.token_url, call, form, now, effect)
    except RefusedError as refused:
        _log.info("token request refused", extra={"code": f"simulator.{refused.reason.value}"})
        return endpoint.words.refused(refused.reason)
    v2_only = endpoint.v2_only(client) or effect.has("scopes-v2-only")
    asked = tuple(one for one in form.get("scope", "").split() if not (v2_only and is_v1(one)))
    if form.get("scope") and not asked:
        return endpoint.words.error("empty-scopes")
    scopes = granted(asked, client.scopes)
    if not scopes:
        return endpoint.words.error("empty-scopes")
    text = new_token()
    world.tokens.issue(text, client.client_id, endpoint.practice, scopes, now, life_s=endpoint.life_s)
    world.clients.note_token(client.client_id, now)
    return granted_token(text, endpoint.life_s, scopes)


def form_of(call: TokenCall) -> dict[str, str] | None:
    """The form of a request; None when it is none, or names a parameter twice (RFC 6749 §3.2)."""
    if call.content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return None
    try:
        pairs = parse_qsl(call.body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except (UnicodeDecodeError, ValueError):
        return None
    form = dict(pairs)
    return form if len(form) == len(pairs) else None


async def authenticated(
    world: World,
    keys: KeySets,
    token_url: str,
    call: TokenCall,
    form: Mapping[str, str],
    now: datetime,
    effect: Effect,
) -> Client:
    """The client of a request, by its secret or its signed assertion. Raises RefusedError, and remembers why."""
    assertion = None
    if "client_assertion" in form:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise RefusedError(Refusal.ASSERTION_TYPE)
        assertion = take_apart(form["client_assertion"])
        client_id, secret = assertion.issuer, None
    else:
        client_id, secret = _secret(call, form)
    try:
        client = _registered(world, client_id, now)
        refuse_by_fault(client, effect, now)
        if assertion is not None:
            await authenticate(world, keys, client, assertion, token_url, now)
        else:
            _check_secret(client, secret or "")
    except RefusedError as refused:
        world.clients.note_refusal(client_id, refused.reason.value, now)
        raise
    return client


def _check_secret(client: Client, secret: str) -> None:
    if client.secret is None or not hmac.compare_digest(secret.encode(), client.secret.encode()):
        raise RefusedError(Refusal.SECRET)


def _registered(world: World, client_id: str, now: datetime) -> Client:
    client = world.clients.find(client_id)
    if client is None:
        raise RefusedError(Refusal.CLIENT_UNKNOWN)
    if not client.enabled:
        raise RefusedError(Refusal.CLIENT_DISABLED)
    if client.expires_at is not None and client.expires_at <= now:
        raise RefusedError(Refusal.SECRET_EXPIRED)
    return client


def _secret(call: TokenCall, form: Mapping[str, str]) -> tuple[str, str]:
    """Client id and secret of the Basic header (RFC 6749 §2.3.1: percent-encoded), or of the form."""
    scheme, _, text = call.authorization.partition(" ")
    if not call.authorization and "client_secret" in form:
        return form.get("client_id", ""), form["client_secret"]
    if scheme.lower() != "basic":
        raise RefusedError(Refusal.NO_HEADER)
    try:
        client_id, colon, secret = base64.b64decode(text.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError(Refusal.NO_HEADER) from None
    if not colon:
        raise RefusedError(Refusal.NO_HEADER)
    return unquote(client_id), unquote(secret)
