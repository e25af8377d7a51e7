"""Event topics → the fleet view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from common.models.events import Event
from common.runtime.inbox import Subscription


class FleetWriter(Protocol):
    """Keeps what the events say of the practices."""

    async def apply(self, session: Any, events: Sequence[Event]) -> None:
        """In the consumer's transaction."""


def subscriptions(fleet: FleetWriter) -> tuple[Subscription, ...]:
    """The subscriptions of this service."""
    topics = ("ps.hl7.delivery.v1", "ps.measurement.v1", "ps.sync.run.v1")
    return (Subscription(topics=topics, consumer="auth-gateway.fleet", handler=fleet.apply),)
