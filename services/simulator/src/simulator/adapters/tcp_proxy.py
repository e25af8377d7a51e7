"""A TCP proxy with a bad network in it: `core.toxics` says what becomes of the bytes, here are the sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Final

from common.models.errors import SuiteError
from simulator.core.toxics import Certificate, Chance, Direction, End, Listening, Step, Stream, Toxic
from simulator.ports import Target

READ_BYTES_MAX: Final = 64 * 1024
CONNECTIONS_MAX: Final = 200
CONNECT_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 100
# With an empty backlog Linux holds one connection that nobody takes; what comes then is dropped without a word.
_FILLERS: Final = 2


class TcpProxy:
    """One listening port before one upstream; `toxics()` are those that a new connection meets."""

    def __init__(
        self,
        host: str,
        port: int,
        target: Target,
        toxics: Callable[[], Sequence[Toxic]],
        chance: Chance,
        context: Callable[[Certificate], ssl.SSLContext],
    ) -> None:
        self.host = host
        self.port = port
        self._target = target
        self._toxics = toxics
        self._chance = chance
        self._context = context
        self.certificate: Certificate | None = None
        self.state = Listening.CLOSED
        self.connections = 0
        self._open: set[asyncio.Task[None]] = set()
        self._held: list[socket.socket] = []
        self._server: asyncio.Server | None = None

    async def set(self, state: Listening, certificate: Certificate | None) -> None:
        """Change what the port does; connections that stand end. Raises OSError when the port is somebody else's."""
        await self._leave()
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setblocking(False)
        try:
            own.bind((self.host, self.port))
        except OSError:
            own.close()
            raise
        self.port = int(own.getsockname()[1])
        self.state, self.certificate = state, certificate
        if state is Listening.OPEN:
            tls = self._context(certificate) if certificate is not None else None
            self._server = await asyncio.start_server(self._visited, sock=own, backlog=_BACKLOG, ssl=tls)
            return
        # Bound and not listening, the port is kept and every connection is refused.
        self._held = [own]
        if state is Listening.DROPPING:
            own.listen(0)
            for _ in range(_FILLERS):
                filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                filler.setblocking(False)
                filler.connect_ex((self.host, self.port))
                self._held.append(filler)

    async def stop(self) -> None:
        """Close everything."""
        await self._leave()
        self.state = Listening.CLOSED

    def cut(self) -> None:
        """End the connections that stand: toxics are met by new ones."""
        for task in list(self._open):
            task.cancel()

    async def _leave(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._open, return_exceptions=True)
        for one in self._held:
            one.close()
        self._held = []

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._open.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            # A cancelled handler would be told to the event loop as an error; `stop` means no more than an end.
            with contextlib.suppress(OSError, SuiteError, asyncio.CancelledError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    back, upstream = await asyncio.open_connection(*await self._target())
                await self._carry(reader, writer, back, upstream)
        finally:
            self._open.discard(task)
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        toxics = tuple(self._toxics())
        up = Stream(toxics, Direction.UPSTREAM, self._chance)
        down = Stream(toxics, Direction.DOWNSTREAM, self._chance)
        ways = (
            asyncio.create_task(self._way(reader, upstream, up, writer), name="simulator.proxy-up"),
            asyncio.create_task(self._way(back, writer, down, writer), name="simulator.proxy-down"),
        )
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _way(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, stream: Stream, client: asyncio.StreamWriter
    ) -> None:
        """Carry one direction until its end; an end by a toxic ends the connection."""
        while data := await source.read(READ_BYTES_MAX):
            for step in stream.receive(data):
                await _play(step, sink, client)
        for step in stream.closed():
            await _wait(step)
            if step.end is End.HOLD:
                await asyncio.Event().wait()
            if sink.can_write_eof():
                sink.write_eof()
            else:
                # TLS has no half-closed connection: with one side gone, all of it ends.
                raise ConnectionAbortedError


async def _wait(step: Step) -> None:
    if step.delay_s > 0:
        await asyncio.sleep(step.delay_s)


async def _play(step: Step, sink: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
    await _wait(step)
    if step.data:
        sink.write(step.data)
        await sink.drain()
    if step.end is End.HOLD:
        await asyncio.Event().wait()
    if step.end is End.RESET:
        # Linger for no time: the kernel sends RST instead of FIN.
        raw = client.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if step.end is not None:
        raise ConnectionAbortedError
