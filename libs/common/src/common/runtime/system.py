"""The machine's clock and random source: the only place that reads them."""

from __future__ import annotations

import random
import secrets
import time
from datetime import UTC, datetime

from common.models.identifiers import type_id, uuid7
from common.runtime.random_bytes import random_bytes


class SystemClock:
    """`Clock` of the operating system."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """`Ids` from the operating system's random source."""

    def new(self, prefix: str) -> str:
        return type_id(prefix, uuid7(time.time_ns() // 1_000_000, int.from_bytes(random_bytes(10), "big") >> 6))

    def token(self, size_bytes: int = 32) -> str:
        return secrets.token_urlsafe(size_bytes)

    def fraction(self) -> float:
        return random.random()  # noqa: S311 - jitter, not a secret
