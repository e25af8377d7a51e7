"""The senders of every hl7v2-in channel, kept from the directory of integrations."""

from __future__ import annotations

from common.models.integration import Integration
from common.runtime.directory import IntegrationDirectory
from hl7_gateway.core.senders import SenderTable, sender_table


class DirectorySenders:
    """`Senders` over the directory; the table is built anew when an integration changes, not for every message."""

    def __init__(self, directory: IntegrationDirectory) -> None:
        self._directory = directory
        self._table = sender_table(directory.all())
        directory.changed.append(self._changed)

    def table(self) -> SenderTable:
        return self._table

    def settled(self) -> bool:
        return self._directory.settled

    async def _changed(self, _: Integration | None, __: str) -> None:
        self._table = sender_table(self._directory.all())
