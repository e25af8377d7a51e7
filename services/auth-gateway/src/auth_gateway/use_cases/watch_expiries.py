"""Announce the ends of secrets, now and then, on one replica."""

from __future__ import annotations

import asyncio

from auth_gateway.use_cases.announce_expiry import Expiries, announce_expiry
from common.models.clock import Clock


async def watch_expiries(expiries: Expiries, clock: Clock, every_s: float) -> None:
    """Runs until cancelled."""
    while True:
        await announce_expiry(expiries, clock)
        await asyncio.sleep(every_s)
