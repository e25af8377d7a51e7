"""Live events: tickets, and streams over real sockets, with readers that read, do not read, and go away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter

from common.models.access import Role
from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.authentication import Caller
from common.runtime.bus import BatchHandler, Consumption, Delivery
from common.runtime.chassis_api import stream_router
from common.runtime.keyring import KeyEncryptionKey
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.stream import EVENTS_WAITING_MAX, StreamHub, Tickets
from common.testing import OTHER_TENANT, TENANT, ServedSuite, make_test_runtime, serving

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TOPIC = "ps.credential.v1"
WAIT_S = 20.0
OPENED: list[Stream] = []
ANN = Caller(TENANT, "ann", frozenset({Role.VIEWER}))


def tickets(clock: FixedClock, key: bytes = b"k" * 32) -> Tickets:
    return Tickets(KeyEncryptionKey(key), clock, SequenceIds())


def refused(door: Tickets, ticket: str, module: str = "sync") -> bool:
    with pytest.raises(SuiteError) as error:
        door.redeem(ticket, module)
    return (error.value.code, error.value.row.status) == ("auth.ticket-invalid", 401)


def test_a_ticket_opens_one_stream_of_its_tenant_and_module() -> None:
    door = tickets(FixedClock(AT))
    ticket = door.issue(ANN, "sync")
    assert refused(door, ticket, "alerts")
    assert door.redeem(ticket, "sync") == TENANT
    assert refused(door, ticket)


def test_a_ticket_lives_one_minute() -> None:
    clock = FixedClock(AT)
    door = tickets(clock)
    first, second = door.issue(ANN, "sync"), door.issue(ANN, "sync")
    clock.advance(59)
    assert door.redeem(first, "sync") == TENANT
    clock.advance(1)
    assert refused(door, second)
    assert refused(door, first)


def test_used_tickets_are_remembered_as_long_as_they_live_and_no_longer() -> None:
    clock = FixedClock(AT)
    door = tickets(clock)
    for _ in range(100):
        door.redeem(door.issue(ANN, "sync"), "sync")
        clock.advance(10)
    assert len(door._used) <= 7


def test_forged_tickets_are_refused() -> None:
    clock = FixedClock(AT)
    door = tickets(clock)
    good = door.issue(ANN, "sync")
    header, claims, signature = good.split(".")
    none = "eyJhbGciOiJub25lIn0"
    for forged in (
        "",
        "x",
        "é.é.é",
        f"{none}.{claims}.",
        f"{header}.{claims}.",
        f"{header}.{claims}.{'A' * len(signature)}",
        tickets(clock, b"x" * 32).issue(ANN, "sync"),
    ):
        assert refused(door, forged), forged
    assert door.redeem(good, "sync") == TENANT


# ---- Streams


@dataclass
class HandBus:
    """A bus whose events are handed to the reader by the test."""

    handlers: list[BatchHandler] = field(default_factory=list)
    stopped: int = 0

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> Consumption:
        self.handlers.append(handler)
        return self

    async def stop(self) -> None:
        self.stopped += 1

    async def give(self, *events: Event) -> None:
        for handler in self.handlers:
            await handler([Delivery(event, TOPIC, 0, 0) for event in events])


def event(number: int, tenant: str = TENANT, **data: Any) -> Event:
    return Event(
        id=f"evt_{number:026d}",
        type="ps.credential.refreshed",
        source="/test/1",
        subject=f"int_{number}",
        time=AT,
        tenant=tenant,
        key="k",
        data=data,
    )


@dataclass
class Frame:
    name: str = ""
    id: str = ""
    data: Any = None
    comment: str = ""


class Stream:
    """A reader of one stream on a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status, self.headers = 0, ""
        self._rest = b""

    async def read_head(self) -> Stream:
        async with asyncio.timeout(WAIT_S):
            self.headers = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.status = int(self.headers.split()[1])
        return self

    async def frame(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        async with asyncio.timeout(WAIT_S):
            while b"\n\n" not in self._rest:
                size = int(await self.reader.readline() or b"0", 16)
                if size == 0:
                    return None
                self._rest += (await self.reader.readexactly(size + 2))[:size]
        text, _, self._rest = self._rest.partition(b"\n\n")
        found = Frame()
        for line in text.decode().split("\n"):
            name, _, value = line.partition(": ")
            match name:
                case "event":
                    found.name = value
                case "id":
                    found.id = value
                case "data":
                    found.data = json.loads(value)
                case "":
                    found.comment = value
        return found

    async def named(self) -> Frame | None:
        """The next frame that is no heartbeat."""
        while (frame := await self.frame()) is not None and not frame.name:
            pass
        return frame

    def close(self) -> None:
        self.writer.transport.abort()


async def connect(served: ServedSuite, ticket: str, *headers: str, receive_bytes: int | None = None) -> Stream:
    port = int(served.url.rpartition(":")[2])
    raw = socket.socket()
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=2**16)
    lines = (f"GET /test/v1/stream?ticket={ticket} HTTP/1.1", "Host: suite.test", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    stream = Stream(reader, writer)
    OPENED.append(stream)
    return stream


@pytest.fixture(autouse=True)
async def close_streams() -> AsyncIterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()
    await asyncio.sleep(0)


async def ticket_of(served: ServedSuite, tenant: str = TENANT) -> str:
    async with served.client(Role.VIEWER, tenant=tenant) as client:
        response = await client.post("/test/v1/stream-tickets")
        assert response.status_code == 201
        assert response.json()["expires_in"] == 60
        return str(response.json()["ticket"])


async def open_stream(served: ServedSuite, tenant: str = TENANT, *headers: str) -> Stream:
    stream = await (await connect(served, await ticket_of(served, tenant), *headers)).read_head()
    assert stream.status == 200
    first = await stream.frame()
    assert first is not None
    assert (first.name, first.id) == ("resync", "")
    return stream


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the hub has no event for it
            await asyncio.sleep(0.005)


def plain(runtime: Runtime) -> Module:
    """A module with the chassis' own stream, fed by the bus."""
    return Module(name="test", prefix="/test", router=APIRouter(), access=(), stream_topics=(TOPIC,))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedSuite]:
    async with serving(make_test_runtime(tmp_path), plain) as up:
        yield up


