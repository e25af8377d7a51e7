"""`kill -9` under load: what was acknowledged is there, once; a ledger outside the process says what that is."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.models.errors import SuiteError
from common.runtime.host import claim_port

PROGRAM = Path(__file__).parent / "gateway_process.py"
CONNECTIONS = 6
KILLS = 3
ACKNOWLEDGED_BEFORE_KILL = 150
WAIT_S = 30.0

pytestmark = pytest.mark.e2e


async def _started(data: Path, port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(data), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"ready\n"
    return process


class Ledger:
    """What was sent, and what was acknowledged."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.acknowledged: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.enough = asyncio.Event()
        self.wanted = 0

    def note(self, code: str, control_id: str) -> None:
        if code != "AA":
            self.refused.append((code, control_id))
            return
        self.acknowledged.append(control_id)
        if len(self.acknowledged) >= self.wanted:
            self.enough.set()


async def _feed(client: Any, name: str, message: Callable[..., bytes], ledger: Ledger) -> None:
    number = 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            control_ids = [f"{name}-{number + turn}" for turn in range(4)]
            number += 4
            ledger.sent += control_ids
            await client.send(*(message(control_id) for control_id in control_ids))
            for control_id in control_ids:
                code, answered = await client.code()
                assert answered == control_id
                ledger.note(code, control_id)


async def wait_until_catalogued(data: Path) -> None:
    """Until everything that was stored can be found."""
    behind = "SELECT (SELECT max(sequence) FROM body) - (SELECT sequence FROM progress WHERE name = 'catalogued')"
    with contextlib.closing(sqlite3.connect(data / "hl7-intake.sqlite3")) as database:
        async with asyncio.timeout(WAIT_S):
            while database.execute(behind).fetchone()[0] != 0:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)


def _stored(data: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(data / "hl7-gateway.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in database.execute("SELECT control_id FROM message")]


async def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, connect: Any, message: Any) -> None:
    try:
        with contextlib.closing(claim_port("127.0.0.1", 0)) as claimed:
            port = claimed.getsockname()[1]
    except SuiteError as error:  # pragma: no cover - no port at all
        pytest.fail(str(error))
    ledger = Ledger()
    for kill in range(KILLS):
        process = await _started(tmp_path, port)
        ledger.enough.clear()
        ledger.wanted = len(ledger.acknowledged) + ACKNOWLEDGED_BEFORE_KILL
        clients = [await connect(port) for _ in range(CONNECTIONS)]
        feeds = [
            asyncio.ensure_future(_feed(client, f"k{kill}c{number}", message, ledger))
            for number, client in enumerate(clients)
        ]
        async with asyncio.timeout(WAIT_S):
            await ledger.enough.wait()
        process.kill()
        await process.wait()
        await asyncio.gather(*feeds)
        for client in clients:
            client.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
    assert ledger.refused == []

    process = await _started(tmp_path, port)
    client = await connect(port)
    for control_id in ledger.sent:  # the sender sends again what it is not sure of; here simply everything
        await client.send(message(control_id))
        assert await client.code() == ("AA", control_id)
    client.close()
    await client.writer.wait_closed()
    await wait_until_catalogued(tmp_path)
    process.terminate()
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0
    stored = _stored(tmp_path)
    assert set(ledger.acknowledged) <= set(stored)
    assert sorted(stored) == sorted(ledger.sent)
