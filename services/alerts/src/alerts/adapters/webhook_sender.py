"""One attempt over the checked network."""

from __future__ import annotations

from alerts.core.webhook import Attempt, headers
from alerts.ports import Webhook
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.outbound import ExchangeContext, Outbound


class HttpSender:
    """`Sender`."""

    def __init__(self, outbound: Outbound, clock: Clock, timeout_s: float) -> None:
        self._outbound = outbound
        self._clock = clock
        self._timeout_s = timeout_s

    async def send(self, webhook: Webhook, delivery_id: str, body: bytes, key: bytes) -> Attempt:
        try:
            answer = await self._outbound.request(
                "POST",
                webhook.url,
                exchange=ExchangeContext(webhook.tenant, "", webhook.id, "webhook", "alert"),
                headers=headers(delivery_id, body, key, self._clock.now()),
                content=body,
                timeout_s=self._timeout_s,
            )
        except SuiteError as error:
            return Attempt(None, error.code)
        return Attempt(answer.status, None)
