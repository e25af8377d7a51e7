"""Calls to the outside on real sockets: to the checked address only, bounded in time and size, recorded each."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from common.models.errors import SuiteError
from common.runtime.outbound import Answer, ExchangeContext, Outbound

CONTEXT = ExchangeContext("ten_1", "int_1", "fhir", "fhir", "Patient.read")
SOON_S = 0.3


async def get(outbound: Outbound, url: str, **changed: Any) -> Answer:
    return await outbound.request("GET", url, **{"exchange": CONTEXT, "timeout_s": 10.0, **changed})


async def failure(outbound: Outbound, url: str, **changed: Any) -> str:
    with pytest.raises(SuiteError) as failed:
        await get(outbound, url, **changed)
    return failed.value.code


async def test_a_call_reaches_a_name_and_is_recorded_without_contents(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\nno")
    client = new_client({"pms.example": ["127.0.0.1"]})
    answer = await get(client.outbound, f"http://PMS.example:{peer.port}/Patient/1?name=Rivera")
    assert (answer.status, answer.body) == (404, b"no")
    assert peer.heads[0].startswith("GET /Patient/1?name=Rivera HTTP/1.1\r\n")
    assert f"host: pms.example:{peer.port}\r\n" in peer.heads[0].lower()
    assert "traceparent: 00-" in peer.heads[0].lower()
    (exchange,) = client.exchanges.seen
    assert (exchange.status, exchange.outcome, exchange.error_code) == (404, "failed", "http.404")
    assert (exchange.endpoint, exchange.operation) == (f"http://pms.example:{peer.port}", "Patient.read")
    assert (exchange.response_bytes, exchange.retry_after_s) == (2, 7.0)
    assert "Rivera" not in repr(exchange)


async def test_a_name_whose_answer_changes_is_connected_where_it_was_checked(start_peer: Any, new_client: Any) -> None:
    """DNS rebinding: every connection looks up once, and goes where that answer said."""
    peer = await start_peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", host="127.0.0.2")
    answers = [["127.0.0.2"], ["169.254.169.254"], ["127.0.0.2", "169.254.169.254"]]
    asked: list[str] = []

    async def look_up(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    client = new_client(look_up)
    url = f"http://rebound.example:{peer.port}/"
    assert (await get(client.outbound, url)).status == 200
    assert asked == ["rebound.example"]
    assert await failure(client.outbound, url) == "peer.address-refused"
    assert await failure(client.outbound, url) == "peer.address-refused"
    assert peer.connections == 1
    assert [exchange.error_code for exchange in client.exchanges.seen] == [None, *["peer.address-refused"] * 2]


async def test_one_bad_address_among_good_ones_is_enough(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer()
    client = new_client({"pms.example": ["127.0.0.1", "10.0.0.1"]}, networks=("127.0.0.0/8",))
    assert await failure(client.outbound, f"http://pms.example:{peer.port}/") == "peer.address-refused"
    assert peer.connections == 0


async def test_the_next_address_is_tried_when_one_refuses(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer(host="127.0.0.3")
    client = new_client({"pms.example": ["127.0.0.2", "127.0.0.3"]})
    assert (await get(client.outbound, f"http://pms.example:{peer.port}/")).status == 200


@pytest.mark.parametrize(("networks", "reached"), [(("127.0.0.5/32",), True), (("127.0.0.6/32",), False)])
async def test_the_operators_networks_decide(
    start_peer: Any, new_client: Any, networks: Sequence[str], reached: bool
) -> None:
    peer = await start_peer(host="127.0.0.5")
    client = new_client({"on-premises.example": ["127.0.0.5"]}, networks=networks)
    url = f"http://on-premises.example:{peer.port}/"
    if reached:
        assert (await get(client.outbound, url)).status == 200
    else:
        assert await failure(client.outbound, url) == "peer.address-refused"
    assert peer.connections == int(reached)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://pms.example/", "file:///etc/hostname", "//pms.example/", "http://user:secret@pms.example/",
        "http://pms.example:99999/", "http://",
    ],
)  # fmt: skip
async def test_what_is_no_address_is_refused_without_a_look_up(new_client: Any, url: str) -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        raise AssertionError("looked up")

    client = new_client(look_up)
    assert await failure(client.outbound, url) == "peer.address-refused"
    assert [exchange.outcome for exchange in client.exchanges.seen] == ["failed"]
    assert "secret" not in repr(client.exchanges.seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(start_peer: Any, new_client: Any, status: int) -> None:
    elsewhere = await start_peer()
    location = f"http://127.0.0.1:{elsewhere.port}/latest/meta-data"
    peer = await start_peer(
        f"HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()
    )
    client = new_client({"pms.example": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]})
    answer = await get(client.outbound, f"http://pms.example:{peer.port}/")
    assert (answer.status, answer.headers["location"]) == (status, location)
    assert elsewhere.connections == 0


async def test_cookies_of_one_practice_are_not_sent_for_another(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nset-cookie: session=one; Path=/\r\n\r\n")
    client = new_client({"pms.example": ["127.0.0.1"]})
    for _ in range(2):
        await get(client.outbound, f"http://pms.example:{peer.port}/")
    assert len(peer.heads) == 2
    assert "cookie" not in peer.heads[1].lower()


async def test_a_proxy_of_the_environment_is_not_used(start_peer: Any, new_client: Any, dead_proxy: None) -> None:
    peer = await start_peer()
    client = new_client({"pms.example": ["127.0.0.1"]})
    assert (await get(client.outbound, f"http://pms.example:{peer.port}/")).status == 200


SIZE_MAX = 1000
BODIES = {
    "as large as allowed": (b"content-length: 1000\r\n\r\n" + b"x" * 1000, None),
    "one byte more": (b"content-length: 1001\r\n\r\n" + b"x" * 1001, "peer.too-large"),
    "more, in chunks": (
        b"transfer-encoding: chunked\r\n\r\n" + (b"200\r\n" + b"x" * 512 + b"\r\n") * 2 + b"0\r\n\r\n", "peer.too-large"
    ),
    "more, until the end of the connection": (b"connection: close\r\n\r\n" + b"x" * 1001, "peer.too-large"),
    "more, once unpacked": (
        b"connection: close\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 200_000), "peer.too-large"
    ),
    "cut off": (b"content-length: 900\r\nconnection: close\r\n\r\n" + b"x" * 10, "peer.unreadable"),
    "packed badly": (b"connection: close\r\ncontent-encoding: gzip\r\n\r\nno gzip", "peer.unreadable"),
}  # fmt: skip


@pytest.mark.parametrize(("rest", "code"), BODIES.values(), ids=BODIES.keys())
async def test_an_answer_is_read_up_to_the_limit(
    start_peer: Any, new_client: Any, rest: bytes, code: str | None
) -> None:
    async def once(peer: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + rest)
        await writer.drain()
        writer.write_eof()
        await peer.ended.wait()

    peer = await start_peer(once)
    client = new_client({"pms.example": ["127.0.0.1"]}, response_bytes_max=SIZE_MAX)
    url = f"http://pms.example:{peer.port}/"
    if code is None:
        assert len((await get(client.outbound, url)).body) == SIZE_MAX
    else:
        assert await failure(client.outbound, url) == code
    assert client.exchanges.seen[0].error_code == code


async def silent(peer: Any, writer: asyncio.StreamWriter) -> None:
    await peer.ended.wait()


async def half(peer: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await peer.ended.wait()


async def drop_by_drop(peer: Any, writer: asyncio.StreamWriter) -> None:
    """Never silent for as long as the time-out: only the whole call can end it."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not peer.ended.is_set():
        writer.write(b"x")
        await writer.drain()
        await asyncio.wait({asyncio.ensure_future(peer.ended.wait())}, timeout=SOON_S / 10)


