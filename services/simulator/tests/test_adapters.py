"""The adapters on real sockets: key sets over HTTP, messages over MLLP."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.trace import mllp_trace_id
from common.runtime.outbound import AddressPolicy
from common.runtime.telemetry import Telemetry
from common.testing import make_test_runtime
from simulator.adapters.key_sets import CACHE_S, REFETCH_GAP_S, PublishedKeySets
from simulator.adapters.mllp_sender import MllpSender
from simulator.core.clients import Client
from simulator.core.hl7_feed import frame

NOW = datetime(2026, 3, 4, tzinfo=UTC)
LOOPBACK = AddressPolicy(["127.0.0.0/8"])
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return make_test_runtime(tmp_path, "simulator").telemetry


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A loopback server on a free port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def replying(reply: bytes, seen: list[bytes], until: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(until))
        writer.write(reply)
        await writer.drain()
        writer.close()

    return serve


async def test_a_message_is_framed_and_its_answer_read(telemetry: Telemetry) -> None:
    seen: list[bytes] = []
    async with listening(replying(frame(b"MSH|ack\r"), seen, b"\x1c\r")) as port:
        answer = await MllpSender(LOOPBACK, telemetry).send("127.0.0.1", port, b"MSH|x\r", timeout_s=5)
    assert seen == [b"\x0bMSH|x\r\x1c\r"]
    assert answer == b"MSH|ack\r"


@pytest.mark.parametrize("reply", [b"", b"no frame", b"\x0bhalf a frame", b"no start\x1c\r"])
async def test_an_answer_that_is_no_frame_is_named(telemetry: Telemetry, reply: bytes) -> None:
    async with listening(replying(reply, [], b"\x1c\r")) as port:
        with pytest.raises(SuiteError) as caught:
            await MllpSender(LOOPBACK, telemetry).send("127.0.0.1", port, b"MSH|x\r", timeout_s=5)
    assert caught.value.code == "peer.unreadable"


async def test_a_silent_receiver_times_out(telemetry: Telemetry) -> None:
    release = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    async with listening(silent) as port:
        with pytest.raises(SuiteError) as caught:
            await MllpSender(LOOPBACK, telemetry).send("127.0.0.1", port, b"MSH|x\r", timeout_s=0.05)
        release.set()
    assert caught.value.code == "peer.timeout"


async def test_a_closed_port_and_a_forbidden_address_are_told_apart(telemetry: Telemetry) -> None:
    async with listening(replying(b"", [], b"\r")) as port:
        pass
    with pytest.raises(SuiteError) as caught:
        await MllpSender(LOOPBACK, telemetry).send("127.0.0.1", port, b"MSH|x\r", timeout_s=5)
    assert caught.value.code == "peer.connect"
    with pytest.raises(SuiteError) as caught:
        await MllpSender(AddressPolicy(["10.0.0.0/8"]), telemetry).send("127.0.0.1", port, b"MSH|x\r", timeout_s=5)
    assert caught.value.code == "peer.address-refused"


class Publisher:
    """A JWKS address over HTTP that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.body = json.dumps({"keys": [{"kid": "a"}]}).encode()
        self.status = b"200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.reads += 1
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (self.status, len(self.body))
        writer.write(head + self.body)
        await writer.drain()
        writer.close()


def client(url: str | None, jwks: dict | None = None) -> Client:
    return Client("app", "ten", url, jwks, (), True, None, NOW)


async def test_published_keys_are_cached_for_a_minute_and_read_again_when_asked(tmp_path) -> None:
    clock, publisher = FixedClock(NOW), Publisher()
    runtime = make_test_runtime(tmp_path, clock=clock)
    keys = PublishedKeySets(LOOPBACK, runtime.telemetry, clock)
    async with listening(publisher.serve) as port:
        app = client(f"http://127.0.0.1:{port}/jwks.json")
        assert await keys.keys(app, fresh=False) == {"keys": [{"kid": "a"}]}
        clock.advance(CACHE_S - 1)
        await keys.keys(app, fresh=False)
        assert publisher.reads == 1
        await keys.keys(app, fresh=True)
        assert publisher.reads == 2
        await keys.keys(app, fresh=True)
        assert publisher.reads == 2, "an invented kid does not make us fetch at every request"
        clock.advance(REFETCH_GAP_S)
        publisher.body = b"<html>"
        assert await keys.keys(app, fresh=True) is None
        publisher.status, publisher.body = b"500 Broken", b"{}"
        assert await keys.keys(app, fresh=True) is None
        assert await keys.keys(app, fresh=False) == {"keys": [{"kid": "a"}]}, "a bad answer does not replace a good one"
    await keys.close()


async def test_given_keys_need_no_address_and_forbidden_ones_are_not_read(tmp_path) -> None:
    runtime = make_test_runtime(tmp_path)
    keys = PublishedKeySets(AddressPolicy(["10.0.0.0/8"]), runtime.telemetry, runtime.clock)
    assert await keys.keys(client(None, {"keys": []}), fresh=True) == {"keys": []}
    assert await keys.keys(client("http://127.0.0.1:9/jwks.json"), fresh=False) is None
    await keys.close()


async def test_a_message_and_its_receiver_meet_in_one_trace(tmp_path: Path) -> None:
    spans = InMemorySpanExporter()
    telemetry = make_test_runtime(tmp_path, "simulator", span_exporter=spans).telemetry
    message = b"MSH|^~\\&|EPIC^x|DEMO|PS|DEMO|20260301093000||ADT^A08^ADT_A01|M-1|P|2.5.1\r"
    async with listening(replying(frame(b"MSH|ack\r"), [], b"\x1c\r")) as port:
        with telemetry.tracer.start_as_current_span("asked") as asked:
            await MllpSender(LOOPBACK, telemetry).send("127.0.0.1", port, message, timeout_s=5)
    (sent,) = [span for span in spans.get_finished_spans() if span.name == "hl7.send"]
    assert f"{sent.context.trace_id:032x}" == mllp_trace_id("EPIC", "DEMO", "20260301093000", "M-1")
    assert [link.context.span_id for link in sent.links] == [asked.get_span_context().span_id]
