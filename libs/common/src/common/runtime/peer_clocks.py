"""Whose clock is wrong: ours, when several peers disagree with us alike; the peer's, when the others agree with us.

Every answer's `Date` against our clock is kept per endpoint, the last one each, for an hour. With fewer than two
others it is asked whether the kernel holds our clock for synchronised; when not that either, it cannot be told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

PEERS_MAX: Final = 500
KEPT_S: Final = 3600.0
OTHERS_MIN: Final = 2


class WrongClock(StrEnum):
    """Whose clock is to blame for an offset."""

    NOBODY = "nobody"
    OURS = "ours"
    PEER = "peer"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClockVerdict:
    """Whose clock, and how many other peers say so; `others_median_ms`: their clocks minus ours."""

    wrong: WrongClock
    others: int
    others_median_ms: int | None


def judge_clock(
    offset_ms: int, others_ms: Sequence[int], *, limit_ms: int, synchronised: bool | None = None
) -> ClockVerdict:
    """A peer's offset (its clock minus ours) beside those of other peers, all of the last hour.

    `synchronised`: whether a time source holds our clock; it decides only where there are too few peers.
    """
    middle = round(median(others_ms)) if others_ms else None
    if abs(offset_ms) <= limit_ms:
        return ClockVerdict(WrongClock.NOBODY, len(others_ms), middle)
    if middle is None or len(others_ms) < OTHERS_MIN:
        alone = WrongClock.PEER if synchronised else WrongClock.UNKNOWN
        return ClockVerdict(alone, len(others_ms), middle)
    if abs(middle) <= limit_ms:
        wrong = WrongClock.PEER
    else:
        wrong = WrongClock.OURS if abs(middle - offset_ms) <= limit_ms else WrongClock.UNKNOWN
    return ClockVerdict(wrong, len(others_ms), middle)


class PeerClocks:
    """The last offset of each endpoint (scheme, host, port), at most `PEERS_MAX`."""

    def __init__(self) -> None:
        self._offsets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, endpoint: str, offset_ms: int, at_s: float) -> None:
        """An answer's offset, at a monotonic time."""
        self._offsets[endpoint] = (at_s, offset_ms)
        self._offsets.move_to_end(endpoint)
        if len(self._offsets) > PEERS_MAX:
            self._offsets.popitem(last=False)

    def others(self, endpoint: str, now_s: float) -> list[int]:
        """The offsets of all other endpoints that answered within the hour."""
        return [offset for name, (at_s, offset) in self._offsets.items() if name != endpoint and now_s - at_s <= KEPT_S]
