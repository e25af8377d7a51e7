"""What the use cases of the simulator need from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from simulator.core.clients import Client

Pause = Callable[[float], Awaitable[object]]
"""Waits for so many seconds."""


class KeySets(Protocol):
    """The public keys of registered clients."""

    async def keys(self, client: Client, *, fresh: bool) -> Mapping[str, Any] | None:
        """The client's JWKS document; `fresh` goes past the cache. None when it cannot be had."""


class MessageSender(Protocol):
    """Sends one HL7 message over MLLP."""

    async def send(self, host: str, port: int, message: bytes, *, timeout_s: float) -> bytes:
        """The body of the answering frame.

        Raises SuiteError `peer.dns`, `peer.address-refused`, `peer.connect`, `peer.timeout`, `peer.unreadable`.
        """
