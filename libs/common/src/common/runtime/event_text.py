"""Events as JSON text, the form in which outbox and parked table keep them."""

from __future__ import annotations

import orjson

from common.models.clock import instant_text, parse_instant
from common.models.events import Event


def event_text(event: Event) -> str:
    """The whole event as JSON text."""
    fields = {name: getattr(event, name) for name in Event.__slots__}
    return orjson.dumps({**fields, "time": instant_text(event.time), "data": dict(event.data)}, default=list).decode()


def parse_event(text: str) -> Event:
    """The event of such a text; raises ValueError for a type that this code does not know."""
    fields = orjson.loads(text)
    return Event(**{**fields, "time": parse_instant(fields["time"])})
