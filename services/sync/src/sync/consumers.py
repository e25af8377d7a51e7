"""`ps.hl7.received.v1` → records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.models.events import Event
from common.runtime.inbox import Subscription
from sync.use_cases.apply_messages import ApplyMessages


def subscriptions(apply_messages: ApplyMessages) -> tuple[Subscription, ...]:
    """The subscriptions of this service."""

    async def apply(session: Any, events: Sequence[Event]) -> None:
        await apply_messages(session, events)

    return (Subscription(topics=("ps.hl7.received.v1",), consumer="sync.hl7", handler=apply),)
