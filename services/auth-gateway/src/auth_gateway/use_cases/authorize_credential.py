"""A person lets the suite act for them at the PMS: to the vendor's page and back (RFC 6749 §4.1, PKCE RFC 7636).

The state is a secret of the browser that was sent: it is kept as a hash, bound to credential, version and person, good
for ten minutes and one return. What the vendor gives is stored before anything is shown.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from auth_gateway.core.methods import METHODS, Grant, redeem
from auth_gateway.ports import Authorization, Authorizations, Credential
from auth_gateway.use_cases.obtain_token import REFRESH_TTL_S, Broker, keep_answer, method_input
from common.models.errors import SuiteError
from common.runtime.authentication import Caller

AUTHORIZATION_LIFE: Final = timedelta(minutes=10)
STATE_BYTES: Final = 32
VERIFIER_BYTES: Final = 48
ERROR_CHARACTERS_MAX: Final = 60
_OAUTH_ERRORS: Final = frozenset(
    {
        "invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type", "invalid_scope",
        "server_error", "temporarily_unavailable", "interaction_required", "login_required", "consent_required",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuthorizeCredential:
    """See the module's text. `random_bytes` gives unpredictable bytes; `redirect_uri` is ours, registered at the
    vendor."""

    broker: Broker
    authorizations: Authorizations
    random_bytes: Callable[[int], bytes]
    redirect_uri: str

    async def begin(self, caller: Caller, credential: Credential) -> tuple[str, datetime]:
        """The vendor's URL to send the browser to, and until when. Raises SuiteError `credential.unusable`."""
        if credential.grant is not Grant.AUTHORIZATION_CODE:
            raise SuiteError("credential.unusable", "Its grant is client_credentials: nobody has to let it in.")
        state, verifier = _text(self.random_bytes(STATE_BYTES)), _text(self.random_bytes(VERIFIER_BYTES))
        expires_at = self.broker.clock.now() + AUTHORIZATION_LIFE
        held = Authorization(
            credential.tenant, credential.integration_id, credential.name, credential.version, verifier,
            caller.subject, expires_at,
        )  # fmt: skip
        await self.authorizations.add(state, held)
        return _vendor_url(credential, self.redirect_uri, state, verifier), expires_at

    async def finish(self, query: Mapping[str, str]) -> Credential:
        """What the browser came back with. Raises SuiteError `authorization.unknown`, `authorization.refused`,
        `authorization.issuer-mismatch`, `credential.not-found`, or what the token endpoint did."""
        held = await self.authorizations.take(query["state"]) if query.get("state") else None
        if held is None or held.expires_at < self.broker.clock.now():
            raise SuiteError("authorization.unknown")
        broker = self.broker
        credential = await broker.credentials.get(held.tenant, held.integration_id, held.name)
        if credential.version != held.credential_version:
            raise SuiteError("authorization.unknown", "The credential was changed meanwhile.")
        issuer = credential.options.get("issuer")
        # RFC 9207: an answer that another server sent is not redeemed at this one.
        if issuer and query.get("iss", issuer) != issuer:
            raise SuiteError("authorization.issuer-mismatch")
        if "error" in query or not query.get("code"):
            said = query.get("error", "no code")
            raise SuiteError("authorization.refused", f"It said: {said if said in _OAUTH_ERRORS else 'another error'}.")
        method = METHODS[credential.method]
        call = redeem(
            method,
            await method_input(broker, credential, method),
            code=query["code"],
            redirect_uri=self.redirect_uri,
            verifier=held.verifier,
        )
        async with broker.flight.hold(f"credential/{credential.record}", ttl_s=REFRESH_TTL_S) as lease:
            if lease is None:
                raise SuiteError("credential.refresh-failed", "A token is being asked for at this moment; begin again.")
            answer = await broker.endpoint.request(credential, call, "code")
            answer = await keep_answer(broker, credential, answer, "person", lease)
        if answer.token is None:
            raise SuiteError("authorization.refused", f"The token endpoint answered: {answer.oauth_error or 'no'}.")
        if answer.refresh_token is None:
            raise SuiteError("authorization.no-refresh-token")
        return await broker.credentials.get(held.tenant, held.integration_id, held.name)


def _vendor_url(credential: Credential, redirect_uri: str, state: str, verifier: str) -> str:
    challenge = _text(hashlib.sha256(verifier.encode()).digest())
    query = {
        "response_type": "code",
        "client_id": credential.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if credential.scopes:
        query["scope"] = " ".join(credential.scopes)
    if credential.options.get("audience"):
        query["aud"] = credential.options["audience"]  # SMART App Launch 2.2: the FHIR server that is meant
    return f"{credential.options['authorize_url']}?{urlencode(query)}"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
