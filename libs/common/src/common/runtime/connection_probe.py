"""Reaching an endpoint stage by stage: DNS, TCP, TLS, HTTP, clock. Each stage says what it saw and what to do next."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from common.models.clock import Clock, instant_text
from common.models.errors import ERRORS, SuiteError
from common.runtime.outbound import Answer, ExchangeContext, Outbound

STAGE_TIMEOUT_S: Final = 3.0
CLOCK_OFFSET_MS_MAX: Final = 30_000
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage: `status` is passed, failed or skipped; `evidence` holds codes, numbers, addresses, never contents."""

    stage: str
    status: str
    duration_ms: float = 0.0
    code: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    likely_cause: str | None = None
    next_step: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The stage as the API shows it."""
        return asdict(self)


_CAUSES: Final[dict[str, str]] = {
    "peer.dns": "The host name is misspelt, or this network's DNS does not know it.",
    "peer.connect": "The port is closed, or a firewall refuses the connection.",
    "peer.timeout": "A firewall drops the packets, or the peer is overloaded.",
    "peer.tls": "The certificate is expired, for another host, incomplete, or replaced by a proxy.",
    "peer.address-refused": "The name leads to an address outside the allowed networks.",
    "clock.skew": "One of the two clocks is wrong; token requests with time stamps will be refused.",
}
_CLOCK_NEXT_STEP: Final = (
    "Compare both clocks with a time server; correct ours with NTP, or tell the PMS administrator."
)


def failed(stage: str, code: str, duration_ms: float, **evidence: Any) -> StageResult:
    """A failed stage, with cause and next step from the catalogue."""
    next_step = _CLOCK_NEXT_STEP if code == "clock.skew" else (ERRORS[code].next_step if code in ERRORS else None)
    return StageResult(stage, "failed", round(duration_ms, 1), code, evidence, _CAUSES.get(code), next_step)


def skipped(stage: str, reason: str) -> StageResult:
    """A stage that was not tried, and why."""
    return StageResult(stage, "skipped", evidence={"reason": reason})


class ConnectionProbe:
    """The network stages of one endpoint; stops at the first that fails and marks the rest as skipped."""

    def __init__(self, outbound: Outbound, clock: Clock, *, stage_timeout_s: float = STAGE_TIMEOUT_S) -> None:
        self._outbound = outbound
        self._clock = clock
        self._timeout_s = stage_timeout_s

    async def run(self, url: str, exchange: ExchangeContext) -> list[StageResult]:
        """DNS, TCP, TLS, HTTP and clock of a URL; HTTP is passed when anything answers, whatever its status."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        tls = parts.scheme == "https"
        port = parts.port or (_HTTPS_PORT if tls else _HTTP_PORT)
        results: list[StageResult] = []
        addresses: list[str] = []

        async def dns() -> dict[str, Any]:
            addresses.extend(await self._outbound.policy.resolve(host, port))
            return {"addresses": addresses}

        async def tcp() -> dict[str, Any]:
            _, writer = await asyncio.open_connection(addresses[0], port)
            writer.close()
            return {"address": addresses[0], "port": port}

        async def handshake() -> dict[str, Any]:
            return await _handshake(addresses[0], port, host)

        answer: list[Answer] = []

        async def http() -> dict[str, Any]:
            answer.append(
                await self._outbound.request(
                    "GET",
                    url,
                    exchange=exchange,
                    headers={"Accept": "application/fhir+json"},
                    timeout_s=self._timeout_s,
                )
            )
            return {"http_status": answer[0].status}

        stages: list[tuple[str, Callable[[], Awaitable[dict[str, Any]]] | None]] = [
            ("dns", dns),
            ("tcp", tcp),
            ("tls", handshake if tls else None),
            ("http", http),
        ]
        for name, action in stages:
            if action is None:
                results.append(skipped(name, "the endpoint is http"))
            elif results and any(result.status == "failed" for result in results):
                results.append(skipped(name, "an earlier stage failed"))
            else:
                results.append(await self._stage(name, action))
        results.append(clock_stage(answer[0]) if answer else skipped("clock", "an earlier stage failed"))
        return results

    async def _stage(self, name: str, action: Callable[[], Awaitable[dict[str, Any]]]) -> StageResult:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                evidence = await action()
            return StageResult(name, "passed", self._elapsed(started), evidence=evidence)
        except TimeoutError:
            return failed(name, "peer.timeout", self._elapsed(started), timeout_s=self._timeout_s)
        except ssl.SSLError as error:
            return failed(
                name,
                "peer.tls",
                self._elapsed(started),
                reason=error.reason or "TLS",
                verify=getattr(error, "verify_message", ""),
            )
        except OSError as error:
            return failed(name, "peer.connect", self._elapsed(started), errno=error.errno)
        except SuiteError as error:
            return failed(name, error.code, self._elapsed(started))

    def _elapsed(self, started: float) -> float:
        return round((self._clock.monotonic() - started) * 1000, 1)


def clock_stage(answer: Answer) -> StageResult:
    """The peer's clock against ours, from its `Date` header."""
    if answer.clock_offset_ms is None:
        return skipped("clock", "the peer sends no Date header")
    evidence = {"clock_offset_ms": answer.clock_offset_ms, "limit_ms": CLOCK_OFFSET_MS_MAX}
    if abs(answer.clock_offset_ms) > CLOCK_OFFSET_MS_MAX:
        return failed("clock", "clock.skew", 0.0, **evidence)
    return StageResult("clock", "passed", evidence=evidence)


async def _handshake(address: str, port: int, host: str) -> dict[str, Any]:
    _, writer = await asyncio.open_connection(address, port, ssl=ssl.create_default_context(), server_hostname=host)
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() or {}
        not_after = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        return {"protocol": tls.version(), "not_after": instant_text(not_after)}
    finally:
        writer.close()
