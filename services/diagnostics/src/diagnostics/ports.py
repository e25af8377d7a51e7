"""What the use cases of diagnostics need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from common.models.integration import Channel, Integration
from common.models.paging import Page
from diagnostics.core.connection_test import ConnectionTest
from diagnostics.core.exchange import ExchangeFilter, ExchangeRow


class ExchangeStore(Protocol):
    """The exchange history."""

    async def search(self, tenant: str, wanted: ExchangeFilter, cursor: str | None, limit: int) -> Page[ExchangeRow]:
        """Newest first. Raises SuiteError `request.bad-cursor`."""

    async def get(self, tenant: str, exchange_id: str) -> ExchangeRow:
        """Raises SuiteError `exchange.not-found`."""

    async def prune(self, before: datetime) -> int:
        """Delete what is older, in batches; returns how many."""


class ExchangeWriter(Protocol):
    """Where the consumer puts exchanges; `session` is the transaction of its batch."""

    async def insert(self, session: Any, rows: Sequence[ExchangeRow]) -> None:
        """Insert rows; one that is there already is left alone."""


class ConnectionTestStore(Protocol):
    """The connection tests made so far."""

    async def add(self, test: ConnectionTest, subject: str) -> None:
        """Keep a test and write its audit entry (`subject`: who asked)."""

    async def get(self, tenant: str, test_id: str) -> ConnectionTest:
        """Raises SuiteError `connection-test.not-found`."""

    async def list(
        self, tenant: str, integration_id: str | None, cursor: str | None, limit: int
    ) -> Page[ConnectionTest]:
        """Newest first."""


class Integrations(Protocol):
    """The read copy of integrations."""

    async def get(self, tenant: str, integration_id: str) -> Integration:
        """Raises SuiteError `integration.not-found`."""


class Prober(Protocol):
    """The active steps of a connection test; each returns stage documents and never raises for what the peer does."""

    async def network(self, integration: Integration, channel: Channel) -> Sequence[Mapping[str, Any]]:
        """DNS, TCP, TLS, HTTP and clock of the channel's endpoint."""

    async def token(self, integration: Integration, channel: Channel) -> tuple[Mapping[str, Any], str | None]:
        """The token stage, and the token when there is one."""

    async def metadata(self, integration: Integration, channel: Channel, token: str | None) -> Mapping[str, Any]:
        """The metadata stage."""
