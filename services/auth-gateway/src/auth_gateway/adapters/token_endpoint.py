"""A provider's token endpoint: authlib makes the OAuth request, the checked network carries it.

authlib's client runs on a transport of ours, so that every address is checked and every exchange recorded. The answer is
read from the transport, not from authlib's exception: status, headers and body are what tells causes apart.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from pms.signatures import Surface, signature_of
from pms.smart import parse_token_response

from auth_gateway.core.methods import TokenCall
from auth_gateway.ports import AccessToken, Credential, TokenAnswer
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.integration import Vendor
from common.runtime.outbound import Answer, ExchangeContext, Outbound

_OK: Final = 200
_HOP_HEADERS: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _OutboundTransport(httpx.AsyncBaseTransport):
    """Carries one client's requests over the checked network and keeps the last answer."""

    def __init__(self, outbound: Outbound, exchange: ExchangeContext, timeout_s: float) -> None:
        self._outbound = outbound
        self._exchange = exchange
        self._timeout_s = timeout_s
        self.answer: Answer | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wanted = ("accept", "authorization", "content-type")
        self.answer = await self._outbound.request(
            request.method,
            str(request.url),
            exchange=self._exchange,
            headers={name: request.headers[name] for name in wanted if name in request.headers},
            content=await request.aread(),
            timeout_s=self._timeout_s,
        )
        headers = [(name, value) for name, value in self.answer.headers.items() if name.lower() not in _HOP_HEADERS]
        return httpx.Response(self.answer.status, headers=headers, content=self.answer.body)


class HttpTokenEndpoint:
    """`TokenEndpoint`."""

    def __init__(self, outbound: Outbound, clock: Clock, timeout_s: float) -> None:
        self._outbound = outbound
        self._clock = clock
        self._timeout_s = timeout_s

    async def request(self, credential: Credential, call: TokenCall, operation: str) -> TokenAnswer:
        asked_at = self._clock.now()
        exchange = ExchangeContext(credential.tenant, credential.integration_id, "", "token", operation)
        transport = _OutboundTransport(self._outbound, exchange, self._timeout_s)
        client = AsyncOAuth2Client(
            client_id=credential.client_id,
            client_secret=call.secret,
            token_endpoint_auth_method=call.auth_method,
            transport=transport,
            trust_env=False,
        )
        form: dict[str, Any] = dict(call.form)
        grant_type = form.pop("grant_type")
        try:
            await client.fetch_token(credential.token_url, grant_type=grant_type, **form)
        except SuiteError as error:
            return TokenAnswer(None, asked_at, error_code=error.code)
        except (OAuthError, httpx.HTTPError, ValueError):
            # refused, or no JSON at all: the answer itself says which
            if transport.answer is None:
                return TokenAnswer(None, asked_at, error_code="peer.unreadable")
        finally:
            await client.aclose()
        assert transport.answer is not None
        return _read(transport.answer, asked_at)


def _read(answer: Answer, asked_at: Any) -> TokenAnswer:
    granted = parse_token_response(answer.body) if answer.status == _OK else None
    if granted is not None:
        token = AccessToken(
            granted.access_token, granted.token_type, " ".join(granted.scope), granted.expires_at(asked_at)
        )
        return TokenAnswer(
            token, asked_at, answer.status, clock_offset_ms=answer.clock_offset_ms, duration_ms=answer.duration_ms
        )
    found = signature_of(Vendor.FHIR, Surface.TOKEN, answer.status, dict(answer.headers), answer.body, now=asked_at)
    error = found.error if found else "peer.unreadable"
    said = str(found.evidence.get("oauth_error") or found.code) if found else None
    return TokenAnswer(
        None,
        asked_at,
        answer.status,
        error_code=error,
        oauth_error=said,
        rejected=error == "credential.rejected",
        clock_offset_ms=answer.clock_offset_ms,
        retry_after_s=found.retry_after_s if found else None,
        duration_ms=answer.duration_ms,
    )
