"""`kill -9` at random moments under load: nothing acknowledged is missing, nothing is there twice.

python crash_run.py FOLDER [--crashes 300] [--seed 0] [--database URL]

Six senders send, each waits for its acknowledgements, and sends again after a crash what was not acknowledged. FOLDER
holds the gateway's data and the ledger of what was sent and acknowledged; the same command goes on where it was
interrupted. Exit status 1 names what is missing or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sqlite3
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

sys.path.insert(0, str(Path(__file__).parent))

from common.runtime.host import claim_port
from conftest import _message as message_of

PROGRAM: Final = Path(__file__).parent / "gateway_process.py"
SENDERS: Final = 6
WINDOW: Final = 4
START_S: Final = 60.0
CATALOGUE_S: Final = 600.0
LOAD_S_MAX: Final = 0.8
STARTING_S_MAX: Final = 1.5
KILLED_STARTING: Final = 0.15
"""The share of kills that may come while the gateway is still starting."""
LOOK_EVERY: Final = 50
START, END = b"\x0b", b"\x1c\r"


@dataclass(slots=True)
class Ledger:
    """What was sent and acknowledged, in a file that outlives us."""

    path: Path
    sent: dict[str, int] = field(default_factory=dict)
    """Control ids and who sends them."""
    acknowledged: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    crashes: int = 0

    def load(self) -> None:
        """What an interrupted run knew."""
        if not self.path.exists():
            return
        for line in self.path.read_text("ascii").splitlines():
            kind, _, rest = line.partition(" ")
            self._take(kind, rest)

    def note(self, kind: str, text: str) -> None:
        """`sent` (before it is), `acknowledged`, `refused` or `crash`."""
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{kind} {text}\n")
        self._take(kind, text)

    def open(self, sender: int) -> list[str]:
        """What a sender has to send again."""
        return [one for one, by in self.sent.items() if by == sender and one not in self.acknowledged]

    def _take(self, kind: str, text: str) -> None:
        if kind == "sent":
            control_id, _, sender = text.partition(" ")
            self.sent.setdefault(control_id, int(sender))
        elif kind == "acknowledged":
            self.acknowledged.add(text)
        elif kind == "refused":
            self.refused.append(text)
        else:
            self.crashes = int(text)


class Sender:
    """One connection: a few messages, then their acknowledgements, again and again."""

    def __init__(self, number: int, ledger: Ledger, prefix: str) -> None:
        self._number, self._ledger, self._prefix = number, ledger, prefix
        self._again = ledger.open(number)
        self._count = 0

    async def run(self, port: int, *, only_again: bool = False) -> None:
        """Until the gateway is gone, or nothing is left to send again."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while some := self._some(only_again):
                    writer.write(b"".join(START + message_of(one) + END for one in some))
                    for _ in some:
                        self._answered(await reader.readuntil(END))
            finally:
                writer.close()

    def _some(self, only_again: bool) -> list[str]:
        some, self._again = self._again[:WINDOW], self._again[WINDOW:]
        while len(some) < WINDOW and not only_again:
            self._count += 1
            some.append(f"{self._prefix}-{self._number}-{self._count}")
            self._ledger.note("sent", f"{some[-1]} {self._number}")
        return some

    def _answered(self, frame: bytes) -> None:
        code, control_id = frame.partition(b"\rMSA|")[2].split(b"\r", 1)[0].decode("ascii").split("|")[:2]
        self._ledger.note("acknowledged" if code == "AA" else "refused", control_id)


