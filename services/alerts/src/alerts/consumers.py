"""Event streams → rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alerts.core.rules import TOPICS
from alerts.ports import AlertStore, Announcer
from alerts.use_cases.evaluate_events import evaluate_events
from common.models.clock import Clock, Ids
from common.models.events import Event
from common.runtime.inbox import Subscription


def subscriptions(store: AlertStore, announcer: Announcer, clock: Clock, ids: Ids) -> tuple[Subscription, ...]:
    """One consumer over all topics that a rule reads."""

    async def evaluate(session: Any, events: Sequence[Event]) -> None:
        await evaluate_events(session, events, store=store, announcer=announcer, clock=clock, ids=ids)

    return (Subscription(topics=TOPICS, consumer="alerts.rules", handler=evaluate),)