@pytest.mark.parametrize("answer", [silent, half, drop_by_drop])
async def test_a_call_ends_in_time_whatever_the_peer_does(start_peer: Any, new_client: Any, answer: Any) -> None:
    peer = await start_peer(answer)
    client = new_client({"pms.example": ["127.0.0.1"]})
    assert await failure(client.outbound, f"http://pms.example:{peer.port}/", timeout_s=SOON_S) == "peer.timeout"
    assert client.exchanges.seen[0].error_code == "peer.timeout"
    peer.ended.set()


async def test_a_look_up_that_hangs_is_a_time_out(new_client: Any) -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    client = new_client(look_up)
    assert await failure(client.outbound, "http://pms.example/", timeout_s=SOON_S) == "peer.timeout"


async def test_a_call_that_is_given_up_is_not_recorded_as_a_success(start_peer: Any, new_client: Any) -> None:
    peer = await start_peer(silent)
    client = new_client({"pms.example": ["127.0.0.1"]})
    call = asyncio.create_task(get(client.outbound, f"http://pms.example:{peer.port}/"))
    async with asyncio.timeout(10):
        await peer.requested.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    (exchange,) = client.exchanges.seen
    assert (exchange.outcome, exchange.error_code, exchange.status) == ("failed", "peer.abandoned", None)