@dataclass(frozen=True, slots=True)
class CrashRun:
    """One run; `database` None is SQLite in the folder."""

    folder: Path
    crashes: int
    seed: int
    database: str | None = None

    async def __call__(self) -> list[str]:
        """What is wrong; nothing, where every promise was kept."""
        ledger = Ledger(self.folder / "ledger.txt")
        ledger.load()
        while ledger.crashes < self.crashes:
            await self._crash(ledger)
            if (
                ledger.crashes % LOOK_EVERY == 0
                and ledger.crashes < self.crashes
                and (wrong := await self._look(ledger))
            ):
                return wrong
        return await self._look(ledger)

    async def _crash(self, ledger: Ledger) -> None:
        number = ledger.crashes + 1
        chance = random.Random(f"{self.seed}-{number}")
        before = len(ledger.acknowledged)
        process, port = await self._spawn()
        if chance.random() < KILLED_STARTING:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), chance.uniform(0, STARTING_S_MAX))
            when = "while it started"
        else:
            await _ready(process)
            senders = [Sender(one, ledger, f"s{self.seed}k{number}") for one in range(SENDERS)]
            running = [asyncio.create_task(sender.run(port)) for sender in senders]
            load_s = chance.uniform(0, LOAD_S_MAX)
            await asyncio.wait(running, timeout=load_s)
            process.kill()
            await asyncio.gather(*running)
            when = f"after {load_s:.2f} s of load"
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        ledger.note("crash", str(number))
        gained = len(ledger.acknowledged) - before
        _say(f"kill {number}/{self.crashes} {when}: {gained} acknowledged, {len(ledger.acknowledged)} in all")

    async def _look(self, ledger: Ledger) -> list[str]:
        """Send again what was not acknowledged, let the gateway end, compare the ledger with the store."""
        process, port = await self._spawn()
        await _ready(process)
        await asyncio.gather(*(Sender(one, ledger, "none").run(port, only_again=True) for one in range(SENDERS)))
        await self._wait_until_catalogued()
        process.terminate()
        ended = await asyncio.wait_for(process.wait(), START_S)
        stored = Counter(await self._stored())
        wrong = [f"{one} was acknowledged and is missing" for one in ledger.acknowledged if one not in stored]
        wrong += [f"{one} is there {count} times" for one, count in stored.items() if count > 1]
        wrong += [f"{one} was sent, and never acknowledged" for one in ledger.sent if one not in ledger.acknowledged]
        wrong += [f"{one} is there and was never sent" for one in stored if one not in ledger.sent]
        wrong += [f"{one} was refused" for one in ledger.refused]
        wrong += [f"the gateway ended with {ended}"] if ended else []
        _say(f"after {ledger.crashes} kills: {sum(stored.values())} stored, {len(wrong)} wrong")
        return wrong

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, int]:
        with contextlib.closing(claim_port("127.0.0.1", 0)) as claimed:
            port = int(claimed.getsockname()[1])
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        environment = {**os.environ, **({"PS_DATABASE_URL": self.database} if self.database else {})}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(data), str(port), stdout=asyncio.subprocess.PIPE, env=environment
        )
        return process, port

    async def _wait_until_catalogued(self) -> None:
        async with asyncio.timeout(CATALOGUE_S):
            while await self._waiting():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    async def _waiting(self) -> int:
        if self.database is None:
            behind = "SELECT (SELECT coalesce(max(sequence), 0) FROM body) - coalesce((SELECT sequence FROM progress"
            return int(self._sqlite("hl7-intake", f"{behind} WHERE name = 'catalogued'), 0)")[0])
        return int((await self._postgres("SELECT count(*) FROM hl7_intake.waiting"))[0])

    async def _stored(self) -> list[str]:
        if self.database is None:
            assert self._sqlite("hl7-gateway", "PRAGMA integrity_check") == ["ok"]
            return [str(one) for one in self._sqlite("hl7-gateway", "SELECT control_id FROM message")]
        return [str(one) for one in await self._postgres("SELECT control_id FROM hl7_gateway.message")]

    def _sqlite(self, name: str, statement: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.folder / "data" / f"{name}.sqlite3")) as connection:
            return [row[0] for row in connection.execute(statement)]

    async def _postgres(self, statement: str) -> list[Any]:
        parts = urlsplit(self.database or "")
        connection = await asyncpg.connect(parts._replace(scheme="postgresql").geturl())
        try:
            return [row[0] for row in await connection.fetch(statement)]
        finally:
            await connection.close()


async def _ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = await process.stdout.readline()
    if line != b"ready\n":
        raise RuntimeError("the gateway did not start after a crash")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crashes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; SQLite in the folder when left out")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    wrong = asyncio.run(CrashRun(asked.folder, asked.crashes, asked.seed, asked.database)())
    for line in wrong[:20]:
        _say(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
