"""The senders of every hl7v2-in channel and of configured listeners, kept from the directory of integrations."""

from __future__ import annotations

from common.models.integration import Integration
from common.runtime.directory import IntegrationDirectory
from hl7_gateway.core.connection_configuration import Connection
from hl7_gateway.core.reception import table_of
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


class ConnectionSenders:
    """`Senders` of one configured listener: whoever is admitted belongs to its integration, while that listens."""

    def __init__(self, directory: IntegrationDirectory, connection: Connection) -> None:
        self._directory = directory
        self._connection = connection
        self._of: Integration | None = None
        self._table = table_of(connection, None)

    def table(self) -> SenderTable:
        integration = self._directory.copy_of(self._connection.configuration.integration_id)
        if integration is not self._of:
            self._of, self._table = integration, table_of(self._connection, integration)
        return self._table

    def settled(self) -> bool:
        return self._directory.settled
