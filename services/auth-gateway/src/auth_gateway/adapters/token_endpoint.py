"""A provider's token endpoint: authlib composes the OAuth request, the checked network carries it.

Only authlib's pure half is used (RFC 6749 request and client authentication): its HTTP clients connect by themselves,
and here every address must be checked and every exchange recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from authlib.oauth2 import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from auth_gateway.core.methods import TokenCall
from auth_gateway.ports import AccessToken, Credential, Secrets, TokenAnswer
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.integration import Vendor
from common.runtime.outbound import Answer, ExchangeContext, Outbound
from pms.signatures import Surface, signature_of
from pms.smart import parse_token_response, scope_shown
from pms.unity import TOKEN_IDLE_LIFE_S, Session, UnityError, UnityRequest
from pms.unity_session import authenticate_user, get_token, parse_token, parse_user

_OK: Final = 200
# What stands before Unity answers in HTTP's own terms.
_CODES: Final = {403: "peer.allow-list", 429: "peer.rate-limited"}
_SERVER_ERROR: Final = 500
_BASIC: Final = "client_secret_basic"
_URN_BYTES_MAX: Final = 4_000


class HttpTokenEndpoint:
    """`TokenEndpoint`."""

    def __init__(self, outbound: Outbound, clock: Clock, timeout_s: float) -> None:
        self._outbound = outbound
        self._clock = clock
        self._timeout_s = timeout_s

    async def request(self, credential: Credential, call: TokenCall, operation: str) -> TokenAnswer:
        asked_at = self._clock.now()
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        form = dict(call.form)
        body = prepare_token_request(form.pop("grant_type"), **form)
        url = credential.token_url
        if call.auth_method is not None:
            client = ClientAuth(*_named(credential.client_id, call.secret or "", call.auth_method))
            url, headers, body = client.prepare("POST", url, headers, body)
        try:
            answer = await self._outbound.request(
                "POST",
                url,
                exchange=ExchangeContext(credential.tenant, credential.integration_id, "", "token", operation),
                headers={name: value for name, value in headers.items() if name != "Content-Length"},
                content=body.encode(),
                timeout_s=self._timeout_s,
            )
        except SuiteError as error:
            return TokenAnswer(None, asked_at, error_code=error.code)
        return _read(answer, asked_at, credential.scopes)

    async def open_session(self, credential: Credential, secrets: Secrets) -> TokenAnswer:
        asked_at = self._clock.now()
        login = get_token(str(credential.options["username"]), secrets.secret or "")
        answer = await self._unity(credential, login)
        if isinstance(answer, SuiteError):
            return TokenAnswer(None, asked_at, error_code=answer.code)
        given = parse_token(answer.body)
        if given.token is None:
            return _refused(answer, given.error, asked_at)
        session = Session(credential.client_id, str(credential.options["user_name"]), given.token)
        entered = await self._unity(credential, authenticate_user(session, secrets.second or ""))
        if isinstance(entered, SuiteError):
            return TokenAnswer(None, asked_at, error_code=entered.code)
        user = parse_user(entered.body)
        if not user.valid:
            return _refused(entered, user.error, asked_at)
        token = AccessToken(given.token, "Unity", "", asked_at + timedelta(seconds=TOKEN_IDLE_LIFE_S))
        seen = _refused(entered, None, asked_at)
        return replace(
            seen, token=token, error_code=None, oauth_error=None, duration_ms=answer.duration_ms + entered.duration_ms
        )

    async def _unity(self, credential: Credential, request: UnityRequest) -> Answer | SuiteError:
        try:
            return await self._outbound.request(
                request.method,
                request.url(credential.token_url),
                exchange=ExchangeContext(credential.tenant, credential.integration_id, "", "token", request.operation),
                headers=request.headers,
                content=request.body,
                timeout_s=self._timeout_s,
            )
        except SuiteError as error:
            return error


def _named(client_id: str, secret: str, auth_method: str) -> tuple[str, str, str]:
    """Id and secret as HTTP Basic wants them: percent-encoded first (RFC 6749 §2.3.1), which authlib leaves out. A
    server that reads them would else take a `%` for the beginning of something, and a colon for the end of the id."""
    if auth_method != _BASIC:
        return client_id, secret, auth_method
    return quote(client_id, safe=""), quote(secret, safe=""), auth_method


def _refused(answer: Answer, error: UnityError | None, asked_at: datetime) -> TokenAnswer:
    """Unity's refusals come with HTTP 200; an answer that is none of Unity's is unreadable, or the server's failure."""
    code = error.error if error else _CODES.get(answer.status, "peer.unreadable")
    if answer.status >= _SERVER_ERROR:
        code = "peer.unavailable"
    return TokenAnswer(
        None,
        asked_at,
        answer.status,
        error_code=code,
        oauth_error=error.name if error else None,
        rejected=code == "credential.rejected",
        clock_offset_ms=answer.clock_offset_ms,
        duration_ms=answer.duration_ms,
    )


def _read(answer: Answer, asked_at: datetime, asked_scopes: Sequence[str]) -> TokenAnswer:
    granted = parse_token_response(answer.body) if answer.status == _OK else None
    if granted is not None:
        token = AccessToken(
            granted.access_token,
            granted.token_type,
            scope_shown(granted.scope, asked_scopes),
            granted.expires_at(asked_at),
        )
        return TokenAnswer(
            token,
            asked_at,
            answer.status,
            clock_offset_ms=answer.clock_offset_ms,
            duration_ms=answer.duration_ms,
            refresh_token=granted.refresh_token,
        )
    # A URN says by itself that it is Oracle Health's; a credential does not know its vendor.
    vendor = Vendor.CERNER if b"cerner" in answer.body[:_URN_BYTES_MAX].lower() else Vendor.FHIR
    found = signature_of(vendor, Surface.TOKEN, answer.status, dict(answer.headers), answer.body, now=asked_at)
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
        signature=found.code if found else None,
    )
