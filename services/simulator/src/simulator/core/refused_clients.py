"""Faults at which a vendor refuses a client that it knows: each with the reason that it keeps to itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from simulator.core.assertion import Refusal, RefusedError
from simulator.core.clients import Client
from simulator.core.faults import Effect

REASONS: Final[Mapping[str, Refusal]] = {
    "expired-secret": Refusal.SECRET_EXPIRED,
    "renewal-overdue": Refusal.SECRET_EXPIRED,
    "client-disabled": Refusal.CLIENT_DISABLED,
    "other-environment": Refusal.CLIENT_UNKNOWN,
    "keys-unread": Refusal.KEYS_UNAVAILABLE,
    "wrong-secret": Refusal.SIGNATURE,
    "assertion-resent": Refusal.REPLAYED,
}


def refuse_by_fault(client: Client, effect: Effect, now: datetime) -> None:
    """Raises RefusedError when a fault that is on refuses this client; `now` is the vendor's clock."""
    if effect.has("registration-travels"):
        travels = timedelta(hours=effect.number("registration-travels", "hours"))
        if now - client.registered_at < travels:
            raise RefusedError(Refusal.CLIENT_UNKNOWN)
    for name, reason in REASONS.items():
        if effect.has(name):
            by_secret = reason is Refusal.SIGNATURE and client.secret is not None
            raise RefusedError(Refusal.SECRET if by_secret else reason)
