"""What Test Connection and the check of permissions ask a peer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from auth_gateway.core.peer_answers import Probe, Reply, SmartConfiguration, UnityReply, parse_smart_configuration
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.integration import Vendor
from common.runtime.connection_probe import ConnectionProbe, StageResult
from common.runtime.outbound import Answer, ExchangeContext, Outbound
from pms.fhir import FhirRequest, metadata, smart_configuration
from pms.permissions import ProbeResult, probe_request, probe_result
from pms.retry_after import retry_after_s
from pms.signatures import Surface, signature_of
from pms.unity import UnityRequest, parse_answer

_OK: Final = 200
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


class NetworkProber:
    """`Prober`."""

    def __init__(self, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self._probe = ConnectionProbe(outbound, clock)

    async def run(self, url: str, exchange: ExchangeContext, *, budget_s: float) -> list[StageResult]:
        return await self._probe.run(url, exchange, budget_s=budget_s)

    async def metadata(self, base: str, exchange: ExchangeContext, token: str | None, *, timeout_s: float) -> Reply:
        started = self._clock.monotonic()
        try:
            answer = await self._get(metadata(), base, exchange, token, timeout_s)
        except SuiteError as error:
            return Reply(None, self._elapsed(started), error=error.code)
        return Reply(
            answer.status,
            self._elapsed(started),
            answer.headers.get("content-type", ""),
            answer.body,
            retry_after_s=retry_after_s(answer.headers.get("retry-after"), self._clock.now()),
        )

    async def smart_configuration(
        self, base: str, exchange: ExchangeContext, *, timeout_s: float
    ) -> SmartConfiguration:
        started = self._clock.monotonic()
        try:
            answer = await self._get(smart_configuration(), base, exchange, None, timeout_s)
        except SuiteError as error:
            return SmartConfiguration(False, self._elapsed(started), error.code)
        return parse_smart_configuration(answer.status, answer.body, self._elapsed(started))

    async def probe(
        self, vendor: Vendor, base: str, resource: str, exchange: ExchangeContext, token: str, *, timeout_s: float
    ) -> Probe:
        started = self._clock.monotonic()
        try:
            answer = await self._get(probe_request(vendor, resource), base, exchange, token, timeout_s)
        except SuiteError as error:
            return Probe(ProbeResult.UNKNOWN, None, error.code, None, self._elapsed(started))
        found = signature_of(
            vendor, Surface.RESOURCE, answer.status, dict(answer.headers), answer.body, now=self._clock.now()
        )
        return Probe(
            probe_result(found, answer.status),
            answer.status,
            found.error if found else None,
            found.code if found else None,
            self._elapsed(started),
        )

    async def unity(
        self, base: str, request: UnityRequest, exchange: ExchangeContext, *, timeout_s: float
    ) -> UnityReply:
        started = self._clock.monotonic()
        try:
            answer = await self._outbound.request(
                request.method,
                request.url(base),
                exchange=replace(exchange, operation=request.operation),
                headers=request.headers,
                content=request.body,
                timeout_s=timeout_s,
            )
        except SuiteError as error:
            return UnityReply(None, self._elapsed(started), error.code)
        if answer.status >= _SERVER_ERROR:
            return UnityReply(None, self._elapsed(started), "peer.unavailable")
        if answer.status == _TOO_MANY:
            return UnityReply(None, self._elapsed(started), "peer.rate-limited")
        return UnityReply(parse_answer(answer.body), self._elapsed(started))

    async def key_ids(self, url: str, exchange: ExchangeContext, *, timeout_s: float) -> list[str] | None:
        """The ids of the keys that a JWKS URL serves, None when it does not answer with any."""
        try:
            answer = await self._outbound.request("GET", _our_look(url), exchange=exchange, timeout_s=timeout_s)
            return [str(key["kid"]) for key in orjson.loads(answer.body)["keys"]] if answer.status == _OK else None
        except (SuiteError, orjson.JSONDecodeError, KeyError, TypeError):
            return None

    async def key_published(self, url: str, exchange: ExchangeContext, *, timeout_s: float) -> bool | None:
        try:
            answer = await self._outbound.request("GET", _our_look(url), exchange=exchange, timeout_s=timeout_s)
            return answer.status == _OK and bool(orjson.loads(answer.body).get("keys"))
        except SuiteError:
            return None
        except (orjson.JSONDecodeError, AttributeError):
            return False

    async def _get(
        self, request: FhirRequest, base: str, exchange: ExchangeContext, token: str | None, timeout_s: float
    ) -> Answer:
        headers = {**request.headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        return await self._outbound.request(
            request.method,
            request.url(base),
            exchange=replace(exchange, operation=request.operation),
            headers=headers,
            timeout_s=timeout_s,
        )

    def _elapsed(self, started: float) -> float:
        return round((self._clock.monotonic() - started) * 1000, 1)


def _our_look(url: str) -> str:
    """A JWKS URL, marked so that the answer is not taken for a vendor's reading."""
    return f"{url}?probe=true"
