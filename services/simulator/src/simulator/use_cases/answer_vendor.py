"""A call reaches the simulated vendor: the faults that are on, then its own answer, with the vendor's clock in Date."""

from __future__ import annotations

import email.utils
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from simulator.core.answer import Answer
from simulator.core.faults import Effect, Faults, Surface
from simulator.ports import Pause

Handle = Callable[[datetime, Effect], Awaitable[Answer]]
"""(vendor's clock, effect of the faults) → the vendor's own answer."""


async def answer_vendor(
    faults: Faults, surface: Surface, handle: Handle, *, now: Callable[[], datetime], pause: Pause
) -> Answer:
    """The answer as it leaves: late, refused or with a wrong clock when such a fault is on."""
    effect = faults.effect(surface, now())
    if effect.delay_ms:
        await pause(effect.delay_ms / 1000)
    offset = timedelta(seconds=effect.clock_offset_s)
    answer = effect.answer or await handle(now() + offset, effect)
    date = email.utils.format_datetime(now() + offset, usegmt=True)
    return replace(answer, headers={**answer.headers, "Date": date})
