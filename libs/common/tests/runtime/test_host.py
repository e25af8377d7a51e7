"""The host in this process: modules start in order and stop in reverse, and say when they are ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import MetaData

from common.models.errors import SuiteError
from common.runtime.database import Database
from common.runtime.host import Build, Host, claim_port
from common.runtime.module import Module
from common.runtime.runtime import Runtime, prepare_data
from common.testing import make_test_runtime

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


class Diary:
    """Modules that write down when they start and stop."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.waiting = asyncio.Event()

    def lifespan(self, name: str, start: Exception | asyncio.Event | None, stop: Exception | None) -> Lifespan:
        @asynccontextmanager
        async def lived() -> AsyncIterator[None]:
            self.entries.append(f"{name} starts")
            if isinstance(start, Exception):
                raise start
            if start is not None:
                self.waiting.set()
                await start.wait()
            try:
                yield
            finally:
                self.entries.append(f"{name} stops")
                if stop is not None:
                    raise stop

        return lived

    def module(
        self,
        name: str,
        *,
        start: Exception | asyncio.Event | None = None,
        stop: Exception | None = None,
        ready: Callable[[], Awaitable[list[str]]] | None = None,
        database: bool = False,
        absent: Path | None = None,
    ) -> Build:
        def build(runtime: Runtime) -> Module:
            given: dict[str, Any] = {"ready": ready} if ready is not None else {}
            if database:
                given["database"] = runtime.database(name, MetaData(), None)
            if absent is not None:  # the host does not know of it, so it is never opened
                given["database"] = Database(f"sqlite:///{absent}", name, MetaData(), None)
            return Module(name, f"/{name}", APIRouter(), [], lifespan=self.lifespan(name, start, stop), **given)

        return build


def host_of(folder: Path, *builds: Build) -> Host:
    runtime = make_test_runtime(folder, "host")
    return Host(runtime, [build(runtime) for build in builds])


async def gone(check: Callable[[], Awaitable[Any]]) -> str:
    with pytest.raises(SuiteError) as failed:
        await check()
    return failed.value.code


async def test_lifespans_are_entered_in_order_and_left_in_reverse(tmp_path: Path) -> None:
    diary = Diary()
    host = host_of(tmp_path, *(diary.module(name) for name in ("one", "two", "three")))
    assert diary.entries == []
    async with host.running():
        assert diary.entries == ["one starts", "two starts", "three starts"]
    assert diary.entries[3:] == ["three stops", "two stops", "one stops"]
    assert await gone(host.runtime.bus.ping) == "bus.unavailable"


@pytest.mark.parametrize("error", [SuiteError("start.port-in-use", "127.0.0.1:2575"), RuntimeError("whatever")])
async def test_a_module_that_fails_at_its_start_stops_those_before_it(tmp_path: Path, error: Exception) -> None:
    diary = Diary()
    host = host_of(
        tmp_path,
        diary.module("one", database=True),
        diary.module("two"),
        diary.module("three", start=error),
        diary.module("four"),
    )
    with pytest.raises(type(error)) as failed:
        async with host.running():
            pytest.fail("it did not start")
    assert failed.value is error
    assert diary.entries == ["one starts", "two starts", "three starts", "two stops", "one stops"]
    assert not host.started
    assert await gone(host.runtime.databases[0].ping) == "database.unavailable"
    assert await gone(host.runtime.bus.ping) == "bus.unavailable"


async def test_a_start_that_is_given_up_stops_what_was_started(tmp_path: Path) -> None:
    diary = Diary()
    host = host_of(tmp_path, diary.module("one"), diary.module("two", start=asyncio.Event()))

    async def run() -> None:
        async with host.running():
            pytest.fail("it did not start")

    running = asyncio.create_task(run())
    async with asyncio.timeout(10):
        await diary.waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert diary.entries == ["one starts", "two starts", "one stops"]