@asynccontextmanager
async def with_hub(tmp_path: Path, bus: HandBus, **settings: Any) -> AsyncIterator[tuple[ServedSuite, StreamHub]]:
    """A module whose own stream routes, over the given hub, stand before the chassis' (first come, first met)."""
    hub = StreamHub(bus, [TOPIC], **settings)  # type: ignore[arg-type]
    await hub.start()

    def build(runtime: Runtime) -> Module:
        return Module(name="test", prefix="/test", router=stream_router(runtime, "test", hub, "test"), access=())

    async with serving(make_test_runtime(tmp_path), build) as up:
        try:
            yield up, hub
        finally:
            await hub.stop()


async def test_a_stream_shows_the_events_of_its_tenant_only(served: ServedSuite) -> None:
    ours, theirs = await open_stream(served), await open_stream(served, OTHER_TENANT)
    assert "content-type: text/event-stream" in ours.headers
    assert "cache-control: no-store" in ours.headers
    bus = served.host.runtime.bus
    await bus.publish([event(1, OTHER_TENANT), event(2, credential="api"), event(3, "platform"), event(4)])
    shown = [await ours.named(), await ours.named()]
    assert shown == [
        Frame(
            "ps.credential.refreshed",
            "evt_00000000000000000000000002",
            {"subject": "int_2", "time": "2026-03-01T09:30:00.000Z", "data": {"credential": "api"}},
        ),
        Frame(
            "ps.credential.refreshed",
            "evt_00000000000000000000000004",
            {"subject": "int_4", "time": "2026-03-01T09:30:00.000Z", "data": {}},
        ),
    ]
    other = await theirs.named()
    assert other is not None
    assert other.id.endswith("1")


async def test_every_stream_of_a_tenant_gets_every_event_in_order(served: ServedSuite) -> None:
    streams = [await open_stream(served) for _ in range(3)]
    await served.host.runtime.bus.publish([event(number) for number in range(300)])
    for stream in streams:
        frames = [await stream.named() for _ in range(300)]
        assert [frame and int(frame.id[4:]) for frame in frames] == list(range(300))
        stream.close()


async def test_a_text_in_an_event_cannot_end_its_frame(served: ServedSuite) -> None:
    stream = await open_stream(served)
    text = "a\nevent: forged\r\n\ndata: {}\u2028"
    await served.host.runtime.bus.publish([event(1, error_code=text)])
    shown = await stream.named()
    assert shown is not None
    assert (shown.name, shown.data["data"]) == ("ps.credential.refreshed", {"error_code": text})


async def test_whoever_was_away_is_told_to_read_again_and_nothing_is_replayed(served: ServedSuite) -> None:
    bus = served.host.runtime.bus
    first = await open_stream(served)
    await bus.publish([event(1)])
    witness = await open_stream(served)
    seen = await first.named()
    assert seen is not None
    first.close()
    await bus.publish([event(2)])
    assert await witness.named() is not None
    again = await open_stream(served, TENANT, f"Last-Event-ID: {seen.id}")  # begins with resync: read again
    await bus.publish([event(3)])
    shown = await again.named()
    assert shown is not None
    assert shown.id.endswith("3")


