"""Give a short-lived access token to a service: from the cache, or from the provider by one refresher at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from auth_gateway.core.methods import METHODS, Grant, Method, MethodInput, TokenKind, client_credentials, refresh
from auth_gateway.core.refresh import UNANSWERED_MAX, Decision, TokenState, TokenTiming, after_failure, decide
from auth_gateway.ports import (
    AccessToken,
    Credential,
    Credentials,
    Secrets,
    SingleFlight,
    Tenants,
    TokenAnswer,
    TokenEndpoint,
)
from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError

RECONNECT: Final = "credential.reconnect-needed"
INVALID_GRANT: Final = "invalid_grant"
REFRESH_TTL_S: Final = 5.0
"""Renewed while the request runs; a replica that died with it holds the others up no longer than that."""
HELD_S: Final = 2.0
"""How long a token is given out without looking whether its credential was changed."""
LOOKING_S: Final = 0.5
"""How much longer the others get it while one of them looks; together less than the margin before its expiry."""
HELD_TOKENS_MAX: Final = 10_000
WAIT_S: Final = 0.1
WAIT_TURNS_MAX: Final = 150


@dataclass(frozen=True, slots=True)
class Broker:
    """What obtaining a token needs."""

    credentials: Credentials
    tenants: Tenants
    endpoint: TokenEndpoint
    flight: SingleFlight
    clock: Clock
    ids: Ids
    timing: TokenTiming
    admit: Callable[[str], Awaitable[None]]
    """Raises SuiteError `tenant.suspended` for a practice whose work is to rest."""
    held: dict[tuple[str, str, str], _Held] = field(default_factory=dict)
    """Tokens that were looked up a moment ago, by tenant, integration and name."""


@dataclass(frozen=True, slots=True)
class _Held:
    token: AccessToken = field(repr=False)
    sha256: str | None
    until: float
    """On the monotonic clock."""


async def obtain_token(
    broker: Broker, tenant: str, integration_id: str, name: str, rejected_sha256: str | None
) -> AccessToken:
    """A usable token. Raises SuiteError `tenant.suspended`, `credential.not-found`, `credential.unusable` (its method
    has no token), `credential.rejected`, `credential.reconnect-needed` or `credential.refresh-failed`.

    `rejected_sha256`: the token that the PMS has just refused; a newer one is given or asked for.
    """
    at_hand = _at_hand(broker, (tenant, integration_id, name), rejected_sha256)
    if at_hand is not None:
        return at_hand
    await broker.admit(tenant)
    for _ in range(WAIT_TURNS_MAX):
        credential = await broker.credentials.get(tenant, integration_id, name)
        check_has_token(credential)
        decision = decide(
            credential.token,
            broker.clock.now(),
            share=broker.timing.share,
            jitter=broker.ids.fraction(),
            rejected_sha256=rejected_sha256,
            margin_s=credential.options.get("refresh_margin_s", broker.timing.margin_s(credential.vendor)),
        )
        if decision is Decision.REFUSE:
            raise refused(credential.token)
        if decision is Decision.USE:
            return _hold(broker, credential, await in_hand(broker, credential))
        async with broker.flight.hold(f"credential/{credential.record}", ttl_s=REFRESH_TTL_S) as lease:
            if lease is not None:
                again = await broker.credentials.get(tenant, integration_id, name)
                if again.token != credential.token:
                    continue  # somebody refreshed between our look and the lease
                answer = await request_and_keep(broker, again, "refresh", lease)
                if answer.token is not None:
                    return answer.token
                if decision is Decision.REFRESH_IF_FREE:
                    return await in_hand(broker, again)  # the provider is away; the old one is used to its end
                raise error_of(answer)
        if decision is Decision.REFRESH_IF_FREE:
            return await in_hand(broker, credential)
        await asyncio.sleep(WAIT_S)
    raise SuiteError("credential.refresh-failed", "Another replica has been refreshing for too long.")


def _at_hand(broker: Broker, name: tuple[str, str, str], rejected_sha256: str | None) -> AccessToken | None:
    held = broker.held.get(name)
    if held is None or held.sha256 == rejected_sha256:
        return None
    now = broker.clock.monotonic()
    if now < held.until:
        return held.token
    if now < held.until + LOOKING_S:
        # One looks; a hundred that come in the same moment need not.
        broker.held[name] = replace(held, until=now + LOOKING_S)
    return None


def _hold(broker: Broker, credential: Credential, token: AccessToken) -> AccessToken:
    """Keep it at hand for a moment: services ask for the same few tokens all the time."""
    if len(broker.held) >= HELD_TOKENS_MAX:
        broker.held.clear()
    name = (credential.tenant, credential.integration_id, credential.name)
    broker.held[name] = _Held(token, credential.token.token_sha256, broker.clock.monotonic() + HELD_S)
    return token


async def refresh_token(
    broker: Broker, tenant: str, integration_id: str, name: str, trigger: str
) -> tuple[Credential, TokenAnswer]:
    """Ask for a new token now, whatever is in hand; the answer says how it ended. A dead grant is not asked again."""
    for _ in range(WAIT_TURNS_MAX):
        async with broker.flight.hold(f"credential/{integration_id}/{name}", ttl_s=REFRESH_TTL_S) as lease:
            if lease is not None:
                credential = await broker.credentials.get(tenant, integration_id, name)
                check_has_token(credential)
                return credential, await request_and_keep(broker, credential, trigger, lease)
        await asyncio.sleep(WAIT_S)
    raise SuiteError("credential.refresh-failed", "Another replica has been refreshing for too long.")


async def request_and_keep(broker: Broker, credential: Credential, trigger: str, lease: Any) -> TokenAnswer:
    """One token request, outside any transaction, and its result kept under the lease's fencing number."""
    method, state = METHODS[credential.method], credential.token
    if state.reconnect:
        return TokenAnswer(None, broker.clock.now(), error_code=RECONNECT, rejected=True)
    if method.kind is TokenKind.UNITY:
        answer = await broker.endpoint.open_session(credential, await broker.credentials.secrets(credential))
        return await keep_answer(broker, credential, answer, trigger, lease)
    if credential.grant is Grant.CLIENT_CREDENTIALS:
        call = client_credentials(method, await method_input(broker, credential, method))
        answer = await broker.endpoint.request(credential, call, "token")
        return await keep_answer(broker, credential, answer, trigger, lease)
    parent = await broker.credentials.refresh_token(credential)
    if parent is None or state.unanswered >= UNANSWERED_MAX:
        # Nobody has granted anything yet; or the token was lost with the one that came for it.
        answer = TokenAnswer(None, broker.clock.now(), error_code=RECONNECT, oauth_error=INVALID_GRANT, rejected=True)
        return await keep_answer(broker, credential, answer, trigger, lease)
    call = refresh(method, await method_input(broker, credential, method), parent)
    await broker.credentials.begin_refresh(credential, lease)
    answer = await broker.endpoint.request(credential, call, "refresh")
    return await keep_answer(broker, credential, answer, trigger, lease)


