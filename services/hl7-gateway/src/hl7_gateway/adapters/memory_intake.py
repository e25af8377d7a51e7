"""The fake of `Intake`: messages in memory. It passes the same contract tests as the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from common.models.errors import SuiteError
from hl7_gateway.core.message import Receipt, TakenMessage, instant_of
from hl7_gateway.ports import WaitingMessage


class MemoryIntake:
    """`away` set: every save fails as when the database is gone. `batches` are the sizes of the commits."""

    def __init__(self) -> None:
        self.messages: dict[str, TakenMessage] = {}
        self.batches: list[int] = []
        self.away = False
        self._bodies: dict[int, TakenMessage] = {}
        self._waiting: dict[int, TakenMessage] = {}
        self._seen: dict[bytes, Receipt] = {}
        self._last = 0

    def save(self, messages: Sequence[TakenMessage]) -> asyncio.Future[Mapping[str, Receipt]]:
        return asyncio.ensure_future(self.save_now(messages))

    async def save_now(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        """What `save` does."""
        if self.away:
            raise SuiteError("database.unavailable")
        repeated: dict[str, Receipt] = {}
        for message in messages:
            mine = Receipt(message.id, instant_of(message.received_ms))
            first = self._seen.setdefault(message.duplicate_key, mine)
            if first is not mine:
                repeated[message.id] = first
                continue
            self.messages[message.id] = message
            self._last = sequence = self._last + 1
            self._bodies[sequence] = self._waiting[sequence] = message
        self.batches.append(len(messages))
        return repeated

    async def waiting(self, limit: int) -> Sequence[WaitingMessage]:
        rows = sorted(self._waiting.items())[:limit]
        return [WaitingMessage(sequence, *message[:8], message.connection_id) for sequence, message in rows]

    async def catalogued(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self._waiting.pop(sequence, None)

    async def bodies(self, sequences: Sequence[int]) -> Mapping[int, bytes]:
        return {sequence: self._bodies[sequence].sealed_body for sequence in sequences if sequence in self._bodies}

    async def erase_bodies(self, sequences: Sequence[int]) -> None:
        """Delete them, whatever their age."""
        for sequence in sequences:
            self._bodies.pop(sequence, None)

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        newest = max((body.received_ms for body in self._bodies.values()), default=0)
        for sequence, body in list(self._bodies.items()):
            over = bytes_max and sum(len(one.sealed_body) for one in self._bodies.values()) > bytes_max
            if sequence not in self._waiting and (over or newest - body.received_ms > kept_s * 1000):
                del self._bodies[sequence]
                return 1
        return 0

    async def forget_seen(self, window_s: float) -> int:
        newest = max((receipt.received_at for receipt in self._seen.values()), default=None)
        old = [
            key
            for key, receipt in self._seen.items()
            if newest is not None and (newest - receipt.received_at).total_seconds() > window_s
        ]
        for key in old:
            del self._seen[key]
        return len(old)
