"""The active steps of a connection test, over the checked network and auth-gateway's broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.integration import Channel, Integration
from common.runtime.connection_probe import ConnectionProbe, StageResult, failed, skipped
from common.runtime.outbound import ExchangeContext, Outbound
from common.runtime.peers import Peers
from diagnostics.core.connection_test import metadata_code

_TIMEOUT_S: Final = 3.0


class NetworkProber:
    """`Prober`."""

    def __init__(self, outbound: Outbound, peers: Peers, clock: Clock) -> None:
        self._outbound = outbound
        self._peers = peers
        self._clock = clock
        self._probe = ConnectionProbe(outbound, clock)

    async def network(self, integration: Integration, channel: Channel) -> Sequence[Mapping[str, Any]]:
        results = await self._probe.run(_metadata_url(channel), _context(integration, channel, "connection-test"))
        return [result.as_json() for result in results]

    async def token(self, integration: Integration, channel: Channel) -> tuple[Mapping[str, Any], str | None]:
        if channel.credential is None:
            return skipped("token", "the channel names no credential").as_json(), None
        started = self._clock.monotonic()
        path = f"/auth/v1/integrations/{integration.id}/credentials/{channel.credential}:token"
        try:
            response = await self._peers.request("auth-gateway", "POST", path, tenant=integration.tenant, json={})
        except SuiteError as error:
            return failed("token", error.code, self._elapsed(started)).as_json(), None
        body = response.json()
        evidence = {"expires_at": body["expires_at"], "scope": body.get("scope")}
        return StageResult("token", "passed", self._elapsed(started), evidence=evidence).as_json(), str(
            body["access_token"]
        )

    async def metadata(self, integration: Integration, channel: Channel, token: str | None) -> Mapping[str, Any]:
        started = self._clock.monotonic()
        headers = {"Accept": "application/fhir+json", **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            answer = await self._outbound.request(
                "GET",
                _metadata_url(channel),
                exchange=_context(integration, channel, "metadata"),
                headers=headers,
                timeout_s=_TIMEOUT_S,
            )
        except SuiteError as error:
            return failed("metadata", error.code, self._elapsed(started)).as_json()
        version = _fhir_version(answer.body)
        code = metadata_code(answer.status, version)
        evidence: dict[str, Any] = {"http_status": answer.status, "fhir_version": version}
        if code is not None:
            return failed("metadata", code, self._elapsed(started), **evidence).as_json()
        return StageResult("metadata", "passed", self._elapsed(started), evidence=evidence).as_json()

    def _elapsed(self, started: float) -> float:
        return round((self._clock.monotonic() - started) * 1000, 1)


def _metadata_url(channel: Channel) -> str:
    return f"{channel.endpoint.rstrip('/')}/metadata"


def _context(integration: Integration, channel: Channel, operation: str) -> ExchangeContext:
    return ExchangeContext(integration.tenant, integration.id, channel.name, "probe", operation)


def _fhir_version(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    version = document.get("fhirVersion") if isinstance(document, dict) else None
    return version if isinstance(version, str) and len(version) <= len("10.10.10") else None
