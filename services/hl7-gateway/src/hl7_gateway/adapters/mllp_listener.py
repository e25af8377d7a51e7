"""The MLLP listener: sockets around `core.connection`, nothing else.

Answers leave in the order their frames came. A connection that owes too many answers, or a store that holds too much,
stops the reading; nothing is ever dropped. A peer that goes away while its message is being stored is forgotten
without a word to the others of that commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, cast

from common.models.clock import Clock
from common.models.errors import SuiteError
from hl7_gateway.adapters.keep_alive import NOBODY_THERE, keep_alive
from hl7_gateway.adapters.tls_material import certificate_of, server_context
from hl7_gateway.adapters.tls_server import TlsServer
from hl7_gateway.core.allowed_peers import Admission, Certificate, admission
from hl7_gateway.core.connection import Connection, Cut, Event, Limits, Outside, Received, State, TooLarge
from hl7_gateway.core.connection_configuration import AllowedPeer, TlsMaterial
from hl7_gateway.core.connection_configuration import Connection as Configured
from hl7_gateway.core.reception import Peer
from hl7v2 import mllp

BACKLOG: Final = 512
HANDSHAKE_TIMEOUT_S: Final = 10.0
SWEEP_S_MAX: Final = 1.0
_SWEEPS_PER_TIMEOUT: Final = 4

_log = logging.getLogger("hl7_gateway.listener")


class Receiver(Protocol):
    """Who takes the frames."""

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""

    def receive(self, body: bytes, peer: Peer, write: Callable[[bytes], None]) -> None:
        """One frame."""

    def too_large(self, size_bytes: int, write: Callable[[bytes], None]) -> None:
        """A frame over the cap."""


@dataclass(slots=True)
class Counters:
    """What happened on a listener since it started."""

    connections: int = 0
    connections_refused: int = 0
    connections_not_allowed: int = 0
    connections_tls_refused: int = 0
    connections_reset: int = 0
    connections_keep_alive_failed: int = 0
    connections_idle: int = 0
    connections_slow: int = 0
    frames: int = 0
    frames_too_large: int = 0
    frames_cut: int = 0
    bytes_received: int = 0
    bytes_outside_frames: int = 0
    answers_without_peer: int = 0
    reading_paused: int = 0


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What the listener admits; each connection has its own limits."""

    connections_max: int
    connection_waiting_messages_max: int
    connection: Limits
    connections_per_peer_max: int = 100_000
    keep_alive: bool = True
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in: TLS, and the rows of allowed peers (none: everybody)."""

    tls: ssl.SSLContext | None = None
    allowed_peers: Sequence[AllowedPeer] = ()


OPEN_DOOR: Final = Door()


class MllpListener:
    """One listening port."""

    def __init__(
        self,
        host: str,
        port: int,
        receiver: Receiver,
        clock: Clock,
        limits: ListenerLimits,
        *,
        door: Door = OPEN_DOOR,
        name: str = "PS_HL7_LISTEN_PORT",
    ) -> None:
        self.door = door
        self.name = name
        self.by_address: Counter[str] = Counter()
        self.host = host
        self.port = port
        self.counters = Counters()
        self.limits = limits
        self.receiver = receiver
        self.clock = clock
        self.open: set[_Protocol] = set()
        self.paused: set[_Protocol] = set()
        self.tls_refusals: Counter[str] = Counter()
        """Why handshakes failed: names of `tls_server`."""
        self._server: asyncio.Server | TlsServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()

    async def start(self) -> None:
        """Listen; raises SuiteError `start.port-in-use` naming address and port."""
        try:
            self._server = await (self._serve() if self.door.tls is None else self._serve_tls(self.door.tls))
        except OSError as error:
            place = f"{self.host}:{self.port} ({self.name}): {error.strerror or 'cannot be listened on'}"
            raise SuiteError("start.port-in-use", place) from error
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._sweeper = asyncio.create_task(self._sweep(), name="mllp-sweeper")
        _log.info("listening for HL7", extra={"port": self.port})

    async def _serve(self) -> asyncio.Server:
        # No SO_REUSEPORT: two listeners on one port would share its peers by chance.
        return await asyncio.get_running_loop().create_server(
            lambda: _Protocol(self), self.host, self.port, backlog=BACKLOG, reuse_address=True
        )

    async def _serve_tls(self, context: ssl.SSLContext) -> TlsServer:
        server = TlsServer(
            context,
            self.limits.handshake_timeout_s,
            protocol=lambda: _Protocol(self),
            admit=self._room,
            refused=self._tls_refused,
        )
        await server.start(self.host, self.port, BACKLOG)
        return server

    async def stop(self, timeout_s: float) -> None:
        """Accept no more, read the frames in hand to their end, answer what is owed, close."""
        if self._server is None:
            return
        self._server.close()
        for protocol in list(self.open):
            protocol.stop()
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
        for protocol in list(self.open):
            protocol.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self._server = None

    @property
    def listening(self) -> bool:
        """Whether peers can connect."""
        return self._server is not None and self._server.is_serving()

    def state(self) -> Mapping[str, Any]:
        """For the API."""
        return {
            "host": self.host,
            "port": self.port,
            "state": "listening" if self.listening else "stopped",
            "connections_open": len(self.open),
            "counters": asdict(self.counters),
            "tls_refusals": dict(self.tls_refusals),
        }

    def opened(self, protocol: _Protocol, address: str, certificate: Certificate | None) -> Admission | None:
        """Let it in, or say why not."""
        if not self._room(address, Counter()):
            return None
        admitted = admission(self.door.allowed_peers, address, certificate)
        if admitted is None:
            self.counters.connections_not_allowed += 1
            _log.warning("connection refused: not an allowed peer", extra={"port": self.port})
            return None
        self.counters.connections += 1
        self.open.add(protocol)
        self.by_address[address] += 1
        self._emptied.clear()
        return admitted

    def _room(self, address: str, handshakes: Counter[str]) -> bool:
        """Handshakes take places too; without room a connection ends, before its own costs anything."""
        if len(self.open) + handshakes.total() >= self.limits.connections_max:
            return self._refused("connections_max", self.limits.connections_max)
        if self.by_address[address] + handshakes[address] >= self.limits.connections_per_peer_max:
            return self._refused("connections_per_peer_max", self.limits.connections_per_peer_max)
        return True

    def _refused(self, setting: str, limit: int) -> bool:
        self.counters.connections_refused += 1
        _log.warning("connection refused: too many", extra={"setting": setting, "limit": limit, "port": self.port})
        return False

    def _tls_refused(self, why: str) -> None:
        self.counters.connections_tls_refused += 1
        self.tls_refusals[why] += 1
        _log.warning("connection refused: no TLS", extra={"outcome": why, "port": self.port})

    def closed(self, protocol: _Protocol, address: str) -> None:
        """It is gone."""
        if protocol in self.open:
            self.by_address[address] -= 1
            if not self.by_address[address]:
                del self.by_address[address]
        self.open.discard(protocol)
        self.paused.discard(protocol)
        if not self.open:
            self._emptied.set()

    def room(self) -> None:
        """Something was answered: who waits to read may go on."""
        if self.paused and not self.receiver.full:
            for protocol in list(self.paused):
                protocol.resume()

    async def _sweep(self) -> None:
        """Look at every connection's deadlines; a timer each would be set anew with every message."""
        limits = self.limits.connection
        every_s = min(SWEEP_S_MAX, min(limits.frame_timeout_s, limits.idle_timeout_s) / _SWEEPS_PER_TIMEOUT)
        while True:
            await asyncio.sleep(every_s)
            now = self.clock.monotonic()
            for protocol in list(self.open):
                protocol.check_time(now)