async def method_input(broker: Broker, credential: Credential, method: Method) -> MethodInput:
    """What a method's request is made from, its secret unsealed."""
    sign: Callable[[dict[str, Any]], str] = _no_key
    if method.uses_our_key:
        sign = await broker.tenants.signer(credential.tenant, credential.integration_id, credential.algorithm)
    secrets = await broker.credentials.secrets(credential) if method.needs_secret else Secrets()
    return MethodInput(
        client_id=credential.client_id,
        token_url=credential.token_url,
        scopes=credential.scopes,
        secret=secrets.secret,
        now=broker.clock.now(),
        jti=broker.ids.new("jti"),
        sign=sign,
    )


async def keep_answer(
    broker: Broker, credential: Credential, answer: TokenAnswer, trigger: str, lease: Any
) -> TokenAnswer:
    """Store what a token request brought, before anybody uses it; the answer as it was stored."""
    now = broker.clock.now()
    if answer.token is not None:
        life_s_max = broker.timing.life_s_max(credential.vendor)
        answer = replace(answer, token=_capped(answer.token, credential, answer, life_s_max))
        assert answer.token is not None
        state = TokenState(answer.obtained_at, answer.token.expires_at, token_sha256=sha256(answer.token.access_token))
        kind = "ps.credential.refreshed"
    else:
        dead = credential.grant is Grant.AUTHORIZATION_CODE and _is_dead(answer)
        if dead:
            answer = replace(answer, error_code=RECONNECT, rejected=True)
        code = answer.error_code or "credential.refresh-failed"
        state = after_failure(credential.token, code, now, retry_after_s=answer.retry_after_s, reconnect=dead)
        kind = "ps.credential.rejected" if answer.rejected else "ps.credential.refresh-failed"
    event = event_data(credential, answer, trigger)
    await broker.credentials.keep(credential, state, answer.token, event, kind, lease, answer.refresh_token)
    return answer


