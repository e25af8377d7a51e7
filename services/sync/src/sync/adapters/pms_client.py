"""The FHIR API of a PMS: token from the broker, retries as the answers ask, every call an exchange."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from common.models.clock import Clock, Ids, parse_instant
from common.models.errors import ERRORS, Retry, SuiteError
from common.models.integration import Channel, Integration
from common.runtime.outbound import Answer, ExchangeContext, Outbound
from common.runtime.peers import Peers
from pms.fhir import FHIR_HEADERS, Bundle, FhirRequest, parse_answer, same_origin
from pms.signatures import Signature, Surface, signature_of
from sync.core.retry import Attempts, pause_before_retry

_UNAUTHORIZED: Final = "peer.unauthorized"
_UNREADABLE: Final = "peer.unreadable"
_RENEW_AHEAD: Final = timedelta(seconds=20)
_log = logging.getLogger("sync")

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    expires_at: datetime


class _FailedError(Exception):
    """One attempt failed: the catalogue's code, whether a repetition may help, and the wait that was asked for (s)."""

    def __init__(self, code: str, *, transient: bool, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.transient = transient
        self.retry_after_s = retry_after_s


class HttpPms:
    """`Pms`."""

    def __init__(
        self,
        outbound: Outbound,
        peers: Peers,
        clock: Clock,
        ids: Ids,
        *,
        timeout_s: float,
        wait_s_max: float,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._outbound = outbound
        self._peers = peers
        self._clock = clock
        self._ids = ids
        self._timeout_s = timeout_s
        self._wait_s_max = wait_s_max
        self._pause = pause
        self._tokens: dict[tuple[str, str], _Token] = {}

    async def search(self, integration: Integration, channel: Channel, request: FhirRequest) -> Bundle:
        return await self._get(integration, channel, request.url(channel.endpoint), request.operation)

    async def follow(self, integration: Integration, channel: Channel, link: str, operation: str) -> Bundle:
        if not same_origin(channel.endpoint, link):
            # The token would go to another host with it.
            raise SuiteError(_UNREADABLE, "The `next` link leads away from the channel's endpoint.")
        return await self._get(integration, channel, link, operation)

    async def _get(self, integration: Integration, channel: Channel, url: str, operation: str) -> Bundle:
        attempts = Attempts()
        while True:
            attempts = replace(attempts, made=attempts.made + 1)
            try:
                return await self._attempt(integration, channel, url, operation)
            except _FailedError as error:
                pause_s = pause_before_retry(
                    error.code,
                    transient=error.transient,
                    retry_after_s=error.retry_after_s,
                    attempts=attempts,
                    wait_s_max=self._wait_s_max,
                    jitter=self._ids.fraction(),
                )
                named = {"integration_id": integration.id, "operation": operation, "code": error.code}
                _log.info("request to the PMS failed", extra={**named, "attempt": attempts.made})
                if pause_s is None:
                    raise SuiteError(error.code) from error
                await self._pause(pause_s)
                attempts = replace(attempts, waited_s=attempts.waited_s + pause_s)

    async def _attempt(self, integration: Integration, channel: Channel, url: str, operation: str) -> Bundle:
        token = await self._token(integration, channel)
        result = self._read(integration, await self._send(integration, channel, url, operation, token))
        if isinstance(result, Signature) and result.error == _UNAUTHORIZED and token is not None:
            # It may have been revoked early: once more with another one.
            token = await self._token(integration, channel, rejected=token)
            result = self._read(integration, await self._send(integration, channel, url, operation, token))
        if isinstance(result, Signature):
            transient = result.retry is Retry.TRANSIENT
            raise _FailedError(result.error, transient=transient, retry_after_s=result.retry_after_s)
        if result is None:
            raise _FailedError(_UNREADABLE, transient=False)
        return result

    async def _send(
        self, integration: Integration, channel: Channel, url: str, operation: str, token: str | None
    ) -> Answer:
        headers: Mapping[str, str] = {**FHIR_HEADERS, **({"Authorization": f"Bearer {token}"} if token else {})}
        context = ExchangeContext(integration.tenant, integration.id, channel.name, "fhir", operation)
        try:
            return await self._outbound.request(
                "GET", url, exchange=context, headers=headers, timeout_s=self._timeout_s
            )
        except SuiteError as error:
            raise _FailedError(error.code, transient=error.transient) from error

    def _read(self, integration: Integration, answer: Answer) -> Bundle | Signature | None:
        """The page, or what kind of failure the answer is; None for a good answer that is no page."""
        headers = dict(answer.headers)
        if 200 <= answer.status < 300:
            bundle = parse_answer(headers.get("content-type", ""), answer.body).bundle
            if bundle is not None:
                return bundle
        now = self._clock.now()
        return signature_of(integration.vendor, Surface.RESOURCE, answer.status, headers, answer.body, now=now)

    async def _token(self, integration: Integration, channel: Channel, *, rejected: str | None = None) -> str | None:
        """The channel's access token; None for a channel without a credential (an open test server)."""
        if channel.credential is None:
            return None
        key = (integration.id, channel.credential)
        cached = self._tokens.get(key)
        if cached is not None and rejected is None and cached.expires_at - _RENEW_AHEAD > self._clock.now():
            return cached.text
        body = {} if rejected is None else {"rejected_token_sha256": sha256(rejected.encode()).hexdigest()}
        path = f"/auth/v1/integrations/{integration.id}/credentials/{channel.credential}:token"
        self._tokens.pop(key, None)
        try:
            response = await self._peers.request("auth-gateway", "POST", path, tenant=integration.tenant, json=body)
        except SuiteError as error:
            raise _FailedError(error.code, transient=ERRORS[error.code].retry is Retry.TRANSIENT) from error
        answer = response.json()
        self._tokens[key] = token = _Token(str(answer["access_token"]), parse_instant(answer["expires_at"]))
        return token.text