class _Protocol(asyncio.Protocol):
    """One socket."""

    __slots__ = ("_address", "_answers", "_connection", "_junk_told", "_listener", "_peer", "_transport", "_writable")

    def __init__(self, listener: MllpListener) -> None:
        self._listener = listener
        self._connection = Connection(listener.limits.connection, listener.clock.monotonic())
        self._transport: asyncio.Transport | None = None
        self._answers: deque[_Slot] = deque()
        self._address = ""
        self._peer = Peer("")
        self._junk_told = False
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        named = self._transport.get_extra_info("peername") or ("", 0)
        self._address = str(named[0])
        admitted = self._listener.opened(self, self._address, _certificate(self._transport))
        if admitted is None:
            self._connection.lost()
            self._transport.abort()
            return
        endpoint = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            # An acknowledgement is small and waited for (Nagle's algorithm would hold it back).
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A peer that lost its power says nothing; the system then finds out before the idle time is over.
            keep_alive(endpoint, self._listener.limits.keep_alive)
        shown = f"[{named[0]}]" if ":" in self._address else self._address
        self._peer = Peer(f"{shown}:{named[1]}", admitted)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        listener.counters.bytes_received += len(data)
        for received in self._connection.receive_data(data, listener.clock.monotonic()):
            self._take(received)
        self._after()

    def eof_received(self) -> bool:
        for received in self._connection.receive_eof():
            self._take(received)
        self._after()
        return True  # the transport stays open for writing until every answer is out

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost()
        self._transport = None
        if isinstance(exc, OSError) and exc.errno in NOBODY_THERE:
            self._listener.counters.connections_keep_alive_failed += 1
        elif exc is not None:
            self._listener.counters.connections_reset += 1
        self._listener.closed(self, self._address)

    def pause_writing(self) -> None:
        self._writable = False
        self._pause()

    def resume_writing(self) -> None:
        self._writable = True
        self.resume()

    def stop(self) -> None:
        """Finish the frame in hand and end."""
        self._connection.stop()
        self.resume()
        self._after()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read on, if nothing stands in the way any more."""
        if self not in self._listener.paused or self._blocked() or self._transport is None:
            return
        self._listener.paused.discard(self)
        self._connection.check_time(self._listener.clock.monotonic(), paused=True)
        self._transport.resume_reading()

    def check_time(self, now: float) -> None:
        """End a connection that is too slow or too idle."""
        overdue = self._connection.check_time(now, paused=self in self._listener.paused)
        if overdue is None:
            return
        slow = overdue is Event.TOO_SLOW
        if slow:
            self._listener.counters.connections_slow += 1
            self._listener.counters.frames_cut += 1
        else:
            self._listener.counters.connections_idle += 1
        _log.warning("connection ended: frame too slow" if slow else "connection ended: idle")
        self._after()

    def _take(self, received: Received) -> None:
        counters = self._listener.counters
        if isinstance(received, mllp.Frame):
            counters.frames += 1
            self._listener.receiver.receive(received.body, self._peer, self._slot())
        elif isinstance(received, TooLarge):
            counters.frames_too_large += 1
            self._listener.receiver.too_large(received.size_bytes, self._slot())
        elif isinstance(received, Outside):
            if not self._junk_told:
                self._junk_told = True  # once per connection: a port scan is no reason to fill the log
                _log.warning("bytes outside frames", extra={"bytes": received.size_bytes})
            counters.bytes_outside_frames += received.size_bytes
        elif isinstance(received, Cut):
            counters.frames_cut += 1
            _log.warning("frame without its end")

    def _slot(self) -> Callable[[bytes], None]:
        slot = _Slot(self)
        self._answers.append(slot)
        return slot

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        answers, ready = self._answers, []
        while answers and answers[0].frames is not None:
            ready.append(answers.popleft().frames or b"")
            if self._connection.state is not State.CLOSED:
                self._connection.answered()
        if self._transport is None or self._transport.is_closing():
            self._listener.counters.answers_without_peer += len(ready)
        elif ready:
            self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
            self._after()
        self._listener.room()

    def _after(self) -> None:
        """Close, stop reading or go on, as the connection now stands."""
        if self._transport is None:
            return
        if self._connection.state is State.CLOSED:
            self._transport.close()  # what was written is still sent
        elif self._blocked():
            self._pause()
        elif self in self._listener.paused:
            self.resume()

    def _blocked(self) -> bool:
        full = len(self._answers) >= self._listener.limits.connection_waiting_messages_max
        return full or not self._writable or self._listener.receiver.full

    def _pause(self) -> None:
        if self._transport is None or self in self._listener.paused or self._transport.is_closing():
            return
        self._listener.counters.reading_paused += 1
        self._listener.paused.add(self)
        self._transport.pause_reading()


def _certificate(transport: asyncio.Transport) -> Certificate | None:
    tls = transport.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True) if tls is not None else None
    return certificate_of(shown) if shown else None


class _Slot:
    """The place of one answer in its connection's order; called once, with the frames to write."""

    __slots__ = ("_protocol", "frames")

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.frames: bytes | None = None

    def __call__(self, frames: bytes) -> None:
        self.frames = frames
        self._protocol.flush()


def configured_listener(
    connection: Configured, material: TlsMaterial, receiver: Receiver, clock: Clock, general: ListenerLimits
) -> MllpListener:
    """The listener of a connection; `general` are the gateway's own limits, where the connection has none."""
    document, listening = connection.configuration, connection.listening
    tls = server_context(material, mutual=document.tls.mode == "mutual") if document.tls.mode != "off" else None
    limits = ListenerLimits(
        connections_max=listening.connections_max,
        connection_waiting_messages_max=general.connection_waiting_messages_max,
        connection=Limits(
            frame_bytes_max=document.frame_bytes_max,
            frame_timeout_s=listening.frame_timeout_s,
            idle_timeout_s=document.idle_timeout_s,
        ),
        connections_per_peer_max=listening.connections_per_peer_max,
        keep_alive=document.keep_alive,
    )
    door = Door(tls, tuple(listening.allowed_peers))
    return MllpListener(document.host, document.port, receiver, clock, limits, door=door, name=document.name)
