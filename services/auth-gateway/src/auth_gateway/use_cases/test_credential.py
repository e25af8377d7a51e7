"""Test Connection: DNS, TCP, TLS, HTTP, clock, token, identity, metadata, SMART configuration, read, permissions.

Each stage has evidence, a likely cause and a next step; all of it takes at most `Tester.budget_s`. A token request that
takes longer is not cut off (a provider may have rotated a refresh token by then): it ends by itself and is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from auth_gateway.core.methods import METHODS
from auth_gateway.core.peer_answers import SmartConfiguration, UnityReply, token_url_differs
from auth_gateway.core.token_findings import TokenEvidence, causes
from auth_gateway.ports import AccessToken, Credential, CredentialHistory, History, Integrations, Prober, TokenAnswer
from auth_gateway.use_cases.connection_stages import (
    disabled_stage,
    explained,
    metadata_stage,
    permissions_stage,
    read_resource,
    read_stages,
    smart_stage,
    token_cause,
)
from auth_gateway.use_cases.obtain_token import RECONNECT, Broker, refresh_token
from auth_gateway.use_cases.unity_stages import IDENTITY_ERRORS, unity_failed, unity_stages
from common.models.clock import Clock, instant_text
from common.models.errors import ERRORS, SuiteError
from common.models.integration import ChannelKind, Environment, Vendor
from common.runtime.connection_probe import StageResult, failed, skipped
from common.runtime.outbound import ExchangeContext
from pms.offers import Offers, offers_of
from pms.unity import Session, UnityRequest
from pms.unity_session import get_token

# Shares of the budget that a stage may take at most; together more than all of it, which the deadline sees to.
_NETWORK_SHARE: Final = 0.5
_TOKEN_SHARE: Final = 0.4
_CALL_SHARE: Final = 0.2
_LEFT_S_MIN: Final = 0.05
_UNITY: Final = "unity"
_NETWORK: Final = frozenset({"dns", "tcp", "tls", "http"})
_BEHIND_TOKEN: Final = ("identity", "metadata", "smart-configuration", "read", "permissions")


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a test has to be over."""

    clock: Clock
    budget_s: float
    until: float

    def left(self, share: float) -> float:
        """How long a stage may take, in seconds; never nothing, so that it can be a time-out by its own name."""
        return max(min(share * self.budget_s, self.until - self.clock.monotonic()), _LEFT_S_MIN)


