"""A client asks for a token: its assertion is verified for real, and every failure answered alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from simulator.core.answer import Answer
from simulator.core.assertion import Assertion, Refusal, RefusedError, key_of, take_apart, verify
from simulator.core.clients import Client
from simulator.core.faults import Effect
from simulator.core.refused_clients import refuse_by_fault
from simulator.core.scopes import granted
from simulator.core.token_endpoint import (
    GrantRefusedError,
    TokenRequest,
    granted_token,
    invalid_client,
    read_request,
    refused_grant,
)
from simulator.core.world import World
from simulator.ports import KeySets

_log = logging.getLogger("simulator.token")


async def issue_token(
    world: World,
    keys: KeySets,
    *,
    practice: str,
    token_url: str,
    content_type: str,
    body: bytes,
    now: datetime,
    effect: Effect,
    new_token: Callable[[], str],
) -> Answer:
    """The token endpoint's answer. `now` is the vendor's clock; why a client was refused is kept with the client."""
    assertion: Assertion | None = None
    try:
        request = read_request(content_type, body)
        assertion = take_apart(request.assertion)
        client = _client(world, assertion, now)
        refuse_by_fault(client, effect, now)
        await authenticate(world, keys, client, assertion, token_url, now)
    except GrantRefusedError as refused:
        return refused_grant(refused.error)
    except RefusedError as refused:
        _log.info("token request refused", extra={"code": f"simulator.{refused.reason.value}"})
        if assertion is not None:
            world.clients.note_refusal(assertion.issuer, refused.reason.value, now)
        return invalid_client()
    return _grant(world, client, request, practice, now, new_token)


def _client(world: World, assertion: Assertion, now: datetime) -> Client:
    client = world.clients.find(assertion.issuer)
    if client is None:
        raise RefusedError(Refusal.CLIENT_UNKNOWN)
    if not client.enabled:
        raise RefusedError(Refusal.CLIENT_DISABLED)
    if client.expires_at is not None and client.expires_at <= now:
        raise RefusedError(Refusal.SECRET_EXPIRED)
    return client


async def authenticate(
    world: World, keys: KeySets, client: Client, assertion: Assertion, token_url: str, now: datetime
) -> None:
    """Verify an assertion with the client's published keys, and use its id up. Raises RefusedError."""
    document = await keys.keys(client, fresh=False)
    try:
        key = key_of(assertion, document or {})
    except RefusedError as refused:
        if refused.reason is not Refusal.KID_UNKNOWN:
            raise
        # A key that was just published is not in the cache yet.
        document = await keys.keys(client, fresh=True)
        if document is None:
            raise RefusedError(Refusal.KEYS_UNAVAILABLE) from None
        key = key_of(assertion, document)
    verify(assertion, key, client_id=client.client_id, token_url=token_url, now=now)
    world.replays.use(client.client_id, assertion.claims["jti"], float(assertion.claims["exp"]), now)


def _grant(
    world: World, client: Client, request: TokenRequest, practice: str, now: datetime, new_token: Callable[[], str]
) -> Answer:
    scopes = granted(request.scopes, client.scopes)
    if not scopes:
        return refused_grant("invalid_scope")
    text = new_token()
    world.tokens.issue(text, client.client_id, practice, scopes, now)
    world.clients.note_token(client.client_id, now)
    return granted_token(text, world.tokens.life_s, scopes)
