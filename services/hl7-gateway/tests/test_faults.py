"""What goes wrong around the gateway: a full disk, a disk that fails, peers that drip. Never a false yes."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from common.runtime.host import claim_port

PROGRAM = Path(__file__).parent / "gateway_process.py"
START_S = 60.0
ANSWER_S = 5.0
RECOVERED_S = 30.0
DISK_BYTES = 24 * 1024 * 1024
Message = Callable[..., bytes]


@asynccontextmanager
async def gateway_of(data: Path, connect: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """A gateway as a process of its own, and a connection to it."""
    with contextlib.closing(claim_port("127.0.0.1", 0)) as claimed:
        port = claimed.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(data), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        assert await process.stdout.readline() == b"ready\n"
    client = await connect(port)
    try:
        yield process, client
    finally:
        client.close()
        process.terminate()
        async with asyncio.timeout(START_S):
            await process.wait()


async def refused_then_taken(client: Any, body: bytes, control_id: str, mend: Callable[[], object]) -> None:
    """A negative answer in time while it is broken, a positive one in time after it is mended."""
    await client.send(body)
    async with asyncio.timeout(ANSWER_S):
        assert await client.code() == ("AE", control_id)
    mend()
    async with asyncio.timeout(RECOVERED_S):
        code = "AE"
        while code == "AE":
            await client.send(body)
            code, _ = await client.code()
    assert code == "AA"


def stored(data: Path) -> int:
    with contextlib.closing(sqlite3.connect(data / "hl7-intake.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(database.execute("SELECT count(*) FROM body").fetchone()[0])


async def test_a_disk_that_fails_is_never_a_yes_and_its_return_is_noticed(
    tmp_path: Path, connect: Any, message: Message
) -> None:
    """Writes beyond the limit of a file's size fail with EFBIG, which SQLite says as an I/O error."""
    async with gateway_of(tmp_path, connect) as (process, client):
        await client.send(message("before"))
        assert await client.code() == ("AA", "before")
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))
        await refused_then_taken(
            client,
            message("failing"),
            "failing",
            lambda: resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard)),
        )
    assert stored(tmp_path) == 2


async def wait_until_cut(gateway: Any, count: int) -> None:
    while gateway.listener.counters.connections_slow < count:  # noqa: ASYNC110 - a sweep by the clock
        await asyncio.sleep(0.02)


async def test_peers_that_drip_disturb_nobody(running_gateway: Any, message: Message) -> None:
    """Slow ones are cut once their frame takes too long; the others are answered at once meanwhile."""
    async with running_gateway(frame_timeout_s=0.5) as gateway:
        slow = [socket.create_connection(("127.0.0.1", gateway.listener.port)) for _ in range(20)]
        client = await gateway.client()
        try:
            for one in slow:
                one.sendall(b"\x0bMSH|")
            async with asyncio.timeout(ANSWER_S):
                for number in range(10):
                    for one in slow:
                        with contextlib.suppress(OSError):
                            one.sendall(b"x")
                    await client.send(message(f"d-{number}"))
                    assert await client.code() == ("AA", f"d-{number}")
                await wait_until_cut(gateway, len(slow))
            assert gateway.listener.counters.frames_cut == len(slow)
            await client.send(message("after"))
            assert await client.code() == ("AA", "after")
        finally:
            client.close()
            for one in slow:
                one.close()
