"""`kill -9` under load, in short; `make crash-test` is the long form."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "crash_run.py"
KILLS = 3
WAIT_S = 300.0

pytestmark = pytest.mark.e2e


async def _ran(folder: Path, *options: str) -> tuple[int | None, str]:
    """Exit status and last line of a run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(folder), *options, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WAIT_S):
        told, _ = await process.communicate()
    return process.returncode, told.decode().splitlines()[-1]


async def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    status, told = await _ran(tmp_path, "--crashes", str(KILLS), "--seed", "1")
    assert (status, told.endswith(" stored, 0 wrong")) == (0, True), told
    lines = (tmp_path / "ledger.txt").read_text("ascii").splitlines()
    assert [line for line in lines if line.startswith("crash")] == [f"crash {kill + 1}" for kill in range(KILLS)]
    assert any(line.startswith("acknowledged") for line in lines)


@pytest.mark.postgres
async def test_nor_with_the_messages_in_postgresql(tmp_path: Path, postgres_database: str) -> None:
    status, told = await _ran(tmp_path, "--crashes", str(KILLS), "--seed", "2", "--database", postgres_database)
    assert (status, told.endswith(" stored, 0 wrong")) == (0, True), told


async def test_a_ledger_that_the_store_does_not_keep_is_told(tmp_path: Path) -> None:
    """The proof itself can fail: a message that was never sent is said to be acknowledged."""
    (tmp_path / "ledger.txt").write_text("sent lost-1 0\nacknowledged lost-1\n", "ascii")
    assert await _ran(tmp_path, "--crashes", "0") == (1, "WRONG: lost-1 was acknowledged and is missing")
