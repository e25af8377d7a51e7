"""A client exchanges a code, or refreshes: for Epic-like servers, where a person granted something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from simulator.core.answer import Answer
from simulator.core.assertion import RefusedError
from simulator.core.faults import Effect
from simulator.core.grants import OFFLINE, Grant, InvalidGrantError
from simulator.core.token_endpoint import granted_token, invalid_client, refused_grant
from simulator.core.world import World
from simulator.ports import KeySets
from simulator.use_cases.issue_rest_token import TokenCall, authenticated, form_of

GRANT_TYPES = ("authorization_code", "refresh_token")


async def issue_granted_token(
    world: World,
    keys: KeySets,
    *,
    practice: str,
    token_url: str,
    call: TokenCall,
    now: datetime,
    effect: Effect,
    new_token: Callable[[], str],
) -> Answer | None:
    """The answer, None when the request is of another grant type. `now` is the vendor's clock."""
    form = form_of(call)
    if form is None or form.get("grant_type") not in GRANT_TYPES:
        return None
    try:
        client = await authenticated(world, keys, token_url, call, form, now, effect)
    except RefusedError:
        return invalid_client()
    try:
        grant, following = _granted(world, form, client.client_id, practice, now, effect, new_token)
    except InvalidGrantError:
        return refused_grant("invalid_grant")
    text = new_token()
    world.tokens.issue(text, client.client_id, practice, grant.scopes, now)
    world.clients.note_token(client.client_id, now)
    missing = effect.word("launch-context-missing", "context")
    extra = {name: value for name, value in grant.context.items() if name != missing}
    if following is not None:
        extra["refresh_token"] = following
    return granted_token(text, world.tokens.life_s, grant.scopes, extra)


def _granted(
    world: World,
    form: Mapping[str, str],
    client_id: str,
    practice: str,
    now: datetime,
    effect: Effect,
    new_token: Callable[[], str],
) -> tuple[Grant, str | None]:
    """(grant, refresh token to give); raises InvalidGrantError."""
    if form["grant_type"] == "authorization_code":
        verifier, redirect_uri = form.get("code_verifier", ""), form.get("redirect_uri", "")
        grant = world.grants.exchange(form.get("code", ""), client_id, redirect_uri, verifier, now)
        if grant.practice != practice:
            raise InvalidGrantError
        if OFFLINE not in grant.scopes:
            return grant, None
        first = new_token()
        world.grants.keep(first, grant, first)
        return grant, first
    token = form.get("refresh_token", "")
    if effect.has("refresh-token-revoked"):
        world.grants.end(token)
    if effect.has("refresh-token-raced"):
        # Somebody else comes first with the same token; our own request is then the second one.
        world.grants.refresh(token, client_id, new_token)
    grant, following = world.grants.refresh(token, client_id, new_token)
    if grant.practice != practice:
        raise InvalidGrantError
    return grant, following
