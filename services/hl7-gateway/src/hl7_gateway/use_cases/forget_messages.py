"""Delete the contents of old messages, and later what is known of them.

Contents are large and the reason a practice is careful; what a message was (its header, findings, answers) explains a
record years later and is small. So they have a time each. What was deleted cannot be read or replayed any more
(`message.body-deleted`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

EVERY_S: Final = 600.0
REST_S: Final = 0.01
"""Between two small transactions: those of arriving messages go first."""

_log = logging.getLogger("hl7_gateway.forget")


class Bodies(Protocol):
    """Where contents are kept: `Intake`."""

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        """Delete some of the oldest; how many, 0 when none is left to go: see `Intake`."""


class Headers(Protocol):
    """Where the rest is kept: the catalogue."""

    async def forget(self, kept_s: float) -> int:
        """Delete some of what is known of messages received more than so long ago; how many, 0 when done."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, in seconds, and how much, in bytes (0: no limit)."""

    bodies_kept_s: float
    bodies_bytes_max: int
    headers_kept_s: float


async def forget_messages(bodies: Bodies, headers: Headers, retention: Retention, *, every_s: float = EVERY_S) -> None:
    """Again and again, until cancelled; raises SuiteError when a store does."""
    while True:
        gone = 0
        while deleted := await bodies.forget_bodies(retention.bodies_kept_s, retention.bodies_bytes_max):
            gone += deleted
            await asyncio.sleep(REST_S)
        known = 0
        # Contents without what is known of them could be found by nobody.
        while deleted := await headers.forget(max(retention.headers_kept_s, retention.bodies_kept_s)):
            known += deleted
            await asyncio.sleep(REST_S)
        if gone:
            _log.info("contents of old messages deleted", extra={"count": gone})
        if known:
            _log.info("old messages deleted", extra={"count": known})
        await asyncio.sleep(every_s)
