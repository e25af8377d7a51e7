"""Run a batch of events through the rules: alerts change, and what changed is told, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alerts.core import life_cycle
from alerts.core.life_cycle import Alert, State
from alerts.core.rules import RULES, Rule, Verdict
from alerts.ports import AlertStore, Announcer, Session
from common.models.clock import Clock, Ids
from common.models.events import AlertEvent, Event

Key = tuple[str, str, str, str]


async def evaluate_events(
    session: Session, events: Sequence[Event], *, store: AlertStore, announcer: Announcer, clock: Clock, ids: Ids
) -> None:
    """Handle a batch, in order. Alert events and webhook deliveries are written with the alerts."""
    tenants = sorted({event.tenant for event in events})
    await store.lock(session)
    overrides = await store.overrides(session, tenants)
    live = await store.live(session, tenants)
    before = dict(live)
    told: list[tuple[Alert, AlertEvent]] = []
    ended: dict[str, Alert] = {}
    for event in events:
        for rule in RULES.values():
            if event.topic in rule.topics:
                _apply(event, rule, overrides.get((event.tenant, rule.name), {}), live, told, ended, clock, ids)
    changed = [alert for key, alert in live.items() if before.get(key) is not alert]
    await store.save(session, [*ended.values(), *changed])
    for alert, kind in told:
        await announcer.announce(session, alert, kind)


def _apply(
    event: Event,
    rule: Rule,
    override: Mapping[str, Any],
    live: dict[Key, Alert],
    told: list[tuple[Alert, AlertEvent]],
    ended: dict[str, Alert],
    clock: Clock,
    ids: Ids,
) -> None:
    """One event through one rule; `live`, `told` and `ended` are brought up to date."""
    if not override.get("enabled", True):
        return
    threshold = float(override.get("threshold", rule.threshold))
    signal = rule.read(event, threshold)
    if signal is None or (rule.of_integration and not signal.integration_id):
        return
    key = (event.tenant, rule.name, signal.integration_id, signal.subject)
    now = clock.now()
    alert = live.get(key)
    if alert is None:
        if signal.verdict is Verdict.CLEARS:
            return
        alert = life_cycle.begin(ids.new("alr"), event.tenant, rule, signal, threshold, now)
    after, kind = life_cycle.apply(alert, rule, signal, now)
    if kind is not None:
        told.append((after, kind))
    if after.state is State.RESOLVED:
        live.pop(key, None)
        ended[after.id] = after
    else:
        live[key] = after
