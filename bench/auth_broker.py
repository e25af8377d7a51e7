"""The token broker: how fast it gives a token it has, how often it asks for one it has not, and what sealing costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.report import figure
from common.runtime.keyring import tenant_keys

ROOT: Final = Path(__file__).resolve().parents[1]
PROGRAM: Final = ROOT / "services/auth-gateway/tests/broker_process.py"
PER_SECOND: Final = 500
SECONDS: Final = 10.0
CONNECTIONS: Final = 16
WORKERS: Final = 100
ROUNDS: Final = 20_000
TOKEN_BYTES: Final = 1_500


@dataclass
class Client:
    """Keep-alive connections to one server, so cheap that the server is what is measured."""

    host: str
    port: int
    request: bytes
    latencies_ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def worker(self, due: asyncio.Queue[float | None]) -> None:
        """Send a request whenever one is due; its latency counts from then, waiting included."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        while (at := await due.get()) is not None:
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            self.latencies_ms.append((time.perf_counter() - at) * 1000)
            self.statuses.append(int(head[9:12]))
        writer.close()

    async def load(self, per_second: float, seconds: float) -> None:
        """An open loop: requests come when they are due, whether the ones before are answered or not."""
        due: asyncio.Queue[float | None] = asyncio.Queue()
        workers = [asyncio.create_task(self.worker(due)) for _ in range(CONNECTIONS)]
        begun = time.perf_counter()
        for number in range(int(per_second * seconds)):
            at = begun + number / per_second
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            due.put_nowait(at)
        for _ in workers:
            due.put_nowait(None)
        await asyncio.gather(*workers)

    async def together(self, count: int) -> None:
        """All at once, each on a connection of its own."""
        due: asyncio.Queue[float | None] = asyncio.Queue()
        workers = [asyncio.create_task(self.worker(due)) for _ in range(count)]
        for entry in (*[time.perf_counter()] * count, *[None] * count):
            due.put_nowait(entry)
        await asyncio.gather(*workers)


def auth_broker(folder: Path) -> Iterator[dict[str, object]]:
    """The figures of the broker."""
    with _broker(folder / "broker") as (client, asked):
        asyncio.run(client.together(WORKERS))
        count = asked()
        refused = sum(status != 200 for status in client.statuses)
        how = f"{WORKERS} requests at once for a credential without a token; {refused} of them refused"
        yield figure("token requests to the provider, 100 workers", float(count), "requests", how, goal=1.0)
        client.latencies_ms.clear()
        asyncio.run(client.load(PER_SECOND, SECONDS))
        ordered = sorted(client.latencies_ms)
        refused = sum(status != 200 for status in client.statuses)
        how = f"{PER_SECOND}/s for {SECONDS:g} s on one core, open loop, {len(ordered)} requests, {refused} refused"
        yield figure("cached token p50", ordered[len(ordered) // 2], "ms", how)
        yield figure("cached token p99", ordered[int(len(ordered) * 0.99)], "ms", how, goal=5.0)
    keys = tenant_keys("ten_bench", {1: bytes(range(32))})
    token = b"t" * TOKEN_BYTES
    began = time.perf_counter()
    for _ in range(ROUNDS):
        keys.open(keys.seal(token, record="int/api", field="token"), record="int/api", field="token")
    each_us = (time.perf_counter() - began) / ROUNDS * 1e6
    yield figure("seal and open", each_us, "µs", f"{TOKEN_BYTES} bytes, mean of {ROUNDS}", goal=20.0)


@contextlib.contextmanager
def _broker(data: Path) -> Iterator[tuple[Client, Any]]:
    data.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(data)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    try:
        told = json.loads(stdout.readline())
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
        place = urlsplit(told["url"])
        request = (
            f"POST {told['path']}:token HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: {told['authorization']}\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )

        def asked() -> int:
            stdin.write("\n")
            stdin.flush()
            return int(stdout.readline())

        yield Client(str(place.hostname), int(place.port or 80), request.encode()), asked
    finally:
        stdin.close()
        process.wait(timeout=60)
