"""Standard Webhooks: the signature, and when an attempt is made again."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from alerts.core.webhook import Attempt, Delivery, DeliveryState, after_attempt, headers, secret_text

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DELIVERY = Delivery("dlv_1", "ten_1", "whk_1", "ps.alert.opened", b"{}", DeliveryState.WAITING, 0, NOW, NOW)


def test_the_signature_of_the_standards_own_example() -> None:
    # https://github.com/standard-webhooks: secret, id, timestamp, body and signature of its test vector
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', key, at)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert made["webhook-timestamp"] == "1614265330"
    assert secret_text(key) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("status", [200, 204])
def test_success_delivers(status: int) -> None:
    changed = after_attempt(DELIVERY, Attempt(status, None), NOW, attempts_max=3, backoff_s=1.0, jitter=0.0)
    assert (changed["state"], changed["delivered_at"]) == (DeliveryState.DELIVERED, NOW)


def test_failures_are_tried_again_later_and_later_then_given_up() -> None:
    from dataclasses import replace

    delivery, pauses = DELIVERY, []
    for _ in range(12):
        changed = after_attempt(delivery, Attempt(500, None), NOW, attempts_max=12, backoff_s=1.0, jitter=0.0)
        delivery = replace(delivery, **changed)
        pauses.append(delivery.next_attempt_at - NOW)
    assert pauses[:3] == [timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=4)]
    assert max(pauses) == timedelta(seconds=300)
    assert (delivery.state, delivery.attempts, delivery.last_status) == (DeliveryState.FAILED, 12, 500)


def test_a_receiver_that_is_gone_is_not_tried_again() -> None:
    changed = after_attempt(DELIVERY, Attempt(410, None), NOW, attempts_max=9, backoff_s=1.0, jitter=0.0)
    assert changed["state"] is DeliveryState.FAILED
