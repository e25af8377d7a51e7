"""The fake of `MessageStore`: messages in memory. It passes the same contract tests as the database's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.models.errors import SuiteError
from hl7_gateway.core.message import NewMessage, Receipt


class MemoryStore:
    """`away` set: every save fails as when the database is gone. `batches` are the sizes of the commits."""

    def __init__(self) -> None:
        self.messages: dict[str, NewMessage] = {}
        self.batches: list[int] = []
        self.away = False
        self._seen: dict[bytes, Receipt] = {}

    async def save(self, messages: Sequence[NewMessage]) -> Mapping[str, Receipt]:
        if self.away:
            raise SuiteError("database.unavailable")
        repeated: dict[str, Receipt] = {}
        for message in messages:
            mine = Receipt(message.id, message.received_at, message.state)
            first = self._seen.setdefault(message.duplicate_key, mine)
            if first is mine:
                self.messages[message.id] = message
            else:
                repeated[message.id] = first
        self.batches.append(len(messages))
        return repeated
