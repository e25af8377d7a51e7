"""Forget what recognises messages that are older than the window in which a repetition is looked for."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

EVERY_S: Final = 600.0

_log = logging.getLogger("hl7_gateway.forget")


class SeenMessages(Protocol):
    """Where it is kept."""

    async def forget_seen(self, window_s: float) -> int:
        """Delete what is older; returns how many."""


async def forget_seen(store: SeenMessages, window_s: float, *, every_s: float = EVERY_S) -> None:
    """Again and again, until cancelled; raises SuiteError when the store does."""
    while True:
        forgotten = await store.forget_seen(window_s)
        _log.debug("old messages forgotten", extra={"count": forgotten})
        await asyncio.sleep(every_s)
