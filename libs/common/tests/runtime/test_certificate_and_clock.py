"""What the Connection Test adds to a certificate and a clock: whose fault it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.runtime.certificate import PROXIES, PeerCertificate, parse_certificate
from common.runtime.connection_probe import CLOCK_OFFSET_MS_MAX, ConnectionProbe, StageResult
from common.runtime.outbound import ExchangeContext
from common.runtime.peer_clocks import KEPT_S, PEERS_MAX, PeerClocks, WrongClock, judge_clock
from common.runtime.system import SystemClock
from common.runtime.time_source import kernel_clock_synchronised, synchronised

CONTEXT = ExchangeContext("ten_1", "int_1", "fhir", "probe", "connection-test")
NAMES = {"pms.example": ["127.0.0.1"]}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def tls_stage(client: Any, port: int, **budget: float) -> StageResult:
    results = await ConnectionProbe(client.outbound, SystemClock(), stage_timeout_s=10).run(
        f"https://pms.example:{port}/", CONTEXT, **budget
    )
    return next(result for result in results if result.stage == "tls")


async def test_a_missing_intermediate_is_known_by_where_it_can_be_had(
    start_peer: Any, new_client: Any, authority: Any
) -> None:
    between = authority.named("Intermediate of a test")
    peer = await start_peer(tls=between.serving("pms.example", issuer_url="http://ca.example/between.cer"))
    found = await tls_stage(new_client(NAMES, verify=authority.trusting()), peer.port)
    assert (found.status, found.code) == ("failed", "peer.tls")
    assert "can be had" in str(found.likely_cause)
    assert (found.evidence["issuer"], found.evidence["issuer_url_present"]) == ("Intermediate of a test", True)
    assert peer.heads == []

    unknown = await start_peer(tls=between.serving("pms.example"))
    other = await tls_stage(new_client(NAMES, verify=authority.trusting()), unknown.port)
    assert "can be had" not in str(other.likely_cause)
    assert other.evidence["issuer_url_present"] is False


async def test_interception_is_known_by_the_issuer(start_peer: Any, new_client: Any, authority: Any) -> None:
    proxy = authority.named("Zscaler Inc.")
    peer = await start_peer(tls=proxy.serving("pms.example", issuer_url="http://ca.example/z.cer"))
    refused = await tls_stage(new_client(NAMES, verify=authority.trusting()), peer.port)
    assert (refused.status, refused.evidence["proxy"]) == ("failed", "zscaler")
    assert "in between" in str(refused.likely_cause)
    assert "exempt" in str(refused.next_step)


async def test_the_certificate_s_names_and_dates_are_evidence(start_peer: Any, new_client: Any, authority: Any) -> None:
    peer = await start_peer(tls=authority.serving("other.example", "127.0.0.9", days=30))
    found = await tls_stage(new_client(NAMES, verify=authority.trusting()), peer.port)
    assert found.evidence["names"] == ["other.example", "127.0.0.9"]
    assert found.evidence["days_left"] in {29, 30}
    assert "another host name" in str(found.likely_cause)
    good = await start_peer(tls=authority.serving("pms.example", days=3))
    passed = await tls_stage(new_client(NAMES, verify=authority.trusting()), good.port)
    assert (passed.status, passed.evidence["days_left"], passed.evidence["proxy"]) == ("passed", 2, None)


async def test_a_budget_ends_a_test_that_hangs(start_peer: Any, new_client: Any) -> None:
    async def silent(peer: Any, writer: Any) -> None:
        await peer.ended.wait()

    peer = await start_peer(silent)
    clock = SystemClock()
    client = new_client(NAMES)
    probe = ConnectionProbe(client.outbound, clock, stage_timeout_s=60)
    results = {row.stage: row for row in await probe.run(f"http://pms.example:{peer.port}/", CONTEXT, budget_s=0.3)}
    assert (results["http"].status, results["http"].code) == ("failed", "peer.timeout")


@pytest.mark.parametrize(
    ("offset_s", "others_s", "wrong"),
    [
        (1, [], WrongClock.NOBODY),
        (30, [300, 300], WrongClock.NOBODY),
        (600, [], WrongClock.UNKNOWN),
        (600, [0], WrongClock.UNKNOWN),
        (600, [0, 1], WrongClock.PEER),
        (-600, [0, 1, -600], WrongClock.PEER),
        (600, [601, 599], WrongClock.OURS),
        (-600, [-590, -610, 0], WrongClock.OURS),
        (600, [-600, -600], WrongClock.UNKNOWN),
    ],
)
def test_whose_clock_is_wrong(offset_s: int, others_s: list[int], wrong: WrongClock) -> None:
    found = judge_clock(offset_s * 1000, [one * 1000 for one in others_s], limit_ms=CLOCK_OFFSET_MS_MAX)
    assert (found.wrong, found.others) == (wrong, len(others_s))


@pytest.mark.parametrize(
    ("held", "others_s", "wrong"),
    [
        (True, [], WrongClock.PEER),
        (True, [0], WrongClock.PEER),
        (False, [], WrongClock.UNKNOWN),
        (None, [600], WrongClock.UNKNOWN),
        (True, [600, 600], WrongClock.OURS),
    ],
)
def test_a_time_source_decides_where_peers_are_few(held: bool | None, others_s: list[int], wrong: WrongClock) -> None:
    others_ms = [one * 1000 for one in others_s]
    assert judge_clock(600_000, others_ms, limit_ms=CLOCK_OFFSET_MS_MAX, synchronised=held).wrong is wrong


def test_the_kernel_s_word_for_our_clock() -> None:
    assert [synchronised(state) for state in (-1, 0, 1, 2, 3, 4, 5)] == [None, True, True, True, True, True, False]
    assert kernel_clock_synchronised() in {True, False, None}


@pytest.mark.parametrize(("held", "said"), [(True, "PMS administrator how far"), (False, "NTP")])
async def test_a_single_peer_is_blamed_only_by_a_clock_that_is_held(
    start_peer: Any, new_client: Any, held: bool, said: str
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    peer = await start_peer(f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    probe = ConnectionProbe(new_client(NAMES).outbound, SystemClock(), stage_timeout_s=10, synchronised=lambda: held)
    results = {row.stage: row for row in await probe.run(f"http://pms.example:{peer.port}/", CONTEXT)}
    assert results["clock"].evidence["our_clock_synchronised"] is held
    assert said in str(results["clock"].next_step)


def test_offsets_are_kept_bounded_and_for_an_hour() -> None:
    clocks = PeerClocks()
    for number in range(PEERS_MAX + 1):
        clocks.note(f"https://{number}", number, float(number))
    clocks.note("https://1", 7, 600.0)
    others = clocks.others("https://500", 600.0)
    assert len(others) == PEERS_MAX - 1
    assert (others[0], others[-1]) == (2, 7)
    assert clocks.others("x", 600.0 + KEPT_S) == [7]


@pytest.mark.parametrize(("peers_s", "cause"), [((0, 0), "peer's clock"), ((600, 600), "Our clock")])
async def test_peers_that_answered_before_tell_whose_clock_it_is(
    start_peer: Any, new_client: Any, peers_s: tuple[int, ...], cause: str
) -> None:
    client = new_client(NAMES)
    results: dict[str, StageResult] = {}
    for seconds in (*peers_s, 600):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        peer = await start_peer(f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        probe = ConnectionProbe(client.outbound, SystemClock(), stage_timeout_s=10)
        results = {row.stage: row for row in await probe.run(f"http://pms.example:{peer.port}/", CONTEXT)}
    clock = results["clock"]
    assert (clock.status, clock.evidence["other_peers"]) == ("failed", 2)
    assert cause in str(clock.likely_cause)


@pytest.mark.parametrize("word", PROXIES)
def test_every_proxy_is_known(word: str) -> None:
    def issued_by(name: str) -> PeerCertificate:
        return PeerCertificate("pms", name, (), NOW, NOW, self_issued=False, issuer_url=False)

    assert issued_by(f"The {word.upper()} CA").proxy is not None
    assert issued_by("DigiCert Inc / DigiCert TLS RSA SHA256 2020 CA1").proxy is None
    assert issued_by("Let's Encrypt / R11").proxy is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate(der: bytes) -> None:
    assert parse_certificate(der) is None
