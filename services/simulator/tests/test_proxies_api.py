"""Proxies through the API, with a real client on their ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.models.access import Role
from common.testing import OTHER_TENANT, RunningSuite, make_test_runtime, running
from simulator.module import build

PROXIES = "/simulator/v1/proxies"
WAIT_S = 10.0


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as up:
        yield up


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def make(suite: RunningSuite, port: int, **body: Any) -> dict[str, Any]:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        made = await admin.post(PROXIES, json={"name": "bad", "upstream_port": port} | body)
        assert made.status_code == 201, made.text
        return dict(made.json())


async def poison(suite: RunningSuite, kind: str, stream: str = "downstream", **attributes: int) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        body = {"type": kind, "stream": stream, "attributes": attributes}
        put = await operator.put(f"{PROXIES}/bad/toxics/one", json=body)
        assert put.status_code == 200, put.text


async def said(port: int, data: bytes, whole: int) -> bytes:
    """What comes back of some bytes, up to the connection's end."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            found = b""
            while len(found) < whole and (piece := await reader.read(65_536)):
                found += piece
            return found
        finally:
            writer.transport.abort()


async def test_bytes_pass_both_ways(suite: RunningSuite, echo: int) -> None:
    proxy = await make(suite, echo)
    data = bytes(range(256)) * 4000
    assert await said(proxy["listen"]["port"], data, len(data)) == data
    await poison(suite, "slicer", average_size=5000, delay=0)
    assert await said(proxy["listen"]["port"], data, len(data)) == data
    async with suite.client(Role.VIEWER) as viewer:
        shown = (await viewer.get(f"{PROXIES}/bad")).json()
        assert (shown["connections"], shown["toxics"][0]["type"]) == (2, "slicer")
        assert {row["type"] for row in (await viewer.get("/simulator/v1/toxics")).json()["toxics"]} >= {"latency"}


async def test_data_is_cut_and_reset(suite: RunningSuite, echo: int) -> None:
    port = (await make(suite, echo))["listen"]["port"]
    await poison(suite, "limit_data", bytes=3)
    assert await said(port, b"abcdef", 6) == b"abc"
    await poison(suite, "reset_peer")
    with pytest.raises(ConnectionResetError):
        await said(port, b"abcdef", 6)
    await poison(suite, "reset_peer", "upstream")
    with pytest.raises(ConnectionResetError):
        await said(port, b"abcdef", 6)
    await poison(suite, "timeout", timeout=30)
    assert await said(port, b"abcdef", 6) == b""


async def test_a_mute_connection_ends_with_the_toxic(suite: RunningSuite, echo: int) -> None:
    port = (await make(suite, echo))["listen"]["port"]
    await poison(suite, "timeout")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    async with suite.client(Role.OPERATOR) as operator:
        assert (await operator.delete(f"{PROXIES}/bad/toxics/one")).status_code == 204
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(1), WAIT_S) == b""
    assert await said(port, b"abc", 3) == b"abc"
    writer.close()


async def test_ports_that_refuse_and_that_say_nothing(suite: RunningSuite, echo: int) -> None:
    port = (await make(suite, echo))["listen"]["port"]
    async with suite.client(Role.OPERATOR) as operator:
        closed = await operator.patch(f"{PROXIES}/bad", json={"listening": "closed"})
        assert (closed.json()["cause"], closed.json()["listen"]["port"]) == ("B2", port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await operator.patch(f"{PROXIES}/bad", json={"listening": "dropping"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 0.5)
        await operator.patch(f"{PROXIES}/bad", json={"listening": "open"})
    assert await said(port, b"abc", 3) == b"abc"


async def test_proxies_belong_to_their_tenant_and_have_bounds(suite: RunningSuite, echo: int) -> None:
    await make(suite, echo)
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as other:
        assert (await other.get(PROXIES)).json()["items"] == []
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("DELETE", "/toxics/x")):
            body = {"listening": "open"} if method == "PATCH" else None
            assert (await other.request(method, f"{PROXIES}/bad{path}", json=body)).status_code == 404
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        again = await admin.post(PROXIES, json={"name": "bad", "upstream_port": echo})
        assert again.status_code == 409
        for wrong in ({"type": "nothing"}, {"type": "latency", "attributes": {"latency": -1}},
                      {"type": "latency", "attributes": {"rate": 1}}, {"type": "latency", "toxicity": 2}):  # fmt: skip
            assert (await admin.put(f"{PROXIES}/bad/toxics/x", json=wrong)).status_code == 422
        far = await admin.post(PROXIES, json={"name": "far", "upstream_host": "169.254.169.254", "upstream_port": 80})
        assert far.json()["code"] == "peer.address-refused"
        assert (await admin.delete(f"{PROXIES}/bad")).status_code == 204
