"""The machine's clock and random source: the only place that reads them."""

from __future__ import annotations

import random
import secrets
import time
from datetime import UTC, datetime

from common.models.identifiers import RANDOM_BYTES, time_part, type_id_of
from common.runtime.random_bytes import random_bytes


class SystemClock:
    """`Clock` of the operating system."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """`Ids` from the operating system's random source."""

    def __init__(self) -> None:
        self._time = (0, "")

    def new(self, prefix: str) -> str:
        now_ms = time.time_ns() // 1_000_000
        made_ms, text = self._time
        if made_ms != now_ms:
            text = time_part(now_ms)
            self._time = (now_ms, text)  # one assignment: threads share this object
        return type_id_of(prefix, text, random_bytes(RANDOM_BYTES))

    def token(self, size_bytes: int = 32) -> str:
        return secrets.token_urlsafe(size_bytes)

    def fraction(self) -> float:
        return random.random()  # noqa: S311 - jitter, not a secret
