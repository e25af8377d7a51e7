"""`ps.exchange.v1` → the exchange history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.models.events import Event
from common.runtime.inbox import Subscription
from diagnostics.core.exchange import exchange_of
from diagnostics.ports import ExchangeWriter


def subscriptions(writer: ExchangeWriter) -> tuple[Subscription, ...]:
    """The subscriptions of this service."""

    async def record_exchanges(session: Any, events: Sequence[Event]) -> None:
        """Keep a batch of exchanges, in the inbox's transaction."""
        await writer.insert(session, [exchange_of(event.tenant, event.data) for event in events])

    return (Subscription(topics=("ps.exchange.v1",), consumer="diagnostics.exchanges", handler=record_exchanges),)
