"""Resolve alerts whose rule has heard nothing bad for long enough, and say now and then that alerting is alive."""

from __future__ import annotations

import asyncio
import logging

from alerts.core import life_cycle
from alerts.core.rules import RULES
from alerts.ports import AlertStore, Announcer, Transactions
from common.models.clock import Clock
from common.models.errors import SuiteError

_log = logging.getLogger("alerts")


async def resolve_quiet(
    *, transactions: Transactions, store: AlertStore, announcer: Announcer, clock: Clock, every_s: float
) -> None:
    """Runs until cancelled."""
    while True:
        try:
            await resolve_quiet_once(transactions=transactions, store=store, announcer=announcer, clock=clock)
        except SuiteError as error:
            _log.warning("quiet alerts not looked at", extra={"code": error.code})
        await asyncio.sleep(every_s)


async def resolve_quiet_once(
    *, transactions: Transactions, store: AlertStore, announcer: Announcer, clock: Clock
) -> int:
    """One look; returns how many alerts were resolved."""
    now = clock.now()
    rules = [rule for rule in RULES.values() if rule.quiet_s is not None]
    if not await store.any_live([rule.name for rule in rules]):
        return 0
    resolved = 0
    async with transactions.write() as session:
        await store.lock(session)
        live = await store.live(session, None)
        for rule in rules:
            of_rule = [alert for alert in live.values() if alert.rule == rule.name]
            for alert in life_cycle.quiet(of_rule, rule, now):
                after, kind = life_cycle.resolve(alert, now)
                await store.save(session, [after])
                if kind is not None:
                    await announcer.announce(session, after, kind)
                resolved += 1
    return resolved


async def watch(announcer: Announcer, every_s: float) -> None:
    """Publish `ps.alert.watchdog` so that a silent alerting service is noticed from outside; runs until cancelled."""
    while True:
        announcer.watchdog()
        await asyncio.sleep(every_s)
