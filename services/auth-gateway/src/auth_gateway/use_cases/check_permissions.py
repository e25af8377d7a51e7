"""Check Permissions: what an integration needs against what its token grants, and the request to the administrator."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from auth_gateway.core.peer_answers import Probe
from auth_gateway.ports import Integrations, Prober
from auth_gateway.use_cases.obtain_token import Broker, obtain_token
from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.integration import ChannelKind, Vendor, WriteBack
from common.runtime.outbound import ExchangeContext
from pms.capabilities import Interaction
from pms.offers import Offers, offers_of
from pms.permissions import (
    WORDINGS,
    Comparison,
    Need,
    ProbeResult,
    compare,
    needs_of,
    parse_scope,
    request_text,
    scope_words,
)

PROBES_MAX: Final = 12
PROBE_S_MAX: Final = 3.0
_WRITING: Final = (Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource (FHIR type) and what is done with it, as the caller names it."""

    resource: str
    interactions: tuple[Interaction, ...]
    purpose: str


class Schedules(Protocol):
    """What sync is scheduled to do."""

    async def resources(self, tenant: str, integration_id: str) -> Sequence[str]:
        """FHIR types that an integration's schedules fetch, once each. Raises SuiteError `service.unavailable`."""


@dataclass(frozen=True, slots=True)
class Checker:
    """What a check needs."""

    broker: Broker
    integrations: Integrations
    prober: Prober
    schedules: Schedules


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks: `wanted` None: what the schedules need; `credential` None: the fhir channel's."""

    wanted: Sequence[Wanted] | None
    credential: str | None
    probe: bool


async def check_permissions(checker: Checker, tenant: str, integration_id: str, asked: Question) -> dict[str, Any]:
    """Missing, excess and unknown permissions, and the text to send.

    Raises SuiteError `integration.not-found`, `channel.not-found`, `credential.not-found`, `request.conflict` (there is
    nothing that it needs), or why there is no token.
    """
    document = await checker.integrations.get(tenant, integration_id)
    vendor = Vendor(document.body["vendor"])
    offers = offers_of(vendor, document.body.get("capability_overrides", ()))
    channel = _fhir_channel(document.body)
    name = asked.credential or channel.get("credential") or "api"
    credential = await checker.broker.credentials.get(tenant, integration_id, name)
    wanted = asked.wanted
    if wanted is None:
        scheduled = await checker.schedules.resources(tenant, integration_id)
        wanted = _scheduled(offers, scheduled, WriteBack(document.body["write_back"]))
        if not wanted:
            raise SuiteError("request.conflict", "The integration has no schedule: name the resources.")
    needs = tuple(
        dict.fromkeys(need for row in wanted for need in needs_of(offers, row.resource, row.interactions, row.purpose))
    )
    offered = [need for need in needs if _offered(offers, need)]
    token = await obtain_token(checker.broker, tenant, integration_id, name, None)
    scopes = token.scope.split() or None
    exchange = ExchangeContext(tenant, integration_id, "", "probe", "permissions-check")
    probes: Mapping[str, Probe] = {}
    if asked.probe:
        probes = await _probed(checker.prober, vendor, channel["endpoint"], offered, exchange, token.access_token)
    found = compare(offered, scopes, {resource: probe.result for resource, probe in probes.items()})
    text = request_text(
        vendor,
        client_id=credential.client_id,
        endpoint=channel["endpoint"],
        missing=found.missing,
        excess=found.excess,
        version=_version(scopes),
    )
    return {
        "integration_id": integration_id,
        "credential": name,
        "status": _status(found),
        "scopes": scopes,
        **_listed(found, version=_version(scopes) or WORDINGS.get(vendor, WORDINGS[Vendor.FHIR]).version),
        "required": [_need(need) for need in needs],
        "not_offered": [_need(need) for need in needs if need not in offered],
        "probes": [_probe(resource, probe) for resource, probe in probes.items()],
        "request_text": text,
        "checked_at": instant_text(checker.broker.clock.now()),
    }


def _fhir_channel(body: Mapping[str, Any]) -> Mapping[str, Any]:
    channels: Mapping[str, Mapping[str, Any]] = body["channels"]
    for name in sorted(channels):
        if channels[name]["kind"] == ChannelKind.FHIR:
            return channels[name]
    raise SuiteError("channel.not-found", "Permissions are checked over a fhir channel.")


def _scheduled(offers: Offers, resources: Sequence[str], write_back: WriteBack) -> list[Wanted]:
    wanted = []
    for resource in resources:
        wanted.append(Wanted(resource, (Interaction.SEARCH,), "synchronisation"))
        row = offers.of(resource)
        writing = tuple(one for one in _WRITING if row is not None and row.offers(one))
        if write_back is not WriteBack.OFF and writing:
            wanted.append(Wanted(resource, writing, "write-back"))
    return wanted


def _offered(offers: Offers, need: Need) -> bool:
    row = offers.of(need.resource)
    return row is not None and row.offers(need.interaction)


async def _probed(
    prober: Prober, vendor: Vendor, base: str, needs: Sequence[Need], exchange: ExchangeContext, token: str
) -> dict[str, Probe]:
    resources = list(dict.fromkeys(need.resource for need in needs))[:PROBES_MAX]
    probes = await asyncio.gather(
        *(prober.probe(vendor, base, name, exchange, token, timeout_s=PROBE_S_MAX) for name in resources)
    )
    return dict(zip(resources, probes, strict=True))


def _status(found: Comparison) -> str:
    if found.missing:
        return "failed"
    return "unknown" if found.unknown else "passed"


def _version(scopes: Sequence[str] | None) -> int | None:
    """The version in which the token's scopes are written; None when they do not say."""
    versions = {scope.version for text in scopes or () if (scope := parse_scope(text)) is not None}
    return versions.pop() if len(versions) == 1 else None


def _listed(found: Comparison, *, version: int) -> dict[str, Any]:
    return {
        "granted": [_need(need) for need in found.granted],
        "missing": [_need(need) for need in found.missing],
        "missing_scopes": list(scope_words(found.missing, version=version)),
        "unknown": [_need(need) for need in found.unknown],
        "excess": [scope.text for scope in found.excess],
    }


def _need(need: Need) -> dict[str, str]:
    return {"resource": need.resource, "interaction": need.interaction.value, "purpose": need.purpose}


def _probe(resource: str, probe: Probe) -> dict[str, Any]:
    return {
        "resource": resource,
        "result": probe.result.value,
        "http_status": probe.http_status,
        "signature": probe.signature,
        "error": probe.error if probe.result is not ProbeResult.GRANTED else None,
        "duration_ms": probe.duration_ms,
    }
