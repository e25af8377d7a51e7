"""Wiring of alerts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alerts.access import ACCESS
from alerts.adapters.alert_store import SqlAlertStore
from alerts.adapters.announcer import OutboxAnnouncer
from alerts.adapters.tables import Base
from alerts.adapters.tenant_parts import tenant_parts
from alerts.adapters.webhook_sender import HttpSender
from alerts.adapters.webhook_store import SqlWebhookStore
from alerts.api import router
from alerts.consumers import subscriptions
from alerts.settings import AlertsSettings
from alerts.use_cases.deliver_webhooks import deliver_webhooks
from alerts.use_cases.resolve_quiet import resolve_quiet, watch
from common.runtime.background import background
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load


def build(runtime: Runtime) -> Module:
    """The alerts module on a runtime."""
    settings = load(AlertsSettings)
    clock, ids = runtime.clock, runtime.ids
    database = runtime.database("alerts", Base.metadata, Path(__file__).parent / "migrations")
    store = SqlAlertStore(database, clock)
    webhooks = SqlWebhookStore(database, runtime.keyring, clock, ids)
    sender = HttpSender(runtime.outbound, clock, settings.webhook_timeout_s)
    announcer = OutboxAnnouncer(database, webhooks, runtime.telemetry_events, clock, ids, runtime.source("alerts"))
    leases = Leases(database, clock, ids)

    async def on_one_replica() -> None:
        """Deliveries, quiet alerts and the watchdog."""
        await leases.run_while_held("alerts.background", together)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                deliver_webhooks(
                    queue=webhooks,
                    sender=sender,
                    clock=clock,
                    ids=ids,
                    wake=announcer.wake,
                    attempts_max=settings.webhook_attempts_max,
                    backoff_s=settings.webhook_backoff_s,
                )
            )
            group.create_task(
                resolve_quiet(
                    transactions=database, store=store, announcer=announcer, clock=clock, every_s=settings.tick_every_s
                )
            )
            group.create_task(watch(announcer, settings.watchdog_every_s))

    return Module(
        name="alerts",
        prefix="/alerts",
        router=router(store, webhooks, sender, clock, ids),
        access=ACCESS,
        database=database,
        subscriptions=subscriptions(store, announcer, clock, ids),
        lifespan=lambda: background("alerts", on_one_replica),
        tenant_parts=tenant_parts(),
        stream_topics=("ps.alert.v1",),
    )
