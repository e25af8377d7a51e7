"""What the use cases of the simulator need from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from simulator.core.clients import Client
from simulator.core.hostile_sender import Step
from simulator.core.toxics import Certificate, Listening, Toxic

Pause = Callable[[float], Awaitable[object]]
"""Waits for so many seconds."""


class KeySets(Protocol):
    """The public keys of registered clients."""

    async def keys(self, client: Client, *, fresh: bool) -> Mapping[str, Any] | None:
        """The client's JWKS document; `fresh` goes past the cache. None when it cannot be had."""


class Link(Protocol):
    """A connection over which messages are sent, one after the other."""

    async def play(self, steps: Sequence[Step], *, timeout_s: float) -> bytes:
        """Do the steps; the body of the last frame that was waited for.

        Raises SuiteError `peer.connect`, `peer.timeout`, `peer.unreadable`; the connection is of no more use then.
        """

    async def close(self) -> None:
        """Close it."""


class MessageSender(Protocol):
    """Sends HL7 messages over MLLP."""

    async def send(
        self, host: str, port: int, message: bytes, *, timeout_s: float, steps: Sequence[Step] | None = None
    ) -> bytes:
        """The body of the answering frame; `steps` say how it is sent, if not as it should be.

        Raises SuiteError `peer.dns`, `peer.address-refused`, `peer.connect`, `peer.timeout`, `peer.unreadable`.
        """

    async def open(self, host: str, port: int, *, timeout_s: float) -> Link:
        """A connection for several messages.

        Raises SuiteError `peer.dns`, `peer.address-refused`, `peer.connect`, `peer.timeout`.
        """


class FileDrop(Protocol):
    """Where files are dropped for somebody else to fetch."""

    async def put(self, name: str, body: bytes) -> None:
        """Write a file whole under its name, in the place of one that has it; raises OSError."""


Target = Callable[[], Awaitable[tuple[str, int]]]
"""Where a proxy connects to: a checked address and a port; raises SuiteError."""


class ProxyPort(Protocol):
    """A listening port of a proxy."""

    host: str
    port: int
    state: Listening
    certificate: Certificate | None
    connections: int

    async def set(self, state: Listening, certificate: Certificate | None) -> None:
        """Change what the port does, with TLS where a certificate is named; connections that stand end.

        Raises OSError when the port is somebody else's.
        """

    def cut(self) -> None:
        """End the connections that stand."""

    async def stop(self) -> None:
        """Close everything."""


ProxyPorts = Callable[[int, Target, Callable[[], Sequence[Toxic]]], ProxyPort]
"""(port or 0, where to connect, toxics of a new connection) → a port that does nothing yet."""
