"""Connection Test, stage by stage, against peers that fail in one stage each: what every finding says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from common.models.errors import ERRORS
from common.runtime.connection_probe import ConnectionProbe, StageResult
from common.runtime.outbound import ExchangeContext
from common.runtime.system import SystemClock

CONTEXT = ExchangeContext("ten_1", "int_1", "fhir", "probe", "connection-test")
STAGES = ["dns", "tcp", "tls", "http", "clock"]
PATIENT_S = 10.0
SOON_S = 0.3


async def probe(client: Any, url: str, *, timeout_s: float = PATIENT_S) -> dict[str, StageResult]:
    # Whether this machine's clock is held by a time source must not decide what is found.
    tester = ConnectionProbe(client.outbound, SystemClock(), stage_timeout_s=timeout_s, synchronised=lambda: None)
    results = await tester.run(url, CONTEXT)
    assert [result.stage for result in results] == STAGES
    return {result.stage: result for result in results}


def expect_failed_at(results: dict[str, StageResult], stage: str, code: str) -> StageResult:
    """The finding; all stages after it are skipped and say so, and it says what to do next."""
    place = STAGES.index(stage)
    assert all(results[name].status in {"passed", "skipped"} for name in STAGES[:place])
    assert (results[stage].status, results[stage].code) == ("failed", code)
    for name in STAGES[place + 1 :]:
        assert results[name].status == "skipped"
        assert results[name].evidence["reason"] in {"an earlier stage failed", "the endpoint is http"}
    assert results[stage].next_step == ERRORS[code].next_step
    assert results[stage].likely_cause
    return results[stage]


def dated(offset: timedelta) -> bytes:
    date = format_datetime(datetime.now(UTC) + offset, usegmt=True)
    return f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 2\r\n\r\n{{}}".encode()


async def test_a_peer_that_is_well(start_peer: Any, new_client: Any, authority: Any) -> None:
    peer = await start_peer(dated(timedelta()), tls=authority.serving("pms.example"))
    client = new_client({"pms.example": ["127.0.0.1"]}, verify=authority.trusting())
    results = await probe(client, f"https://pms.example:{peer.port}/fhir/metadata")
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(STAGES, "passed")
    assert results["dns"].evidence == {"addresses": ["127.0.0.1"]}
    assert results["tcp"].evidence == {"address": "127.0.0.1", "port": peer.port}
    assert results["tls"].evidence["protocol"] == "TLSv1.3"
    assert results["tls"].evidence["not_after"].endswith("Z")
    assert results["http"].evidence == {"http_status": 200}
    assert set(peer.names) == {"pms.example"}
    assert [exchange.outcome for exchange in client.exchanges.seen] == ["ok"]


async def test_http_has_no_tls_stage_and_any_status_is_an_answer(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n")
    results = await probe(new_client({"pms.example": ["127.0.0.1"]}), f"http://pms.example:{peer.port}/")
    assert (results["tls"].status, results["tls"].evidence) == ("skipped", {"reason": "the endpoint is http"})
    assert (results["http"].status, results["http"].evidence) == ("passed", {"http_status": 503})
    assert results["clock"].evidence == {"reason": "the peer sends no Date header"}


async def test_a_redirect_is_shown_and_not_followed(start_peer: Any, new_client: Any) -> None:
    elsewhere = await start_peer()
    location = f"location: http://127.0.0.1:{elsewhere.port}/\r\n".encode()
    peer = await start_peer(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n" + location + b"\r\n")
    results = await probe(new_client({"pms.example": ["127.0.0.1"]}), f"http://pms.example:{peer.port}/")
    assert results["http"].evidence == {"http_status": 302}
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://unknown.example/", "peer.dns", "misspelt"),
        ("http://inside.example/", "peer.address-refused", "outside the allowed networks"),
        ("http://mixed.example/", "peer.address-refused", "outside the allowed networks"),
        ("ftp://pms.example/", "peer.address-refused", "http and https"),
        ("http://user:secret@pms.example/", "peer.address-refused", "user name"),
        ("http://pms.example:99999/", "peer.address-refused", "port"),
        ("no address", "peer.address-refused", "http and https"),
    ],
)
async def test_names_that_lead_nowhere(new_client: Any, url: str, code: str, said: str) -> None:
    client = new_client({"inside.example": ["169.254.169.254"], "mixed.example": ["127.0.0.1", "10.0.0.1"]})
    finding = expect_failed_at(await probe(client, url), "dns", code)
    assert said in str(finding.likely_cause)
    assert "secret" not in repr(finding)
    assert client.exchanges.seen == []


async def test_nobody_listens(new_client: Any) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://pms.example:{reserved.getsockname()[1]}/"
        finding = expect_failed_at(await probe(new_client({"pms.example": ["127.0.0.1"]}), url), "tcp", "peer.connect")
    assert "errno" in finding.evidence
    assert "closed" in str(finding.likely_cause)


async def test_the_address_that_connects_is_the_one_that_is_tested(
    start_peer: Any, new_client: Any, authority: Any
) -> None:
    """Calls go to the next address when the first refuses, so a test of the first alone would warn of nothing."""
    peer = await start_peer(dated(timedelta()), host="127.0.0.3", tls=authority.serving("pms.example"))
    client = new_client({"pms.example": ["127.0.0.2", "127.0.0.3"]}, verify=authority.trusting())
    results = await probe(client, f"https://pms.example:{peer.port}/")
    assert results["tcp"].evidence["address"] == "127.0.0.3"
    assert {result.status for result in results.values()} == {"passed"}


@asynccontextmanager
async def full_listener() -> AsyncIterator[int]:
    """The port of a listener whose queue is full: the kernel drops what more comes, as a firewall would."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(16):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            try:
                async with asyncio.timeout(SOON_S):
                    await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            pytest.skip("this kernel's queues do not fill")
        yield port


