"""HTTP between our own services: over the network, or in process when both are modules of one host.

Every call goes through the peer's gate, so authentication, validation and tracing run in both shapes. A service acts
for a tenant with a token of five minutes, had by token exchange (RFC 8693) at auth-gateway against a short assertion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from starlette.types import ASGIApp

from common.models.clock import Clock, Ids, parse_instant
from common.models.errors import ERRORS, SuiteError
from common.runtime.authentication import sign_service_assertion
from common.runtime.keyring import KeyEncryptionKey, WrappedKey
from common.runtime.telemetry import current_traceparent

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant type, RFC 8693 §2.1
TOKEN_TYPE_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105 - a token type, RFC 8693 §3
_TIMEOUT_S: Final = 15.0
_RENEW_AHEAD: Final = timedelta(seconds=60)
_IN_PROCESS: Final = "http://in-process.invalid"
_UNAUTHORIZED: Final = 401
_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    expires_at: datetime


class Peers:
    """Clients of the suite's services."""

    def __init__(self, urls: Mapping[str, str], kek: KeyEncryptionKey, subject: str, clock: Clock, ids: Ids) -> None:
        self._urls = dict(urls)
        self._kek = kek
        self._subject = subject
        self._clock = clock
        self._ids = ids
        self._local: dict[str, ASGIApp] = {}
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._tokens: dict[str, _Token] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def attach(self, services: Mapping[str, ASGIApp]) -> None:
        """The modules of this process: calls to them stay inside it."""
        self._local.update(services)

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.aclose()

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        *,
        tenant: str,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> httpx.Response:
        """Call a service for a tenant, with the service role.

        Raises SuiteError `service.unavailable` when it does not answer or does not accept this service (which is never
        the caller's fault), or the error of its problem detail.
        """
        token = await self._service_token(tenant)
        response = await self._send(service, method, path, token, json, params, headers, timeout_s)
        if response.status_code == _UNAUTHORIZED:  # the issuer's key was rotated: one more try with a new token
            token = await self._service_token(tenant, refused=token)
            response = await self._send(service, method, path, token, json, params, headers, timeout_s)
            if response.status_code == _UNAUTHORIZED:
                raise SuiteError("service.unavailable", f"{service} does not accept the token of {self._subject}.")
        _raise_problem(response, service)
        return response

    async def public(
        self, service: str, method: str, path: str, *, data: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Call a route that needs no token of ours; errors as in `request`."""
        response = await self._call(service, method, path, data=data, headers={"traceparent": current_traceparent()})
        _raise_problem(response, service)
        return response

    async def token(
        self, tenant: str, *, subject: str | None = None, scope: str = "", lifetime_s: int | None = None
    ) -> str:
        """A token from the suite's issuer for a tenant; by default the service's own, without asking for a scope."""
        form = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token_type": TOKEN_TYPE_JWT,
            "subject_token": sign_service_assertion(self._kek, subject or self._subject, self._clock, self._ids),
            "tenant": tenant,
        }
        if scope:
            form["scope"] = scope
        if lifetime_s is not None:
            form["lifetime_s"] = str(lifetime_s)
        response = await self.public("auth-gateway", "POST", "/auth/v1/token", data=form)
        body = response.json()
        if subject is None:
            self._tokens[tenant] = _Token(
                body["access_token"], self._clock.now() + timedelta(seconds=body["expires_in"])
            )
        return str(body["access_token"])

    async def _send(
        self,
        service: str,
        method: str,
        path: str,
        token: str,
        json: Any,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> httpx.Response:
        sent = {
            "authorization": f"Bearer {token}",
            "traceparent": current_traceparent(),
            **(headers or {}),
        }
        return await self._call(service, method, path, json=json, params=params, headers=sent, timeout=timeout_s)

    async def _service_token(self, tenant: str, refused: str | None = None) -> str:
        """A token that will do for a while and is not the refused one; one exchange for all who ask at once."""
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            cached = self._tokens.get(tenant)
            if cached is not None and cached.text != refused and cached.expires_at - _RENEW_AHEAD > self._clock.now():
                return cached.text
            try:
                return await self.token(tenant)
            except SuiteError as error:
                if error.row.status != _UNAUTHORIZED:
                    raise
                raise SuiteError(
                    "service.unavailable", f"auth-gateway gives {self._subject} no token: {error.row.next_step}"
                ) from error

    async def _call(self, service: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return await self._client(service).request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise SuiteError("service.unavailable", f"{service} does not answer.") from error

    def _client(self, service: str) -> httpx.AsyncClient:
        client = self._clients.get(service)
        if client is None:
            local = self._local.get(service)
            if local is None and service not in self._urls:
                raise SuiteError("start.bad-setting", f"PS_PEERS names no URL of {service}.")
            client = httpx.AsyncClient(
                base_url=_IN_PROCESS if local is not None else self._urls[service],
                transport=httpx.ASGITransport(local) if local is not None else None,
                timeout=_TIMEOUT_S,
                trust_env=False,
            )
            self._clients[service] = client
        return client


class PeerKeySource:
    """`KeySource` that asks auth-gateway."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def wrapped(self, tenant: str) -> list[WrappedKey]:
        try:
            response = await self._peers.request(
                "auth-gateway", "GET", f"/auth/v1/tenants/{tenant}/keys", tenant=tenant
            )
        except SuiteError as error:
            if error.code in ("tenant.not-found", "tenant.offboarded"):
                return []
            raise SuiteError("keys.unavailable", "auth-gateway does not give the tenant's keys.") from error
        return [
            WrappedKey(
                row["version"],
                bytes.fromhex(row["wrapped"]),
                parse_instant(row["seals_from"]) if row.get("seals_from") else None,
            )
            for row in response.json()["keys"]
        ]


def _raise_problem(response: httpx.Response, service: str) -> None:
    if response.status_code < _ERROR:
        return
    try:
        body = response.json()
        code, detail = body["code"], body.get("detail")
    except (ValueError, KeyError, TypeError):
        raise SuiteError("service.unavailable", f"{service} answered {response.status_code}.") from None
    raise SuiteError(code if code in ERRORS else "service.unavailable", detail)
