"""The network stages of Test Connection."""

from __future__ import annotations

from typing import Final

import orjson

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.connection_probe import ConnectionProbe, StageResult, failed
from common.runtime.outbound import ExchangeContext, Outbound
from pms.fhir import parse_metadata

_TIMEOUT_S: Final = 3.0
_OK: Final = 200
_CODES: Final = {401: "peer.unauthorized", 403: "peer.forbidden"}


class NetworkProber:
    """`Prober`."""

    def __init__(self, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self._probe = ConnectionProbe(outbound, clock)

    async def run(self, url: str, exchange: ExchangeContext) -> list[StageResult]:
        return await self._probe.run(url, exchange)

    async def metadata(self, url: str, exchange: ExchangeContext, token: str | None) -> StageResult:
        started = self._clock.monotonic()
        headers = {"Accept": "application/fhir+json", **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            answer = await self._outbound.request("GET", url, exchange=exchange, headers=headers, timeout_s=_TIMEOUT_S)
        except SuiteError as error:
            return failed("metadata", error.code, self._elapsed(started))
        if answer.status != _OK:
            code = _CODES.get(answer.status, "peer.unavailable" if answer.status >= 500 else "peer.rejected")
            return failed("metadata", code, self._elapsed(started), http_status=answer.status)
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            document = None
        found = parse_metadata(document) if isinstance(document, dict) else None
        if found is None:
            return failed("metadata", "peer.unreadable", self._elapsed(started), http_status=answer.status)
        evidence = {"fhir_version": found.fhir_version, "software": found.software}
        return StageResult("metadata", "passed", self._elapsed(started), evidence=evidence)

    async def key_published(self, url: str, exchange: ExchangeContext) -> bool | None:
        try:
            answer = await self._outbound.request("GET", url, exchange=exchange, timeout_s=_TIMEOUT_S)
            return answer.status == _OK and bool(orjson.loads(answer.body).get("keys"))
        except SuiteError:
            return None
        except (orjson.JSONDecodeError, AttributeError):
            return False

    def _elapsed(self, started: float) -> float:
        return round((self._clock.monotonic() - started) * 1000, 1)
