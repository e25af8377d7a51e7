"""The simulated MLLP receiver's sockets: `core.hostile_receiver` says what is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from simulator.core.hostile_receiver import Active, Inbox, Reading, Reply, reply_to

READ_BYTES_MAX: Final = 64 * 1024
CONNECTIONS_MAX: Final = 1_000
LOOK_S: Final = 0.05
"""How soon a connection notices that a fault was switched on or off."""


class MllpReceiver:
    """One listening port; `faults()` are the receiver's faults that are on."""

    def __init__(
        self, host: str, port: int | None, clock: Clock, faults: Callable[[], Active], inbox: Inbox | None = None
    ) -> None:
        self._host = host
        self._asked = port
        self._clock = clock
        self._faults = faults
        self.inbox = inbox or Inbox()
        self.port: int | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, if a port was set; raises SuiteError `start.port-in-use`."""
        if self._asked is None:
            return
        try:
            self._server = await asyncio.start_server(self._visited, self._host, self._asked)
        except OSError as error:
            place = f"{self._host}:{self._asked} (PS_SIMULATOR_RECEIVER_PORT): {error.strerror}"
            raise SuiteError("start.port-in-use", place) from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self.port = None

    def state(self) -> dict[str, Any]:
        """For the API."""
        return {
            "state": "listening" if self.port is not None else "off",
            "host": self._host,
            "port": self.port,
            "connections_open": len(self._open),
            "counters": {
                name: self.inbox.counters[name] for name in ("connections", "connections_reset", "messages", "repeated")
            },
        }

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.inbox.counters["connections"] += 1
        alone = "hl7-one-connection" in self._faults() and self._open
        if alone or len(self._open) >= CONNECTIONS_MAX:
            self.inbox.counters["connections_reset"] += 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            # A cancelled handler would be told to the event loop as an error; `stop` means no more than an end.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = Reading()
        while True:
            while "hl7-receiver-half-open" in self._faults():  # noqa: ASYNC110 - a fault may end by the clock alone
                await asyncio.sleep(LOOK_S)
            data = await reader.read(READ_BYTES_MAX)
            if not data:
                return
            for body in reading.receive_data(data):
                reply = reply_to(body, self._faults(), self.inbox, self._clock.now())
                if reply is not None and not await self._answer(writer, reply):
                    return

    async def _answer(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        """Whether the connection goes on."""
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if writer.transport.is_closing():
            return False
        writer.write(reply.data)
        await writer.drain()
        if reply.close:
            writer.close()
            await writer.wait_closed()
        return not reply.close
