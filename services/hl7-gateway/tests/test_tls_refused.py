"""Peers whose TLS does not fit: each is counted and named, and the others go on."""

import asyncio
import inspect
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from common.models.errors import SuiteError
from common.runtime.system import SystemClock
from hl7_gateway.adapters.mllp_listener import Door, ListenerLimits, MllpListener
from hl7_gateway.adapters.tls_material import server_context
from hl7_gateway.core.connection import Limits
from hl7_gateway.core.connection_configuration import TlsMaterial

WAIT_S = 10.0
END = b"\x1c\r"
Message = Callable[..., bytes]


def on_both_loops(test: Callable[..., Any]) -> Callable[..., None]:
    """The gateway runs on uvloop, whose TLS is its own; its tests on asyncio."""

    def ran(loop_factory: Callable[[], asyncio.AbstractEventLoop], **given: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**given))

    factory = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    names = [row.replace(kind=inspect.Parameter.KEYWORD_ONLY) for row in inspect.signature(test).parameters.values()]
    ran.__signature__ = inspect.Signature([*names, factory])  # type: ignore[attr-defined]
    ran.__name__ = test.__name__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(ran)


class Ground:
    """A listener that wants certificates of its authority, and peers."""

    def __init__(self, listener: MllpListener, authority: Any, folder: Path) -> None:
        self.listener, self.authority, self.folder = listener, authority, folder

    def context(self, issuer: Any = None) -> ssl.SSLContext:
        """A client's; with a certificate of `issuer` when there is one."""
        context = ssl.create_default_context(cadata=self.authority.pem)
        if issuer is not None:
            pem = self.folder / "shown.pem"
            pem.write_text("".join(issuer.issue("sender.example")))
            context.load_cert_chain(pem)
        return context

    async def send(self, body: bytes, context: ssl.SSLContext | None) -> bytes:
        """MSA-1 and MSA-2 of the answer; nothing, when there was none."""
        try:
            async with asyncio.timeout(WAIT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, ssl=context)
        except OSError:
            return b""
        try:
            writer.write(b"\x0b" + body + END)
            async with asyncio.timeout(WAIT_S):
                return (await reader.readuntil(END)).partition(b"\rMSA|")[2].split(b"\r")[0]
        except (asyncio.IncompleteReadError, OSError):
            return b""
        finally:
            writer.transport.abort()

    async def wait_for_refusals(self, count: int = 1) -> dict[str, int]:
        async with asyncio.timeout(WAIT_S):
            while self.listener.counters.connections_tls_refused < count:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.005)
        return dict(self.listener.tls_refusals)


@pytest.fixture
def opened(running_gateway: Any, authority: Any, tmp_path: Path) -> Callable[..., Any]:
    """`async with opened(limits…) as ground`."""

    @asynccontextmanager
    async def open_it(**changed: Any) -> AsyncIterator[Ground]:
        certificate, key = authority.issue()
        tls = server_context(TlsMaterial(certificate, key, authority.pem), mutual=True)
        limits = ListenerLimits(10, 64, Limits(1 << 20, 60.0, 60.0))
        async with running_gateway() as gateway:
            receiver = gateway.listener.receiver
            listener = MllpListener("127.0.0.1", 0, receiver, SystemClock(), replace(limits, **changed), door=Door(tls))
            await listener.start()
            try:
                yield Ground(listener, authority, tmp_path)
            finally:
                await listener.stop(WAIT_S)

    return open_it