def _is_dead(answer: TokenAnswer) -> bool:
    return answer.rejected and (answer.oauth_error or "").startswith(INVALID_GRANT)


def _capped(token: AccessToken, credential: Credential, answer: TokenAnswer, life_s_max: int | None) -> AccessToken:
    """The token with the life that the credential, or else its vendor's row, allows at most."""
    life_s = credential.options.get("token_life_max_s", life_s_max)
    if life_s is None:
        return token
    return replace(token, expires_at=min(token.expires_at, answer.obtained_at + timedelta(seconds=life_s)))


def check_has_token(credential: Credential) -> None:
    """Raises SuiteError `credential.unusable` for a method that knows no tokens."""
    if METHODS[credential.method].kind is TokenKind.NONE:
        raise SuiteError("credential.unusable", f"{credential.method} has no access token; services ask for :lease.")


async def in_hand(broker: Broker, credential: Credential) -> AccessToken:
    """The stored token; raises SuiteError `credential.refresh-failed` when it vanished meanwhile."""
    token = await broker.credentials.token(credential)
    if token is None:
        raise SuiteError("credential.refresh-failed", "The credential was changed meanwhile; ask again.")
    return token


def error_of(answer: TokenAnswer) -> SuiteError:
    """The failure that a caller sees."""
    if answer.error_code == RECONNECT:
        return SuiteError(RECONNECT)
    code = "credential.rejected" if answer.rejected else "credential.refresh-failed"
    said = answer.oauth_error or answer.error_code or "no answer"
    return SuiteError(code, f"The token endpoint answered: {said}.")


def refused(state: TokenState) -> SuiteError:
    """The failure while asking again has to wait."""
    if state.reconnect:
        return SuiteError(RECONNECT)
    code = "credential.rejected" if state.error_code == "credential.rejected" else "credential.refresh-failed"
    until = f" The next attempt is made from {instant_text(state.retry_at)} on." if state.retry_at else ""
    return SuiteError(code, f"The last attempt failed ({state.error_code}).{until}")


def event_data(credential: Credential, answer: TokenAnswer, trigger: str) -> dict[str, Any]:
    """The data of a credential event."""
    return {
        "integration_id": credential.integration_id,
        "credential": credential.name,
        "method": credential.method,
        "error_code": answer.error_code,
        "fault": "peer" if answer.token is None else None,
        "stage": "token",
        "expires_at": instant_text(answer.token.expires_at) if answer.token else None,
        "http_status": answer.http_status,
        "clock_offset_ms": answer.clock_offset_ms,
        "trigger": trigger,
    }


def sha256(token: str) -> str:
    """How a service names a token that was refused, without sending it back."""
    return hashlib.sha256(token.encode()).hexdigest()


def _no_key(_: dict[str, Any]) -> str:
    raise SuiteError("credential.unusable")
