"""What to do after a failed request to a PMS: wait and try again, or give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE_LIMITED: Final = "peer.rate-limited"
BACKOFF_S: Final = (0.25, 1.0)
"""Pauses before the second and third attempt."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often one request was tried, and how long was waited because the PMS said so (s)."""

    made: int = 0
    waited_s: float = 0.0


def pause_before_retry(
    code: str, *, transient: bool, retry_after_s: float | None, attempts: Attempts, wait_s_max: float, jitter: float
) -> float | None:
    """Seconds to wait before the next attempt, None to give up. `jitter` in [0, 1) spreads replicas.

    A rate limit is waited out as long as the PMS asks, within `wait_s_max` for one request in all: what is longer is
    left to the next run. Everything else transient has len(BACKOFF_S) more attempts.
    """
    if not transient:
        return None
    index = min(attempts.made, len(BACKOFF_S)) - 1
    pause_s = retry_after_s if retry_after_s is not None else BACKOFF_S[index] * (0.5 + jitter)
    if attempts.waited_s + pause_s > wait_s_max:
        return None
    if code == RATE_LIMITED and retry_after_s:
        return pause_s
    return pause_s if attempts.made <= len(BACKOFF_S) else None
