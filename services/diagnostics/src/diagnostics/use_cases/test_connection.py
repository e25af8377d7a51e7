"""Connection Test: DNS, TCP, TLS, HTTP, clock, token, metadata of one channel, each stage with evidence and next
step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.integration import Channel, ChannelKind, Integration
from diagnostics.core.connection_test import ConnectionTest, verdict
from diagnostics.ports import ConnectionTestStore, Integrations, Prober

_TESTED: Final = (ChannelKind.FHIR, ChannelKind.UNITY, ChannelKind.HL7V2_OUT)
_NEEDS_NETWORK: Final = frozenset({"dns", "tcp", "tls", "http"})


async def test_connection(
    tenant: str,
    integration_id: str,
    channel_name: str | None,
    subject: str,
    *,
    integrations: Integrations,
    prober: Prober,
    store: ConnectionTestStore,
    clock: Clock,
    ids: Ids,
) -> ConnectionTest:
    """Test one channel (by default the first that has an endpoint) and keep the result.

    Raises SuiteError `integration.not-found` or `channel.not-found`; what the peer does is in the stages.
    """
    started_at, started = clock.now(), clock.monotonic()
    integration = await integrations.get(tenant, integration_id)
    channel = choose_channel(integration, channel_name)
    stages: list[Mapping[str, Any]] = list(await prober.network(integration, channel))
    reachable = not any(stage["status"] == "failed" and stage["stage"] in _NEEDS_NETWORK for stage in stages)
    if channel.kind is ChannelKind.FHIR and reachable:
        token_stage, token = await prober.token(integration, channel)
        stages += [token_stage, await prober.metadata(integration, channel, token)]
    test = ConnectionTest(
        id=ids.new("cts"),
        tenant=tenant,
        integration_id=integration_id,
        channel=channel.name,
        status=verdict(stages),
        stages=stages,
        started_at=started_at,
        duration_ms=round((clock.monotonic() - started) * 1000, 1),
    )
    await store.add(test, subject)
    return test


def choose_channel(integration: Integration, name: str | None) -> Channel:
    """The channel of that name, or the first with an endpoint to connect to; raises SuiteError `channel.not-found`."""
    if name is not None:
        channel = integration.channels.get(name)
        if channel is None:
            raise SuiteError("channel.not-found")
        if not channel.endpoint:
            raise SuiteError("channel.not-found", "That channel receives only: there is no endpoint to connect to.")
        return channel
    for kind in _TESTED:
        channel = integration.channel_of(kind)
        if channel is not None and channel.endpoint:
            return channel
    raise SuiteError("channel.not-found", "The integration has no channel with an endpoint to connect to.")