def _old(ground: Ground) -> ssl.SSLContext:
    context = ground.context(ground.authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def _a_cipher_of_its_own(ground: Ground) -> ssl.SSLContext:
    context = ground.context(ground.authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the listener's key is no RSA key
    return context


WRONG: list[tuple[str, Callable[[Ground], ssl.SSLContext | None]]] = [
    ("no-certificate", lambda ground: ground.context()),
    ("certificate-refused", lambda ground: ground.context(type(ground.authority)())),
    ("version-too-old", _old),
    ("not-tls", lambda _: None),
    ("no-common-cipher", _a_cipher_of_its_own),
]


@pytest.mark.parametrize(("name", "shown"), WRONG, ids=[name for name, _ in WRONG])
@on_both_loops
async def test_a_peer_whose_tls_does_not_fit_is_named_and_the_others_go_on(
    opened: Any,
    message: Message,
    caplog: pytest.LogCaptureFixture,
    name: str,
    shown: Callable[[Ground], ssl.SSLContext | None],
) -> None:
    async with opened() as ground:
        good = ground.context(ground.authority)
        reader, writer = await asyncio.open_connection("127.0.0.1", ground.listener.port, ssl=good)
        caplog.set_level(logging.WARNING, "hl7_gateway.listener")
        assert await ground.send(message("no"), shown(ground)) == b""
        assert await ground.wait_for_refusals() == {name: 1}
        (line,) = [row for row in caplog.records if row.name == "hl7_gateway.listener"]
        assert (line.msg, vars(line)["outcome"]) == ("connection refused: no TLS", name)
        assert (ground.listener.counters.connections, ground.listener.counters.frames) == (1, 0)
        writer.write(b"\x0b" + message("yes") + END)
        async with asyncio.timeout(WAIT_S):
            assert b"MSA|AA|yes" in await reader.readuntil(END)
        writer.transport.abort()


@on_both_loops
async def test_a_peer_that_does_not_trust_us_is_named(opened: Any, authority: Any) -> None:
    knows_nobody, knows_another = (ssl.create_default_context() for _ in range(2))
    knows_another.load_verify_locations(cadata=type(authority)().pem)

    def connect(port: int, context: ssl.SSLContext) -> None:
        # A client of asyncio leaves without saying why; others send an alert (RFC 8446 §6.2).
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="127.0.0.1")

    async with opened() as ground:
        for context in (knows_nobody, knows_another):
            await asyncio.to_thread(connect, ground.listener.port, context)
        assert await ground.wait_for_refusals(2) == {"ours-not-trusted": 2}


@on_both_loops
async def test_a_message_behind_the_handshake_is_taken(opened: Any, message: Message) -> None:
    async with opened() as ground:
        context = ground.context(ground.authority)
        for number in range(20):
            assert await ground.send(message(f"h-{number}"), context) == f"AA|h-{number}".encode()
        assert await ground.wait_for_refusals(0) == {}


@on_both_loops
async def test_a_message_in_one_packet_with_the_end_of_the_handshake_is_taken(opened: Any, message: Message) -> None:
    async with opened() as ground:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ground.context(ground.authority).wrap_bio(coming, going, server_hostname="127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", ground.listener.port)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(going.read())
                    coming.write(await reader.read(65536))
            tls.write(b"\x0b" + message("early") + END)
            writer.write(going.read())
            answer = b""
            while not answer.endswith(END):
                coming.write(await reader.read(65536))
                try:
                    answer += tls.read(65536)
                except ssl.SSLWantReadError:
                    continue
        assert b"MSA|AA|early" in answer
        writer.transport.abort()


async def _silent(_: socket.socket) -> None:
    """Says nothing."""


async def _ends(endpoint: socket.socket) -> None:
    endpoint.shutdown(socket.SHUT_WR)


async def _resets(endpoint: socket.socket) -> None:
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    endpoint.close()


async def _ends_in_the_middle(endpoint: socket.socket) -> None:
    endpoint.sendall(b"\x16\x03\x01\x02\x00\x01")
    endpoint.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("leave", "name"),
    [(_silent, "too-slow"), (_ends, "peer-left"), (_resets, "peer-left"), (_ends_in_the_middle, "peer-left")],
)
@on_both_loops
async def test_a_peer_that_does_not_finish_the_handshake_is_named(
    opened: Any, message: Message, leave: Callable[[socket.socket], Awaitable[None]], name: str
) -> None:
    async with opened(handshake_timeout_s=0.3 if leave is _silent else 10.0) as ground:
        with socket.create_connection(("127.0.0.1", ground.listener.port)) as endpoint:
            await leave(endpoint)
            assert await ground.wait_for_refusals() == {name: 1}
        assert await ground.send(message("yes"), ground.context(ground.authority)) == b"AA|yes"


@pytest.mark.parametrize("limit", ["connections_max", "connections_per_peer_max"])
@on_both_loops
async def test_handshakes_take_places_of_connections_and_end_with_the_listener(
    opened: Any, message: Message, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    async with opened(**{limit: 2}) as ground:
        waiting = [socket.create_connection(("127.0.0.1", ground.listener.port)) for _ in range(2)]
        assert await ground.send(message("no"), ground.context(ground.authority)) == b""
        assert ground.listener.counters.connections_refused == 1
        (line,) = [row for row in caplog.records if row.msg == "connection refused: too many"]
        assert (vars(line)["setting"], vars(line)["limit"]) == (limit, 2)
        await ground.listener.stop(WAIT_S)
        for endpoint in waiting:
            endpoint.settimeout(WAIT_S)
            ended = await asyncio.to_thread(endpoint.recv, 1)
            assert ended == b""
            endpoint.close()


@on_both_loops
async def test_a_port_in_use_is_named_and_had_again_once_it_is_free(opened: Any, message: Message) -> None:
    async with opened() as ground:
        taken = ground.listener
        again = MllpListener("127.0.0.1", taken.port, taken.receiver, taken.clock, taken.limits, door=taken.door)
        with pytest.raises(SuiteError, match=f"127.0.0.1:{taken.port}") as caught:
            await again.start()
        assert caught.value.code == "start.port-in-use"
        await taken.stop(WAIT_S)
        assert not taken.listening
        await again.start()
        assert again.listening
        assert await ground.send(message("had"), ground.context(ground.authority)) == b"AA|had"
        await again.stop(WAIT_S)
