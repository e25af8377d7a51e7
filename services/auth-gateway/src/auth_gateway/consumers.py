"""Event topics → the fleet view, and the end of practices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from common.models.events import Event
from common.runtime.inbox import Subscription
from common.runtime.tenant_data import ERASED, TOPIC


class FleetWriter(Protocol):
    """Keeps what the events say of the practices."""

    async def apply(self, session: Any, events: Sequence[Event]) -> None:
        """In the consumer's transaction."""


class Acknowledgements(Protocol):
    """Keeps which service has deleted what it held of a practice."""

    async def acknowledge(self, session: Any, events: Sequence[Event]) -> None:
        """In the consumer's transaction."""


def subscriptions(fleet: FleetWriter, ends: Acknowledgements) -> tuple[Subscription, ...]:
    """The subscriptions of this service."""
    topics = ("ps.hl7.delivery.v1", "ps.measurement.v1", "ps.sync.run.v1")

    async def erased(session: Any, events: Sequence[Event]) -> None:
        await ends.acknowledge(session, [event for event in events if event.type == ERASED])

    return (
        Subscription(topics=topics, consumer="auth-gateway.fleet", handler=fleet.apply),
        Subscription(topics=(TOPIC,), consumer="auth-gateway.offboarding", handler=erased),
    )
