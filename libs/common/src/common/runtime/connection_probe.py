"""Reaching an endpoint stage by stage: DNS, TCP, TLS, HTTP, clock. Each stage says what it saw and what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from common.models.clock import Clock, instant_text
from common.models.errors import ERRORS, SuiteError
from common.runtime.certificate import PeerCertificate, parse_certificate
from common.runtime.outbound import Answer, ExchangeContext, Outbound, Target, endpoint_of, target_of
from common.runtime.peer_clocks import ClockVerdict, WrongClock, judge_clock
from common.runtime.time_source import kernel_clock_synchronised

STAGE_TIMEOUT_S: Final = 3.0
CLOCK_OFFSET_MS_MAX: Final = 30_000
_LEFT_S_MIN: Final = 0.05


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
    "peer.tls": "The peer refuses our TLS version, our ciphers, or that we show no client certificate.",
    "peer.address-refused": "The name leads to an address outside the allowed networks.",
    "peer.unreadable": "Something else than an HTTP server answers on this port.",
    "peer.too-large": "The address answers with a download instead of an API.",
    "clock.skew": "One of the two clocks is wrong; token requests with time stamps will be refused.",
}
# OpenSSL's X509_V_ERR_* (x509_vfy.h) → what it means to the person who must mend it.
_CERTIFICATE_CAUSES: Final[dict[int, str]] = {
    9: "The peer's certificate is not valid yet, or our clock is slow.",
    10: "The peer's certificate has expired.",
    18: "The peer's certificate is self-signed: no authority that we trust has signed it.",
    19: "The chain ends in an authority that we do not trust, such as that of a proxy.",
    20: "The peer leaves out an intermediate certificate, or its authority is not one that we trust.",
    21: "The peer leaves out an intermediate certificate, or its authority is not one that we trust.",
    23: "The peer's certificate is revoked.",
    62: "The peer's certificate is for another host name.",
    64: "The peer's certificate is for another address: use the host name that it bears.",
}
_NO_TLS_CAUSE: Final = "The port speaks no TLS: it may be the port for http."
_NO_TLS_REASONS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
_CUT_OFF_CAUSE: Final = "The peer or something in between cuts the connection during the handshake."
_INTERMEDIATE_CAUSE: Final = (
    "The peer leaves out an intermediate certificate: its own names an address from which the missing one can be had."
)
_PROXY_CAUSE: Final = "Something in between ({word}) opens the TLS connection: the certificate is its own."
_PROXY_NEXT_STEP: Final = (
    "Have the network team exempt this host from TLS inspection, or trust the inspection's authority here."
)
_NO_CHAIN: Final = frozenset({19, 20, 21})
_CLOCK_NEXT_STEP: Final = (
    "Compare both clocks with a time server; correct ours with NTP, or tell the PMS administrator."
)


def failed(stage: str, code: str, duration_ms: float, *, cause: str | None = None, **evidence: Any) -> StageResult:
    """A failed stage, with cause (the code's, unless a better one is known) and next step from the catalogue."""
    next_step = _CLOCK_NEXT_STEP if code == "clock.skew" else (ERRORS[code].next_step if code in ERRORS else None)
    return StageResult(stage, "failed", round(duration_ms, 1), code, evidence, cause or _CAUSES.get(code), next_step)


def skipped(stage: str, reason: str) -> StageResult:
    """A stage that was not tried, and why."""
    return StageResult(stage, "skipped", evidence={"reason": reason})


_EARLIER_FAILED: Final = "an earlier stage failed"


class ConnectionProbe:
    """The network stages of one endpoint; stops at the first that fails and marks the rest as skipped."""

    def __init__(
        self,
        outbound: Outbound,
        clock: Clock,
        *,
        stage_timeout_s: float = STAGE_TIMEOUT_S,
        synchronised: Callable[[], bool | None] = kernel_clock_synchronised,
    ) -> None:
        self._synchronised = synchronised
        self._outbound = outbound
        self._clock = clock
        self._timeout_s = stage_timeout_s

    async def run(self, url: str, exchange: ExchangeContext, *, budget_s: float | None = None) -> list[StageResult]:
        """DNS, TCP, TLS, HTTP and clock of a URL; HTTP is passed when anything answers, whatever its status.

        `budget_s`: how long all of it may take; the stage that is on when it ends is a time-out.
        """
        until = None if budget_s is None else self._clock.monotonic() + budget_s
        try:
            target = target_of(url)
        except SuiteError as error:
            refused = failed("dns", error.code, 0.0, cause=error.detail)
            return [refused, *(skipped(stage, _EARLIER_FAILED) for stage in ("tcp", "tls", "http", "clock"))]
        addresses: list[str] = []
        connected: list[str] = []
        answer: list[Answer] = []

        async def dns() -> dict[str, Any]:
            addresses.extend(await self._outbound.policy.resolve(target.host, target.port))
            return {"addresses": addresses}

        async def tcp() -> dict[str, Any]:
            connected.append(await _first_that_connects(addresses, target.port))
            return {"address": connected[0], "port": target.port}

        async def handshake() -> dict[str, Any]:
            return await _handshake(connected[0], target, self._outbound.verify)

        async def http() -> dict[str, Any]:
            accept = {"Accept": "application/fhir+json"}
            answer.append(
                await self._outbound.request(
                    "GET", url, exchange=exchange, headers=accept, timeout_s=self._left_s(until)
                )
            )
            return {"http_status": answer[0].status}

        results: list[StageResult] = []
        for name, action in (("dns", dns), ("tcp", tcp), ("tls", handshake), ("http", http)):
            if action is handshake and not target.tls:
                results.append(skipped(name, "the endpoint is http"))
            elif any(result.status == "failed" for result in results):
                results.append(skipped(name, _EARLIER_FAILED))
            else:
                results.append(await self._stage(name, action, self._left_s(until)))
            if name == "tls":
                results[-1] = await self._explained(results[-1], connected, target, self._left_s(until))
        results.append(self._clock_stage(url, answer[0]) if answer else skipped("clock", _EARLIER_FAILED))
        return results

    def _left_s(self, until: float | None) -> float:
        left = self._timeout_s if until is None else min(self._timeout_s, until - self._clock.monotonic())
        return max(left, _LEFT_S_MIN)

    def _clock_stage(self, url: str, answer: Answer) -> StageResult:
        if answer.clock_offset_ms is None:
            return clock_stage(answer)
        others = self._outbound.peer_clocks.others(endpoint_of(url), self._clock.monotonic())
        held = self._synchronised()
        limit_ms = CLOCK_OFFSET_MS_MAX
        verdict = judge_clock(answer.clock_offset_ms, others, limit_ms=limit_ms, synchronised=held)
        stage = clock_stage(answer, verdict)
        return replace(stage, evidence={**stage.evidence, "our_clock_synchronised": held})

    async def _explained(
        self, result: StageResult, connected: list[str], target: Target, timeout_s: float
    ) -> StageResult:
        """A TLS stage with what the certificate says; of a refused one it is asked for again, and nothing is sent."""
        if result.status == "skipped" or not connected or result.evidence.get("verify") == "":
            return result
        certificate = await _certificate_shown(connected[0], target, timeout_s)
        return result if certificate is None else _with_certificate(result, certificate, self._clock.now())

    async def _stage(self, name: str, action: Callable[[], Awaitable[dict[str, Any]]], timeout_s: float) -> StageResult:
        started = self._clock.monotonic()
        try:
            # The HTTP call keeps the time by itself: cut off from here, it would be recorded as given up by us.
            async with asyncio.timeout(None if name == "http" else timeout_s):
                evidence = await action()
            return StageResult(name, "passed", self._elapsed(started), evidence=evidence)
        except TimeoutError:
            return failed(name, "peer.timeout", self._elapsed(started), timeout_s=timeout_s)
        except ssl.SSLError as error:
            return _tls_failure(name, error, self._elapsed(started))
        except OSError as error:
            if name == "tls":
                return failed(name, "peer.tls", self._elapsed(started), cause=_CUT_OFF_CAUSE, errno=error.errno)
            return failed(name, "peer.connect", self._elapsed(started), errno=error.errno)
        except SuiteError as error:
            return failed(name, error.code, self._elapsed(started))

    def _elapsed(self, started: float) -> float:
        return round((self._clock.monotonic() - started) * 1000, 1)


_WRONG_CLOCK_CAUSES: Final = {
    WrongClock.OURS: "Our clock is wrong: the other peers' clocks differ from it alike.",
    WrongClock.PEER: "The peer's clock is wrong: ours agrees with the other peers', or a time source holds it.",
}
_WRONG_CLOCK_NEXT_STEPS: Final = {
    WrongClock.OURS: "Correct this machine's clock with NTP (`timedatectl`, `chronyc tracking`), then test again.",
    WrongClock.PEER: "Tell the PMS administrator how far the server's clock is off (`clock_offset_ms`).",
}


def clock_stage(answer: Answer, verdict: ClockVerdict | None = None) -> StageResult:
    """The peer's clock against ours, from its `Date` header; `verdict` says whose is wrong, by the other peers."""
    if answer.clock_offset_ms is None:
        return skipped("clock", "the peer sends no Date header")
    evidence: dict[str, Any] = {"clock_offset_ms": answer.clock_offset_ms, "limit_ms": CLOCK_OFFSET_MS_MAX}
    if verdict is not None:
        evidence |= {
            "other_peers": verdict.others,
            "other_peers_median_ms": verdict.others_median_ms,
            "wrong_clock": verdict.wrong.value,
        }
    if abs(answer.clock_offset_ms) <= CLOCK_OFFSET_MS_MAX:
        return StageResult("clock", "passed", evidence=evidence)
    wrong = verdict.wrong if verdict is not None else WrongClock.UNKNOWN
    stage = failed("clock", "clock.skew", 0.0, cause=_WRONG_CLOCK_CAUSES.get(wrong), **evidence)
    return replace(stage, next_step=_WRONG_CLOCK_NEXT_STEPS.get(wrong, stage.next_step))


def _with_certificate(result: StageResult, certificate: PeerCertificate, now: datetime) -> StageResult:
    """The stage with the certificate's evidence; interception and a missing intermediate are told apart (B5 to B8)."""
    evidence = {**result.evidence, **certificate.evidence(now)}
    code = evidence.pop("verify_code", None)
    if certificate.proxy is not None:
        cause = _PROXY_CAUSE.format(word=certificate.proxy)
        return replace(result, evidence=evidence, likely_cause=cause, next_step=_PROXY_NEXT_STEP)
    if code in _NO_CHAIN and certificate.issuer_url and not certificate.self_issued:
        return replace(result, evidence=evidence, likely_cause=_INTERMEDIATE_CAUSE)
    return replace(result, evidence=evidence)


def _tls_failure(stage: str, error: ssl.SSLError, duration_ms: float) -> StageResult:
    """A handshake that failed: OpenSSL's words as evidence, what they mean as the cause."""
    if isinstance(error, ssl.SSLEOFError):
        return failed(stage, "peer.tls", duration_ms, cause=_CUT_OFF_CAUSE, reason=error.reason or "EOF", verify="")
    reason = error.reason or "TLS"
    cause = _NO_TLS_CAUSE if reason in _NO_TLS_REASONS else None
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _CERTIFICATE_CAUSES.get(error.verify_code, "The peer's certificate is not trusted.")
    verify, code = getattr(error, "verify_message", ""), getattr(error, "verify_code", None)
    evidence = {"verify_code": code} if code is not None else {}
    return failed(stage, "peer.tls", duration_ms, cause=cause, reason=reason, verify=verify, **evidence)


async def _first_that_connects(addresses: list[str], port: int) -> str:
    """The first address that takes a connection, as the calls do it; raises OSError of the last one when none does."""
    failure: OSError | None = None
    for address in addresses:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            failure = error
            continue
        await _close(writer)
        return address
    raise failure or OSError("no address")


async def _handshake(address: str, target: Target, context: ssl.SSLContext) -> dict[str, Any]:
    _, writer = await asyncio.open_connection(address, target.port, ssl=context, server_hostname=target.server_name)
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() or {}
        not_after = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        return {"protocol": tls.version(), "not_after": instant_text(not_after)}
    finally:
        await _close(writer)


async def _certificate_shown(address: str, target: Target, timeout_s: float) -> PeerCertificate | None:
    """The certificate that the peer shows, whether or not it holds; nothing is sent over that connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(
                address, target.port, ssl=context, server_hostname=target.server_name
            )
    except (OSError, TimeoutError):
        return None
    try:
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = shown.getpeercert(binary_form=True)
        return parse_certificate(der) if der else None
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close without waiting for the peer's farewell, which may never come."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
