"""The gateway as a process on storage that fails: a full disk, a disk that answers EIO, a database server that is gone.

Never AA while it lasts; an AE, or a closed connection, within 5 s; taken again within 30 s; and afterwards everything
that was acknowledged is there, once.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from common.runtime.host import claim_port
from infrastructure.fixtures import postgres_url_of

PROGRAM = Path(__file__).parent / "gateway_process.py"
SHIM = Path(__file__).parent / "failing_storage.c"
DISK_BYTES = 24 * 1024 * 1024
START_S = 120.0
ANSWER_S = 5.0
RECOVERED_S = 30.0
KEPT_S = 60.0
END = b"\x1c\r"
Message = Callable[..., bytes]

pytestmark = pytest.mark.e2e


class Sender:
    """A peer that sends one message at a time and connects again when it must."""

    def __init__(self, port: int, message: Message) -> None:
        self._port, self._message = port, message
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.acknowledged: list[str] = []

    async def send(self, control_id: str, name: str = "TEST^SYNTHETIC") -> str:
        """MSA-1, or `closed`; raises TimeoutError when neither came in time."""
        async with asyncio.timeout(ANSWER_S):
            try:
                reader, writer = await self._connected()
                writer.write(b"\x0b" + self._message(control_id, name=name) + END)
                msa = (await reader.readuntil(END)).partition(b"\rMSA|")[2].split(b"\r")[0]
            except (asyncio.IncompleteReadError, OSError):
                self.close()
                return "closed"
        code, of = msa.decode().split("|")[:2]
        assert of == control_id
        if code == "AA":
            self.acknowledged.append(control_id)
        return code

    async def wait_until_taken(self, control_id: str) -> None:
        async with asyncio.timeout(RECOVERED_S):
            while await self.send(control_id) != "AA":  # noqa: ASYNC110 - the peer's own repetition
                await asyncio.sleep(0.1)

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].transport.abort()
            self._stream = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._stream is None:
            self._stream = await asyncio.open_connection("127.0.0.1", self._port)
        return self._stream


def rows(data: Path, name: str, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data / f"{name}.sqlite3")) as connection:
        return [row[0] for row in connection.execute(statement)]


async def wait_until_kept(read: Callable[[], Awaitable[list[Any]]], sent: list[str]) -> None:
    """Until every message is in the catalogue, whose control ids `read` reads; then it must be there once."""
    async with asyncio.timeout(KEPT_S):
        while not set(sent) <= set(await read()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    stored = Counter(await read())
    assert {control_id: stored[control_id] for control_id in sent} == dict.fromkeys(sent, 1)


async def wait_until_kept_in_files(data: Path, sent: list[str]) -> None:
    async def read() -> list[Any]:
        return rows(data, "hl7-gateway", "SELECT control_id FROM message")

    await wait_until_kept(read, sent)
    assert rows(data, "hl7-intake", "PRAGMA integrity_check") == ["ok"]


@asynccontextmanager
async def gateway(data: Path, **environment: str) -> AsyncIterator[int]:
    """The port of a running gateway; it must end well."""
    with contextlib.closing(claim_port("127.0.0.1", 0)) as claimed:
        port = int(claimed.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(data),
        str(port),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            assert await process.stdout.readline() == b"ready\n"
        yield port
        process.terminate()
        async with asyncio.timeout(START_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def failing_storage(tmp_path: Path) -> Path:
    """The shim, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the failing disk is a small C library, and there is no C compiler (Debian: gcc)")
    library = tmp_path / "failing_storage.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"], check=True)
    return library


def _fill(place: Path) -> Path:
    """Take every block that is left."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return ballast


async def test_a_full_disk_is_never_acknowledged_and_got_over(small_disk: Path, message: Message) -> None:
    data = small_disk / "data"
    data.mkdir()
    async with gateway(data) as port:
        sender, other = Sender(port, message), Sender(port, message)
        assert await sender.send("before") == "AA"
        assert await other.send("beside") == "AA"
        ballast = _fill(small_disk)
        # What the files had in reserve is used up first; then nothing is taken.
        codes = [await sender.send(f"full-{number}", name="X" * 60_000) for number in range(40)]
        assert codes[-1] in {"AE", "closed"}
        assert "AA" not in codes[codes.index(codes[-1]) :]
        assert {await other.send(f"late-{number}", name="X" * 60_000) for number in range(5)} <= {"AE", "closed"}
        ballast.unlink()
        await sender.wait_until_taken("after")
        await other.wait_until_taken("full-39")
        await wait_until_kept_in_files(data, [*sender.acknowledged, *other.acknowledged])
        sender.close()
        other.close()


async def test_a_disk_that_answers_with_errors_is_never_acknowledged_and_got_over(
    tmp_path: Path, failing_storage: Path, message: Message
) -> None:
    data, flag = tmp_path / "data", tmp_path / "failing"
    data.mkdir()
    async with gateway(data, LD_PRELOAD=str(failing_storage), FAILING_STORAGE=str(flag)) as port:
        sender = Sender(port, message)
        for turn in range(3):
            assert await sender.send(f"before-{turn}") == "AA"
            flag.touch()
            codes = {await sender.send(f"eio-{turn}-{number}") for number in range(10)}
            assert codes <= {"AE", "closed"}
            flag.unlink()
            for number in range(10):  # one that was stored all the same, and not acknowledged, is not stored again
                await sender.wait_until_taken(f"eio-{turn}-{number}")
        await wait_until_kept_in_files(data, sender.acknowledged)
        sender.close()


@pytest.mark.postgres
@pytest.mark.parametrize("going", ["stop", "kill"])
async def test_a_database_server_that_goes_is_never_acknowledged_and_got_over(
    tmp_path: Path, private_postgres: Any, message: Message, going: str
) -> None:
    url = postgres_url_of(private_postgres)

    async def read() -> list[Any]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return [row[0] for row in await connection.fetch("SELECT control_id FROM hl7_gateway.message")]
        finally:
            await connection.close()

    async with gateway(tmp_path, PS_DATABASE_URL=url) as port:
        sender = Sender(port, message)
        for turn in range(2):
            assert await sender.send(f"before-{turn}") == "AA"
            await asyncio.to_thread(getattr(private_postgres, going))
            assert {await sender.send(f"gone-{turn}-{number}") for number in range(3)} <= {"AE", "closed"}
            await asyncio.to_thread(private_postgres.start)
            await sender.wait_until_taken(f"gone-{turn}-2")
        await wait_until_kept(read, sender.acknowledged)
        sender.close()
