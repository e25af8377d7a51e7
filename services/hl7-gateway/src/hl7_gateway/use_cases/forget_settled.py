"""Delete what was sent long ago."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

EVERY_S: Final = 600.0

_log = logging.getLogger("hl7_gateway.forget")


class SettledMessages(Protocol):
    """Where it is kept."""

    async def forget_settled(self, kept_s: float) -> int:
        """Delete what is older; returns how many."""


async def forget_settled(store: SettledMessages, kept_s: float, *, every_s: float = EVERY_S) -> None:
    """Again and again, until cancelled; raises SuiteError when the store does."""
    while True:
        forgotten = await store.forget_settled(kept_s)
        _log.debug("sent messages forgotten", extra={"count": forgotten})
        await asyncio.sleep(every_s)
