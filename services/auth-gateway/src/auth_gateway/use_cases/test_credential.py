"""Test Connection: DNS, TCP, TLS, HTTP, clock, token, metadata, each with evidence, likely cause and next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from auth_gateway.core.methods import METHODS
from auth_gateway.core.token_findings import TokenEvidence, causes
from auth_gateway.ports import Credential, Integrations, Prober, TokenAnswer
from auth_gateway.use_cases.obtain_token import Broker, refresh_token
from common.models.clock import instant_text
from common.models.errors import ERRORS
from common.models.integration import ChannelKind
from common.runtime.connection_probe import StageResult, skipped
from common.runtime.outbound import ExchangeContext

_NETWORK: Final = frozenset({"dns", "tcp", "tls", "http"})


async def test_credential(
    broker: Broker,
    integrations: Integrations,
    prober: Prober,
    tenant: str,
    integration_id: str,
    name: str,
    *,
    jwks_url: str,
) -> dict[str, Any]:
    """All stages in order. Raises SuiteError `integration.not-found` or `credential.not-found` only."""
    document = await integrations.get(tenant, integration_id)
    credential = await broker.credentials.get(tenant, integration_id, name)
    exchange = ExchangeContext(tenant, integration_id, "", "probe", "credential-test")
    began_at, began = broker.clock.now(), broker.clock.monotonic()
    stages = await prober.run(credential.token_url, exchange)
    if any(stage.status == "failed" and stage.stage in _NETWORK for stage in stages):
        stages += [
            skipped("token", "the token endpoint cannot be reached"),
            skipped("metadata", "an earlier stage failed"),
        ]
    else:
        stages += await _with_token(broker, prober, credential, document.body, exchange, jwks_url)
    failed = next((stage for stage in stages if stage.status == "failed"), None)
    return {
        "integration_id": integration_id,
        "credential": name,
        "status": "failed" if failed else "passed",
        "failed_stage": failed.stage if failed else None,
        "likely_cause": failed.likely_cause if failed else None,
        "next_step": failed.next_step if failed else None,
        "stages": [stage.as_json() for stage in stages],
        "started_at": instant_text(began_at),
        "duration_ms": round((broker.clock.monotonic() - began) * 1000, 1),
    }


async def _with_token(
    broker: Broker, prober: Prober, credential: Credential, body: Any, exchange: ExchangeContext, jwks_url: str
) -> list[StageResult]:
    before = credential.token
    credential, answer = await refresh_token(
        broker, credential.tenant, credential.integration_id, credential.name, "test"
    )
    if answer.token is None:
        published = await prober.key_published(jwks_url, exchange) if METHODS[credential.method].uses_our_key else None
        stage = _refused(
            credential, answer, worked_before=before.obtained_at is not None, published=published, broker=broker
        )
        return [stage, skipped("metadata", "there is no token")]
    evidence = {"expires_at": instant_text(answer.token.expires_at), "scope": answer.token.scope}
    stages = [StageResult("token", "passed", round(answer.duration_ms, 1), evidence=evidence)]
    endpoint = _fhir_endpoint(body)
    if endpoint is None:
        return [*stages, skipped("metadata", "the integration has no fhir channel")]
    return [*stages, await prober.metadata(f"{endpoint.rstrip('/')}/metadata", exchange, answer.token.access_token)]


def _refused(
    credential: Credential, answer: TokenAnswer, *, worked_before: bool, published: bool | None, broker: Broker
) -> StageResult:
    evidence = TokenEvidence(
        oauth_error=answer.oauth_error,
        http_status=answer.http_status,
        clock_offset_ms=answer.clock_offset_ms,
        secret_expires_at=credential.secret_expires_at,
        credential_changed_at=credential.changed_at,
        worked_before=worked_before,
        key_published=published,
        uses_our_key=METHODS[credential.method].uses_our_key,
    )
    found = causes(evidence, broker.clock.now()) if answer.rejected else ()
    code = answer.error_code or "credential.refresh-failed"
    supported: Sequence[Any] = [cause for cause in found if cause.supported]
    stage = StageResult(
        "token",
        "failed",
        round(answer.duration_ms, 1),
        code,
        {
            "http_status": answer.http_status,
            "oauth_error": answer.oauth_error,
            "clock_offset_ms": answer.clock_offset_ms,
            "key_published": published,
            "causes": [{"code": cause.code, "text": cause.text, "supported": cause.supported} for cause in found],
        },
        next_step=ERRORS[code].next_step if code in ERRORS else None,
    )
    if supported:
        return replace(stage, likely_cause=supported[0].text, next_step=supported[0].next_step)
    return stage


def _fhir_endpoint(body: Any) -> str | None:
    channels = body["channels"]
    return next(
        (channels[name]["endpoint"] for name in sorted(channels) if channels[name]["kind"] == ChannelKind.FHIR), None
    )
