"""Alert events to the bus (through the outbox) and to webhooks (through the delivery queue)."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from alerts.adapters.webhook_store import SqlWebhookStore
from alerts.core.life_cycle import Alert, event_data
from common.models.clock import Clock, Ids
from common.models.events import AlertEvent, Event
from common.runtime import outbox
from common.runtime.database import Database
from common.runtime.exchanges import TelemetryEvents
from common.runtime.telemetry import current_traceparent


class OutboxAnnouncer:
    """`Announcer`; `wake` is set when deliveries were committed."""

    def __init__(
        self,
        database: Database,
        webhooks: SqlWebhookStore,
        telemetry_events: TelemetryEvents,
        clock: Clock,
        ids: Ids,
        source: str,
    ) -> None:
        self._database = database
        self._webhooks = webhooks
        self._telemetry_events = telemetry_events
        self._clock = clock
        self._ids = ids
        self._source = source
        self.wake = asyncio.Event()

    async def announce(self, session: AsyncSession, alert: Alert, kind: AlertEvent) -> None:
        data = event_data(alert)
        await outbox.add(session, [self._event(kind, alert.tenant, alert.id, data)])
        if await self._webhooks.enqueue(session, alert.tenant, kind.value, data):
            self._database.after_commit(session, self.wake.set)

    def watchdog(self) -> None:
        self._telemetry_events.put(self._event(AlertEvent.WATCHDOG, "platform", "watchdog", {}))

    def _event(self, kind: AlertEvent, tenant: str, subject: str, data: dict[str, object]) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type=kind.value,
            source=self._source,
            subject=subject,
            time=self._clock.now(),
            tenant=tenant,
            key=subject,
            data=data,
            traceparent=current_traceparent(),
        )
