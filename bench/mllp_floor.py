"""What the gateway is measured against: `python -m bench.mllp_floor bare|python-hl7 <port> <folder>`.

`bare` is the least that keeps a promise: it splits the bytes at the end block, stores all that wait in one synced
transaction of SQLite, and acknowledges; it parses, checks, seals and recognises nothing. `python-hl7` is that library's
asyncio server: it parses, acknowledges and stores nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import uvloop

END = b"\x1c\r"


async def bare(port: int, folder: Path) -> None:
    """Group commit and acknowledge."""
    connection = sqlite3.connect(folder / "bare.sqlite3", check_same_thread=False, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE message (body BLOB)"):
        connection.execute(statement)
    waiting: list[tuple[asyncio.Transport, bytes]] = []
    wake = asyncio.Event()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.data = cast("asyncio.Transport", transport), b""

        def data_received(self, data: bytes) -> None:
            self.data += data
            while (end := self.data.find(END)) >= 0:
                waiting.append((self.transport, self.data[1:end]))
                self.data = self.data[end + 2 :]
                wake.set()

    def commit(rows: list[tuple[bytes]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO message VALUES (?)", rows)
        connection.execute("COMMIT")

    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    await loop.create_server(Receiver, "127.0.0.1", port)
    print("ready", flush=True)
    while True:
        await wake.wait()
        wake.clear()
        while waiting:
            batch = waiting[:]
            waiting.clear()
            await loop.run_in_executor(thread, commit, [(body,) for _, body in batch])
            for transport, body in batch:
                control_id = body.split(b"\r", 1)[0].split(b"|")[9]
                transport.write(b"\x0bMSH|^~\\&|||||20260301||ACK|1|P|2.5.1\rMSA|AA|" + control_id + b"\r\x1c\r")


async def python_hl7(port: int, _: Path) -> None:
    """That library's server."""
    from hl7.mllp import start_hl7_server

    async def talk(reader: Any, writer: Any) -> None:
        while not writer.is_closing():
            try:
                message = await reader.readmessage()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            writer.writemessage(message.create_ack())
            await writer.drain()

    async with await start_hl7_server(talk, host="127.0.0.1", port=port) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run({"bare": bare, "python-hl7": python_hl7}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3])))
