"""Standard Webhooks 1.0: what is sent, how it is signed, when it is tried again.

Headers `webhook-id`, `webhook-timestamp` (seconds), `webhook-signature` (`v1,` and base64 of HMAC-SHA256 over
`id.timestamp.body`); secrets are `whsec_` and base64. A delivery keeps its id over all attempts, so that a receiver
can drop what it has seen.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of the standard
_BACKOFF_S_MAX: Final = 300.0
_OK: Final = range(200, 300)
_GONE: Final = 410


class DeliveryState(StrEnum):
    """Where a delivery stands: `failed` is final and visible."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    id: str
    tenant: str
    webhook_id: str
    event_type: str
    body: bytes
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The delivery as the API shows it (not its body: that is the alert)."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in {"tenant", "body"}}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in shown.items()}


def secret_text(key: bytes) -> str:
    """The secret as it is shown once."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def headers(delivery_id: str, body: bytes, key: bytes, now: datetime) -> dict[str, str]:
    """The headers of one attempt."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join((delivery_id.encode(), timestamp.encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }


def message(event_type: str, now: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """The body: type, time, and the alert event's data."""
    return {"type": event_type, "timestamp": instant_text(now), "data": dict(data)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended: an HTTP status, or the code of a failure on the way."""

    status: int | None
    error_code: str | None


def after_attempt(
    delivery: Delivery, attempt: Attempt, now: datetime, *, attempts_max: int, backoff_s: float, jitter: float
) -> dict[str, Any]:
    """The fields of a delivery that an attempt changes. `jitter` in [0, 1) spreads the next attempt by up to a
    quarter."""
    attempts = delivery.attempts + 1
    changed: dict[str, Any] = {"attempts": attempts, "last_status": attempt.status, "last_error": attempt.error_code}
    if attempt.status in _OK:
        return {**changed, "state": DeliveryState.DELIVERED, "delivered_at": now}
    if attempts >= attempts_max or attempt.status == _GONE:
        return {**changed, "state": DeliveryState.FAILED}
    pause_s = min(backoff_s * 2.0 ** (attempts - 1), _BACKOFF_S_MAX) * (1 + jitter / 4)
    return {**changed, "next_attempt_at": now + timedelta(seconds=pause_s)}