async def test_a_firewall_that_drops_is_a_time_out(new_client: Any) -> None:
    async with full_listener() as port:
        client = new_client({"pms.example": ["127.0.0.1"]})
        results = await probe(client, f"http://pms.example:{port}/", timeout_s=SOON_S)
    finding = expect_failed_at(results, "tcp", "peer.timeout")
    assert finding.evidence == {"timeout_s": SOON_S}
    assert "firewall" in str(finding.likely_cause)


async def test_a_look_up_that_hangs_is_a_time_out_of_dns(new_client: Any) -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    results = await probe(new_client(look_up), "http://pms.example/", timeout_s=SOON_S)
    expect_failed_at(results, "dns", "peer.timeout")


CERTIFICATES = {
    "self-signed": (("pms.example",), {"self_signed": True}, "self-signed"),
    "expired": (("pms.example",), {"days": -1}, "has expired"),
    "not valid yet": (("pms.example",), {"days": 61}, "not valid yet"),
    "another host": (("other.example",), {}, "another host name"),
    "the address only": (("127.0.0.1",), {}, "another host name"),
}


@pytest.mark.parametrize(("names", "made", "said"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_a_certificate_that_does_not_hold(
    start_peer: Any, new_client: Any, authority: Any, names: Sequence[str], made: dict[str, Any], said: str
) -> None:
    peer = await start_peer(tls=authority.serving(*names, **made))
    client = new_client({"pms.example": ["127.0.0.1"]}, verify=authority.trusting())
    finding = expect_failed_at(await probe(client, f"https://pms.example:{peer.port}/"), "tls", "peer.tls")
    assert said in str(finding.likely_cause)
    assert finding.evidence["reason"] == "CERTIFICATE_VERIFY_FAILED"
    assert finding.evidence["verify"]
    assert peer.heads == []


async def test_an_address_in_the_url_wants_a_certificate_that_bears_it(
    start_peer: Any, new_client: Any, authority: Any
) -> None:
    peer = await start_peer(tls=authority.serving("pms.example"))
    client = new_client({"127.0.0.1": ["127.0.0.1"]}, verify=authority.trusting())
    finding = expect_failed_at(await probe(client, f"https://127.0.0.1:{peer.port}/"), "tls", "peer.tls")
    assert "use the host name" in str(finding.likely_cause)


async def test_an_authority_that_we_do_not_know(start_peer: Any, new_client: Any, authority: Any) -> None:
    peer = await start_peer(tls=authority.serving("pms.example"))
    client = new_client({"pms.example": ["127.0.0.1"]})
    finding = expect_failed_at(await probe(client, f"https://pms.example:{peer.port}/"), "tls", "peer.tls")
    assert "authority" in str(finding.likely_cause)


@asynccontextmanager
async def raw_peer(first: bytes | None, *, close: bool) -> AsyncIterator[int]:
    """A listener that answers the first bytes of a client with its own, or not at all, and hangs up or not."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            writer.write(first or b"")
            if not close:
                await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        ended.set()


@pytest.mark.parametrize(
    ("first", "close", "code", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "peer.tls", "speaks no TLS"),
        (b"220 mail.example ESMTP\r\n", False, "peer.tls", "speaks no TLS"),
        (None, True, "peer.tls", "cuts the connection"),
        (b"\x15\x03\x03\x00\x02\x02\x46", True, "peer.tls", "refuses our TLS version"),  # alert: protocol_version
        (b"\x15\x03\x03\x00\x02\x02\x28", True, "peer.tls", "refuses our TLS version"),  # alert: handshake_failure
    ],
)
async def test_a_port_that_does_not_speak_our_tls(
    new_client: Any, first: bytes | None, close: bool, code: str, said: str
) -> None:
    async with raw_peer(first, close=close) as port:
        client = new_client({"pms.example": ["127.0.0.1"]})
        finding = expect_failed_at(await probe(client, f"https://pms.example:{port}/"), "tls", code)
    assert said in str(finding.likely_cause)


async def test_a_handshake_that_is_never_answered(new_client: Any) -> None:
    async with raw_peer(None, close=False) as port:
        client = new_client({"pms.example": ["127.0.0.1"]})
        results = await probe(client, f"https://pms.example:{port}/", timeout_s=SOON_S)
    expect_failed_at(results, "tls", "peer.timeout")


@pytest.mark.parametrize(
    ("first", "close", "code"),
    [
        (b"220 mail.example ESMTP\r\n\r\n", True, "peer.unreadable"),
        (None, True, "peer.unreadable"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"x" * 200_000, True, "peer.too-large"),
    ],
)
async def test_what_answers_is_no_api(new_client: Any, first: bytes | None, close: bool, code: str) -> None:
    async with raw_peer(first, close=close) as port:
        client = new_client({"pms.example": ["127.0.0.1"]})
        expect_failed_at(await probe(client, f"http://pms.example:{port}/"), "http", code)
    assert client.exchanges.seen[-1].error_code == code


async def test_an_answer_that_never_comes_is_recorded_as_a_time_out(new_client: Any) -> None:
    async with raw_peer(None, close=False) as port:
        client = new_client({"pms.example": ["127.0.0.1"]})
        results = await probe(client, f"http://pms.example:{port}/", timeout_s=SOON_S)
    expect_failed_at(results, "http", "peer.timeout")
    (exchange,) = client.exchanges.seen
    assert (exchange.outcome, exchange.error_code) == ("failed", "peer.timeout")


@pytest.mark.parametrize(("minutes", "failed"), [(10, True), (-10, True), (0, False)])
async def test_a_clock_that_is_wrong_is_the_last_finding(
    start_peer: Any, new_client: Any, minutes: int, failed: bool
) -> None:
    peer = await start_peer(dated(timedelta(minutes=minutes)))
    results = await probe(new_client({"pms.example": ["127.0.0.1"]}), f"http://pms.example:{peer.port}/")
    assert results["http"].status == "passed"
    clock = results["clock"]
    if not failed:
        assert clock.status == "passed"
        return
    assert (clock.status, clock.code) == ("failed", "clock.skew")
    assert abs(clock.evidence["clock_offset_ms"] - minutes * 60_000) < clock.evidence["limit_ms"]
    assert "NTP" in str(clock.next_step)