@dataclass(frozen=True, slots=True)
class Tester:
    """What a test needs. `pending`: token requests that a test did not wait for to the end."""

    broker: Broker
    integrations: Integrations
    prober: Prober
    history: CredentialHistory
    budget_s: float
    pending: set[asyncio.Task[tuple[Credential, TokenAnswer]]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Whom the stages behind the network ask; `base` None: there is no fhir channel."""

    vendor: Vendor
    offers: Offers
    product: str
    environment: Environment
    base: str | None
    exchange: ExchangeContext
    deadline: Deadline


async def test_credential(
    tester: Tester, tenant: str, integration_id: str, name: str, *, jwks_url: Callable[[str, Environment], str]
) -> dict[str, Any]:
    """All stages in order. Raises SuiteError `integration.not-found` or `credential.not-found` only.

    `jwks_url`: where the public keys of a tenant are in an environment.
    """
    clock = tester.broker.clock
    document = await tester.integrations.get(tenant, integration_id)
    credential = await tester.broker.credentials.get(tenant, integration_id, name)
    began_at, began = clock.now(), clock.monotonic()
    peer = _Peer(
        Vendor(document.body["vendor"]),
        offers_of(Vendor(document.body["vendor"]), document.body.get("capability_overrides", ())),
        document.body["product"],
        Environment(document.body["environment"]),
        _fhir_endpoint(document.body),
        ExchangeContext(tenant, integration_id, "", "probe", "credential-test"),
        Deadline(clock, tester.budget_s, began + tester.budget_s),
    )
    stages = await tester.prober.run(_probed(credential), peer.exchange, budget_s=peer.deadline.left(_NETWORK_SHARE))
    if any(stage.status == "failed" and stage.stage in _NETWORK for stage in stages):
        stages.append(skipped("token", "the token endpoint cannot be reached"))
        stages += [skipped(stage, "an earlier stage failed") for stage in _BEHIND_TOKEN]
    else:
        stages += await _behind_network(tester, credential, peer, jwks_url(tenant, peer.environment))
    failing = next((stage for stage in stages if stage.status == "failed"), None)
    return {
        "integration_id": integration_id,
        "credential": name,
        "status": "failed" if failing else "passed",
        "failed_stage": failing.stage if failing else None,
        "likely_cause": failing.likely_cause if failing else None,
        "next_step": failing.next_step if failing else None,
        "stages": [stage.as_json() for stage in stages],
        "started_at": instant_text(began_at),
        "duration_ms": round((clock.monotonic() - began) * 1000, 1),
    }


def _probed(credential: Credential) -> str:
    """The URL to reach: of Unity its service, since a base URL alone may be another server's."""
    return get_token("", "").url(credential.token_url) if credential.method == _UNITY else credential.token_url


async def _behind_network(tester: Tester, credential: Credential, peer: _Peer, jwks_url: str) -> list[StageResult]:
    if credential.method == _UNITY:
        return await _behind_network_of_unity(tester, credential, peer)
    worked_at = credential.token.obtained_at
    credential, answer = await _token(tester, credential, peer.deadline)
    token = answer.token.access_token if answer.token else None
    metadata, smart = await _described(tester.prober, peer, token)
    smart_result = _smart_result(smart, credential, works=token is not None)
    if answer.token is None:
        published = None
        if METHODS[credential.method].uses_our_key:
            published = await tester.prober.key_published(
                jwks_url, peer.exchange, timeout_s=peer.deadline.left(_CALL_SHARE)
            )
        differs = smart is not None and token_url_differs(smart, credential.token_url)
        refused = _refused(
            credential,
            answer,
            worked_at=worked_at,
            published=published,
            differs=differs,
            history=await tester.history.of(credential, peer.environment),
            clock=peer.deadline.clock,
        )
        return [
            refused, disabled_stage(answer.signature, answer.oauth_error), metadata, smart_result,
            skipped("read", "there is no token"), skipped("permissions", "there is no token"),
        ]  # fmt: skip
    evidence = {"expires_at": instant_text(answer.token.expires_at), "scope": answer.token.scope}
    granted = StageResult("token", "passed", round(answer.duration_ms, 1), evidence=evidence)
    identity, read = await _read(tester.prober, credential, peer, answer.token, metadata)
    permissions = permissions_stage(peer.vendor, credential.scopes, answer.token.scope.split())
    return [granted, identity, metadata, smart_result, read, permissions]


async def _behind_network_of_unity(tester: Tester, credential: Credential, peer: _Peer) -> list[StageResult]:
    worked_at = credential.token.obtained_at
    credential, answer = await _token(tester, credential, peer.deadline)
    if answer.token is None:
        reason = "there is no session"
        rest = [skipped(stage, reason) for stage in _BEHIND_TOKEN[1:]]
        refusal = IDENTITY_ERRORS.get(answer.oauth_error or "")
        if refusal is not None:
            # GetToken gave one; it is the session, or the EHR user in it, that was refused.
            entered = StageResult("token", "passed", evidence={"http_status": answer.http_status})
            return [entered, unity_failed("identity", refusal, answer.duration_ms), *rest]
        refused = _refused(
            credential,
            answer,
            worked_at=worked_at,
            published=None,
            differs=False,
            history=await tester.history.of(credential, peer.environment),
            clock=peer.deadline.clock,
        )
        return [refused, skipped("identity", reason), *rest]
    session = Session(credential.client_id, str(credential.options["user_name"]), answer.token.access_token)

    async def ask(request: UnityRequest) -> UnityReply:
        limit_s = peer.deadline.left(_CALL_SHARE)
        return await tester.prober.unity(credential.token_url, request, peer.exchange, timeout_s=limit_s)

    evidence = {"expires_at": instant_text(answer.token.expires_at)}
    granted = StageResult("token", "passed", round(answer.duration_ms, 1), evidence=evidence)
    return [granted, *await unity_stages(ask, session, peer.product, peer.deadline.clock.now)]


async def _token(tester: Tester, credential: Credential, deadline: Deadline) -> tuple[Credential, TokenAnswer]:
    """A new token; one that does not come in time is a time-out here and kept when it comes."""
    asked_at, limit_s = deadline.clock.now(), deadline.left(_TOKEN_SHARE)
    task = asyncio.create_task(
        refresh_token(tester.broker, credential.tenant, credential.integration_id, credential.name, "test"),
        name="auth-gateway.test-token",
    )
    tester.pending.add(task)
    task.add_done_callback(tester.pending.discard)
    task.add_done_callback(_seen)
    done, _ = await asyncio.wait({task}, timeout=limit_s)
    if not done:
        return credential, TokenAnswer(None, asked_at, error_code="peer.timeout", duration_ms=limit_s * 1000)
    try:
        return task.result()
    except SuiteError as error:
        return credential, TokenAnswer(None, asked_at, error_code=error.code)


def _seen(task: asyncio.Task[Any]) -> None:
    """What a request that nobody waits for ends with is kept by itself; its failure is no failure of the loop."""
    if not task.cancelled():
        task.exception()


async def _described(prober: Prober, peer: _Peer, token: str | None) -> tuple[StageResult, SmartConfiguration | None]:
    """What the server says of itself; both need no token, so they are asked for also when there is none."""
    if peer.base is None:
        return skipped("metadata", "the integration has no fhir channel"), None
    limit_s = peer.deadline.left(_CALL_SHARE)
    reply, smart = await asyncio.gather(
        prober.metadata(peer.base, peer.exchange, token, timeout_s=limit_s),
        prober.smart_configuration(peer.base, peer.exchange, timeout_s=limit_s),
    )
    stage = metadata_stage(peer.base, reply)
    if reply.status is None:
        # The FHIR server may be another host than the token endpoint, with a network, a certificate of its own.
        network = await prober.run(peer.base, peer.exchange, budget_s=peer.deadline.left(_CALL_SHARE))
        stage = explained(stage, network)
    return stage, smart


def _smart_result(smart: SmartConfiguration | None, credential: Credential, *, works: bool) -> StageResult:
    if smart is None:
        return skipped("smart-configuration", "the integration has no fhir channel")
    return smart_stage(
        smart,
        token_url=credential.token_url,
        method=credential.method,
        algorithm=credential.algorithm,
        works=works,
    )


async def _read(
    prober: Prober, credential: Credential, peer: _Peer, token: AccessToken, metadata: StageResult
) -> tuple[StageResult, StageResult]:
    if peer.base is None:
        reason = "the integration has no fhir channel"
        return skipped("identity", reason), skipped("read", reason)
    if metadata.status == "failed":
        reason = "the server's metadata cannot be read"
        return skipped("identity", reason), skipped("read", reason)
    resource = read_resource(peer.offers, [*token.scope.split(), *credential.scopes])
    limit_s = peer.deadline.left(_CALL_SHARE)
    probe = await prober.probe(peer.vendor, peer.base, resource, peer.exchange, token.access_token, timeout_s=limit_s)
    return read_stages(resource, probe)


def _refused(
    credential: Credential,
    answer: TokenAnswer,
    *,
    worked_at: datetime | None,
    published: bool | None,
    differs: bool,
    history: History,
    clock: Clock,
) -> StageResult:
    evidence = TokenEvidence(
        oauth_error=answer.oauth_error,
        http_status=answer.http_status,
        clock_offset_ms=answer.clock_offset_ms,
        secret_expires_at=credential.secret_expires_at,
        credential_changed_at=credential.changed_at,
        worked_before=worked_at is not None,
        worked_since_change=worked_at is not None and worked_at >= credential.changed_at,
        key_published=published,
        key_read=history.key_read,
        other_environment=history.other_environment,
        uses_our_key=METHODS[credential.method].uses_our_key,
        signature=answer.signature,
        audience_differs=differs,
    )
    found = causes(evidence, clock.now()) if answer.rejected else ()
    code = answer.error_code or "credential.refresh-failed"
    supported: Sequence[Any] = [cause for cause in found if cause.supported]
    stage = failed(
        "token",
        code,
        answer.duration_ms,
        http_status=answer.http_status,
        oauth_error=answer.oauth_error,
        signature=answer.signature,
        clock_offset_ms=answer.clock_offset_ms,
        key_published=published,
        key_read=history.key_read,
        causes=[{"code": cause.code, "text": cause.text, "supported": cause.supported} for cause in found],
    )
    stage = replace(
        stage,
        likely_cause=token_cause(code, answer.http_status) or stage.likely_cause,
        next_step=ERRORS[code].next_step if code in ERRORS else None,
    )
    # Of a grant that is dead, only a person can make another: what could be wrong with the client comes after.
    if supported and code != RECONNECT:
        return replace(stage, likely_cause=supported[0].text, next_step=supported[0].next_step)
    return stage


def _fhir_endpoint(body: Any) -> str | None:
    channels = body["channels"]
    return next(
        (channels[name]["endpoint"] for name in sorted(channels) if channels[name]["kind"] == ChannelKind.FHIR), None
    )
