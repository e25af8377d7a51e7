"""Failed authentications, counted per address and per claimed subject: too many, and tokens are not even looked at.

A token that was verified a while ago goes on being verified, so that who guesses can not lock out those who work, from
behind the same proxy or in the same name. Memory is bounded: the key that was used longest ago is forgotten first.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from common.models.clock import Clock
from common.models.errors import SuiteError

WINDOW_S: Final = 60.0
_KEYS_MAX: Final = 10_000
_GOOD_TOKENS_MAX: Final = 10_000
_log = logging.getLogger("common.authentication")


class FailedAttempts:
    """At most `attempts_max` failures per key and minute."""

    def __init__(self, clock: Clock, attempts_max: int) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts) + len(self._good)

    def check(self, keys: Iterable[str], token: str) -> None:
        """Raises SuiteError `auth.throttled` with Retry-After while one of the keys has failed too often."""
        if _digest(token) in self._good:
            return
        now = self._clock.monotonic()
        waits = [begun + WINDOW_S - now for count, begun in map(self._count, keys) if count >= self._attempts_max]
        if waits:
            raise SuiteError("auth.throttled", headers={"Retry-After": str(max(1, math.ceil(max(waits))))})

    def failed(self, keys: Iterable[str], token: str) -> None:
        """Count a failure."""
        self._good.pop(_digest(token), None)
        for key in keys:
            count, begun = self._count(key)
            self._counts[key] = (count + 1, begun)
            self._counts.move_to_end(key)
            if count + 1 == self._attempts_max:
                _log.warning("authentication is throttled", extra={"code": "auth.throttled", "count": count + 1})
        while len(self._counts) > _KEYS_MAX:
            self._counts.popitem(last=False)

    def succeeded(self, token: str) -> None:
        """Remember a token that was verified."""
        self._good[_digest(token)] = None
        self._good.move_to_end(_digest(token))
        while len(self._good) > _GOOD_TOKENS_MAX:
            self._good.popitem(last=False)

    def _count(self, key: str) -> tuple[int, float]:
        now = self._clock.monotonic()
        count, begun = self._counts.get(key, (0, now))
        return (count, begun) if now - begun < WINDOW_S else (0, now)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
