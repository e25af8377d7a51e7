"""How long to wait before the next try."""

from __future__ import annotations

from typing import Final

_DOUBLINGS_MAX: Final = 30


def pause_s(tries: int, chance: float, *, first_ms: int, max_ms: int) -> float:
    """The pause after so many failed tries in a row, in seconds: doubled each time up to the most, then jittered.

    `chance` in [0, 1) takes away up to half of it, so that senders that failed together do not come back together.
    """
    doublings = min(max(0, tries - 1), _DOUBLINGS_MAX)
    whole_ms = min(max_ms, first_ms << doublings)
    return whole_ms * (1 - chance / 2) / 1000
