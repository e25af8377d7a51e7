"""Send what waits for webhooks; each attempt's end is kept before the next."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from alerts.core.webhook import Delivery, after_attempt
from alerts.ports import DeliveryQueue, Sender, Webhook
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError

_TOGETHER_MAX: Final = 20
_POLL_S: Final = 0.5
_log = logging.getLogger("alerts")


async def deliver_webhooks(
    *,
    queue: DeliveryQueue,
    sender: Sender,
    clock: Clock,
    ids: Ids,
    wake: asyncio.Event,
    attempts_max: int,
    backoff_s: float,
) -> None:
    """Runs until cancelled. One slow receiver holds up nobody: the due ones are sent together."""
    while True:
        try:
            due = await queue.due(clock.now(), _TOGETHER_MAX)
            async with asyncio.TaskGroup() as group:
                for delivery, webhook, key in due:
                    group.create_task(
                        _attempt(
                            delivery,
                            webhook,
                            key,
                            queue,
                            sender,
                            clock,
                            ids,
                            attempts_max=attempts_max,
                            backoff_s=backoff_s,
                        )
                    )
        except* SuiteError as errors:
            _log.warning(
                "webhook deliveries wait", extra={"code": getattr(errors.exceptions[0], "code", "internal.error")}
            )
            due = []
        if not due:
            wake.clear()
            try:
                async with asyncio.timeout(_POLL_S):
                    await wake.wait()
            except TimeoutError:
                continue


async def _attempt(
    delivery: Delivery,
    webhook: Webhook,
    key: bytes,
    queue: DeliveryQueue,
    sender: Sender,
    clock: Clock,
    ids: Ids,
    *,
    attempts_max: int,
    backoff_s: float,
) -> None:
    attempt = await sender.send(webhook, delivery.id, delivery.body, key)
    changed = after_attempt(
        delivery, attempt, clock.now(), attempts_max=attempts_max, backoff_s=backoff_s, jitter=ids.fraction()
    )
    await queue.settle(delivery.id, changed)