async def test_a_module_that_fails_at_its_stop_does_not_keep_the_others_up(tmp_path: Path) -> None:
    diary = Diary()
    host = host_of(tmp_path, diary.module("one"), diary.module("two", stop=RuntimeError("stuck")))
    with pytest.raises(RuntimeError, match="stuck"):
        async with host.running():
            pass
    assert diary.entries[2:] == ["two stops", "one stops"]
    assert await gone(host.runtime.bus.ping) == "bus.unavailable"


async def readiness(host: Host, path: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host.app), base_url="http://suite.test") as client:
        response = await client.get(path)
    body = response.json()
    assert body["status"] == ("ready" if response.status_code == 200 else "not ready")
    return response.status_code, body["modules"]


async def test_readiness_follows_the_state_of_each_module(tmp_path: Path) -> None:
    reasons: list[str] = []

    async def ready() -> list[str]:
        if "raise" in reasons:
            raise SuiteError("service.unavailable", "auth-gateway does not answer.")
        return reasons

    diary = Diary()
    host = host_of(tmp_path, diary.module("one", database=True), diary.module("two", ready=ready))
    assert await readiness(host, "/readyz") == (503, {"one": ["starting"], "two": ["starting"]})
    async with host.running():
        assert await readiness(host, "/readyz") == (200, {"one": "ready", "two": "ready"})
        reasons.append("listener: not bound")
        assert await readiness(host, "/readyz") == (503, {"one": "ready", "two": ["listener: not bound"]})
        assert await readiness(host, "/one/readyz") == (200, {"one": "ready"})
        assert await readiness(host, "/two/readyz") == (503, {"two": ["listener: not bound"]})
        reasons[:] = ["raise"]
        assert await readiness(host, "/readyz") == (503, {"one": "ready", "two": ["service.unavailable"]})
        reasons.clear()
    assert (await readiness(host, "/readyz"))[0] == 503


async def test_a_module_without_its_database_is_not_ready_and_the_others_are(tmp_path: Path) -> None:
    diary = Diary()
    host = host_of(tmp_path, diary.module("one", absent=tmp_path), diary.module("two", database=True))
    async with host.running():
        assert await readiness(host, "/one/readyz") == (503, {"one": ["database.unavailable"]})
        assert await readiness(host, "/two/readyz") == (200, {"two": "ready"})


async def test_without_the_bus_no_module_is_ready(tmp_path: Path) -> None:
    diary = Diary()
    host = host_of(tmp_path, diary.module("one"), diary.module("two"))
    async with host.running():
        await host.runtime.bus.stop()
        assert await readiness(host, "/readyz") == (503, {"one": ["bus.unavailable"], "two": ["bus.unavailable"]})


def test_a_claimed_port_belongs_to_one_only() -> None:
    """Bound is not enough: until somebody listens, a second suite could bind the same port and start beside it."""
    with closing(claim_port("127.0.0.1", 0)) as claimed:
        port = claimed.getsockname()[1]
        with pytest.raises(SuiteError) as refused:
            claim_port("127.0.0.1", port)
        assert refused.value.code == "start.port-in-use"
        assert f"127.0.0.1:{port}" in str(refused.value.detail)
    with closing(claim_port("127.0.0.1", port)) as again:
        assert again.getsockname()[1] == port


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1", "ü" * 70])
def test_an_address_that_is_not_ours_is_a_bad_setting(host: str) -> None:
    with pytest.raises(SuiteError) as refused:
        claim_port(host, 0)
    assert refused.value.code == "start.bad-setting"
    assert "PS_HOST" in str(refused.value.detail)


def test_a_port_of_the_other_family_can_be_claimed() -> None:
    try:
        claimed = claim_port("::1", 0)
    except SuiteError:
        pytest.skip("this machine has no IPv6")
    with closing(claimed):
        assert claimed.family == socket.AF_INET6


def test_two_processes_may_prepare_one_directory_at_once(tmp_path: Path) -> None:
    """The probe of one may be swept away by the other."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: prepare_data(tmp_path / "data"), range(2000)))
    assert len(done) == 2000
    assert list((tmp_path / "data").iterdir()) == []