async def test_without_a_ticket_that_is_good_there_is_no_stream(served: ServedSuite) -> None:
    used = await ticket_of(served)
    stream = await (await connect(served, used)).read_head()
    assert stream.status == 200
    stream.close()
    foreign = served.host.runtime.tickets.issue(ANN, "another module")
    async with served.client() as stranger:
        for ticket in (used, foreign, "x", ""):
            refused = await stranger.get("/test/v1/stream", params={"ticket": ticket})
            assert (refused.status_code, refused.json()["code"]) == (401, "auth.ticket-invalid")
            assert ticket not in refused.text or not ticket.startswith("ey")
        assert (await stranger.get("/test/v1/stream")).status_code == 422
        assert (await stranger.post("/test/v1/stream-tickets")).status_code == 401
    async with served.client(Role.PHI_REVIEWER) as reviewer:  # a role that may not read states
        assert (await reviewer.post("/test/v1/stream-tickets")).status_code == 403


async def test_a_quiet_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    bus = HandBus()
    async with with_hub(tmp_path, bus, heartbeat_s=0.01) as (served, _):
        stream = await open_stream(served)
        assert [await stream.frame() for _ in range(3)] == [Frame(comment="alive")] * 3
        await bus.give(event(1))
        shown = await stream.named()
        assert shown is not None
        assert shown.id.endswith("1")
        assert await stream.frame() == Frame(comment="alive")
        stream.close()


async def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    bus = HandBus()
    async with with_hub(tmp_path, bus) as (served, hub):
        tasks = len(asyncio.all_tasks())
        streams = [await open_stream(served) for _ in range(5)]
        assert hub.open_streams(TENANT) == 5
        streams.pop().writer.transport.abort()
        await wait_until(lambda: hub.open_streams(TENANT) == 4)
        for stream in streams:
            stream.close()
        await wait_until(lambda: hub.open_streams(TENANT) == 0)
        await wait_until(lambda: len(asyncio.all_tasks()) <= tasks)
        await bus.give(event(1))


async def test_streams_of_a_tenant_are_limited(tmp_path: Path) -> None:
    async with with_hub(tmp_path, HandBus(), streams_per_tenant_max=2) as (served, hub):
        streams = [await open_stream(served) for _ in range(2)]
        one_more = await (await connect(served, await ticket_of(served))).read_head()
        assert one_more.status == 429
        other = await open_stream(served, OTHER_TENANT)
        streams.pop().close()
        await wait_until(lambda: hub.open_streams(TENANT) == 1)
        for stream in (await open_stream(served), one_more, other, *streams):
            stream.close()


async def test_a_slow_reader_costs_a_bounded_queue_and_is_told_what_it_missed(tmp_path: Path) -> None:
    bus = HandBus()
    async with with_hub(tmp_path, bus) as (served, hub):
        slow = await connect(served, await ticket_of(served), receive_bytes=4096)
        quick = await open_stream(served)
        await wait_until(lambda: hub.open_streams(TENANT) == 2)
        # More than sockets and queue can hold together: 40 MB.
        count = 4 * EVENTS_WAITING_MAX
        for number in range(count):
            await bus.give(event(number, error_code="x" * 10_000))
            shown = await quick.named()
            assert shown is not None
            assert int(shown.id[4:]) == number
        (subscriber,) = (row for row in hub._subscribers if row.queue.qsize())
        assert subscriber.queue.qsize() == EVENTS_WAITING_MAX
        await slow.read_head()
        names, ids = [], []
        while not ids or ids[-1] != count - 1:
            frame = await slow.named()
            assert frame is not None
            names.append(frame.name)
            if frame.id:
                ids.append(int(frame.id[4:]))
        assert names.count("resync") == 2  # at the start, and where events are missing
        assert ids == sorted(ids)
        assert EVENTS_WAITING_MAX <= len(ids) < count
        slow.close()
        quick.close()


async def test_a_stop_ends_streams_by_name(tmp_path: Path) -> None:
    async with serving(make_test_runtime(tmp_path), plain, stop_timeout_s=600) as served:
        streams = [await open_stream(served) for _ in range(3)]
    for stream in streams:
        assert (await stream.named(), await stream.frame()) == (Frame("end", data={}), None)
        stream.close()


async def test_a_stop_does_not_wait_for_a_reader_that_does_not_read(tmp_path: Path) -> None:
    async with asyncio.timeout(60), serving(make_test_runtime(tmp_path), plain, stop_timeout_s=600) as served:
        stalled = await connect(served, await ticket_of(served), receive_bytes=4096)
        reader = await open_stream(served)
        await served.host.runtime.bus.publish([event(number, error_code="x" * 50_000) for number in range(400)])
        while (shown := await reader.named()) is not None and not shown.id.endswith("399"):
            pass
        reader.close()
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await stalled.reader.read(2**20):
            got = part
    assert not got.endswith(b"0\r\n\r\n")  # cut, not ended: the reader can tell


async def test_a_stream_asked_for_while_the_host_stops_ends_at_once(served: ServedSuite) -> None:
    served.host.end_streams()
    stream = await open_stream(served)
    assert (await stream.named(), await stream.frame()) == (Frame("end", data={}), None)
