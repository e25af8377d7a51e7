"""When a practice's signing key is published, used and taken away (RFC 7517; client JWKS of SMART App Launch 2.2).

A key belongs to one environment, so that what signs for a sandbox is never accepted in production. Keys from before
that (no environment) belong to all of them until an environment has a key of its own.

A vendor reads the key set now and then (Epic keeps it up to 29 hours, Allscripts reads it once a night). So a new key
is published first and used later, and the one before stays published until nobody can still hold what it signed, or a
key set without the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from common.models.clock import instant_text
from common.models.integration import Environment

OVERLAP: Final = timedelta(hours=30)
"""Longer than any vendor keeps a key set that we know of."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair by its id; `used_from`: when assertions are signed with it; `environment` None: from before keys had
    one."""

    kid: str
    algorithm: str
    created_at: datetime
    used_from: datetime
    environment: Environment | None = None


def of_environment(keys: Sequence[SigningKey], environment: Environment) -> list[SigningKey]:
    """Those that may sign for an environment: its own, and those from before keys had one."""
    return [key for key in keys if key.environment in (environment, None)]


def published_without_environment(keys: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
    """What the address from before environments serves: production's keys, and the keys that were registered by it for
    as long as any environment may sign with them."""
    seen = {
        key.kid
        for environment in Environment
        for key in published(of_environment(keys, environment), now)
        if key.environment in (Environment.PRODUCTION, None)
    }
    return [key for key in keys if key.kid in seen]


def current(keys: Sequence[SigningKey], algorithm: str, now: datetime) -> SigningKey | None:
    """The key that signs now: the newest whose time has come; before any has, the first."""
    mine = sorted((key for key in keys if key.algorithm == algorithm), key=lambda key: (key.used_from, key.kid))
    return next((key for key in reversed(mine) if key.used_from <= now), mine[0] if mine else None)


def retired_at(keys: Sequence[SigningKey], key: SigningKey) -> datetime | None:
    """When it is published no more: an overlap after the next one is used. None while it is the newest."""
    following = [one.used_from for one in keys if one.algorithm == key.algorithm and one.used_from > key.used_from]
    return min(following) + OVERLAP if following else None


def published(keys: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
    """Those that vendors may see."""
    return [key for key in keys if (until := retired_at(keys, key)) is None or now < until]


def state_of(keys: Sequence[SigningKey], key: SigningKey, now: datetime) -> dict[str, Any]:
    """As the API shows it."""
    until = retired_at(keys, key)
    used = current(keys, key.algorithm, now)
    return {
        "kid": key.kid,
        "algorithm": key.algorithm,
        "shared": key.environment is None,
        "state": "signing" if used == key else "announced" if key.used_from > now else "retiring",
        "created_at": instant_text(key.created_at),
        "used_from": instant_text(key.used_from),
        "published_until": instant_text(until) if until else None,
    }