REFUSALS = {
    "no such name": ("unknown.example", "peer.dns"),
    "nobody listens": ("closed.example", "peer.connect"),
    "no HTTP": ("smtp.example", "peer.unreadable"),
}


@pytest.mark.parametrize(("host", "code"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_failures_have_names(start_peer: Any, new_client: Any, host: str, code: str) -> None:
    peer = await start_peer(b"220 mail.example ESMTP\r\n\r\n")
    client = new_client({"closed.example": ["127.0.0.9"], "smtp.example": ["127.0.0.1"]})
    assert await failure(client.outbound, f"http://{host}:{peer.port}/") == code
    assert client.exchanges.seen[0].error_code == code


@pytest.mark.parametrize("host", ["pms.example", "PMS.Example", "pms.example."])
async def test_tls_is_for_the_host_name_and_not_for_the_address(
    start_peer: Any, new_client: Any, authority: Any, host: str
) -> None:
    peer = await start_peer(tls=authority.serving("pms.example"))
    addresses = ["127.0.0.1"]
    client = new_client({"pms.example": addresses, "pms.example.": addresses}, verify=authority.trusting())
    assert (await get(client.outbound, f"https://{host}:{peer.port}/")).status == 200
    assert peer.names == ["pms.example"]


CERTIFICATES = {
    "another host": (("other.example",), {}),
    "the address only": (("127.0.0.1",), {}),
    "expired": (("pms.example",), {"days": -1}),
    "not valid yet": (("pms.example",), {"days": 61}),
    "self-signed": (("pms.example",), {"self_signed": True}),
}


@pytest.mark.parametrize(("names", "made"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_a_certificate_that_does_not_hold_ends_the_call(
    start_peer: Any, new_client: Any, authority: Any, names: Sequence[str], made: dict[str, Any]
) -> None:
    peer = await start_peer(tls=authority.serving(*names, **made))
    client = new_client({"pms.example": ["127.0.0.1"]}, verify=authority.trusting())
    assert await failure(client.outbound, f"https://pms.example:{peer.port}/") == "peer.tls"
    assert peer.heads == []


async def test_an_authority_that_is_not_ours_is_not_trusted(start_peer: Any, new_client: Any, authority: Any) -> None:
    peer = await start_peer(tls=authority.serving("pms.example"))
    client = new_client({"pms.example": ["127.0.0.1"]})
    assert await failure(client.outbound, f"https://pms.example:{peer.port}/") == "peer.tls"


def refuse_without_certificate(listener: socket.socket, context: ssl.SSLContext, ended: threading.Event) -> None:
    """One connection of a server that wants a client certificate: its alert is sent, then nothing more is read."""
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
        with contextlib.suppress(ssl.SSLError):
            secured.do_handshake()
        ended.wait(10)


async def test_a_peer_that_wants_a_client_certificate_is_a_tls_failure(new_client: Any, authority: Any) -> None:
    """In TLS 1.3 it says so after the handshake, when the answer is read."""
    server = authority.serving("pms.example")
    server.verify_mode = ssl.CERT_REQUIRED
    client = new_client({"pms.example": ["127.0.0.1"]}, verify=authority.trusting())
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(refuse_without_certificate, listener, server, ended))
        try:
            url = f"https://pms.example:{listener.getsockname()[1]}/"
            assert await failure(client.outbound, url) == "peer.tls"
        finally:
            ended.set()
            await serving


async def test_a_port_that_speaks_no_tls_is_a_tls_failure(new_client: Any, authority: Any) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    client = new_client({"pms.example": ["127.0.0.1"]}, verify=authority.trusting())
    port = server.sockets[0].getsockname()[1]
    assert await failure(client.outbound, f"https://pms.example:{port}/") == "peer.tls"
    server.close()
