"""The life of an alert.

    pending → open → acknowledged → resolved

A firing makes a pending alert, or counts on an existing one; enough firings in a row open it. Clearings in a row
resolve an open or acknowledged alert, and drop a pending one. A resolved alert is history: the next firing begins a
new one. The table is literal; what is not in it can not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from alerts.core.rules import Rule, Signal, Verdict, next_step_of
from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.events import AlertEvent


class State(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Step(StrEnum):
    """What moves an alert."""

    FIRED_ENOUGH = "fired-enough"
    CLEARED_ENOUGH = "cleared-enough"
    ACKNOWLEDGE = "acknowledge"


TABLE: Final[dict[State, dict[Step, State]]] = {
    State.PENDING: {Step.FIRED_ENOUGH: State.OPEN, Step.CLEARED_ENOUGH: State.RESOLVED},
    State.OPEN: {
        Step.FIRED_ENOUGH: State.OPEN,
        Step.CLEARED_ENOUGH: State.RESOLVED,
        Step.ACKNOWLEDGE: State.ACKNOWLEDGED,
    },
    State.ACKNOWLEDGED: {
        Step.FIRED_ENOUGH: State.ACKNOWLEDGED,
        Step.CLEARED_ENOUGH: State.RESOLVED,
        Step.ACKNOWLEDGE: State.ACKNOWLEDGED,
    },
    State.RESOLVED: {},
}

UPDATE_EVERY: Final = timedelta(seconds=60)
"""A firing alert is told again at most this often, unless its cause changed."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `fired` and `cleared` count in a row; `count` counts all firings since it began."""

    id: str
    tenant: str
    rule: str
    integration_id: str
    subject: str
    severity: str
    state: State
    title: str
    cause_code: str | None
    next_step: str
    value: float | None
    threshold: float
    unit: str
    count: int
    fired: int
    cleared: int
    began_at: datetime
    last_fired_at: datetime
    told_at: datetime
    version: int
    opened_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The alert as the API shows it."""
        hidden = {"tenant", "fired", "cleared", "told_at"}
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in hidden}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in shown.items()}


def move(alert: Alert, step: Step) -> State:
    """The next state; raises SuiteError `request.conflict` for a step the state does not know."""
    state = TABLE[alert.state].get(step)
    if state is None:
        raise SuiteError("request.conflict", f"A {alert.state} alert cannot be moved by {step}.")
    return state


def begin(alert_id: str, tenant: str, rule: Rule, signal: Signal, threshold: float, now: datetime) -> Alert:
    """A pending alert, before its first firing is counted."""
    return Alert(
        id=alert_id,
        tenant=tenant,
        rule=rule.name,
        integration_id=signal.integration_id,
        subject=signal.subject,
        severity=rule.severity,
        state=State.PENDING,
        title=rule.title,
        cause_code=signal.cause_code,
        next_step=next_step_of(rule, signal.cause_code),
        value=signal.value,
        threshold=threshold,
        unit=rule.unit,
        count=0,
        fired=0,
        cleared=0,
        began_at=now,
        last_fired_at=now,
        told_at=now,
        version=0,
    )


def apply(alert: Alert, rule: Rule, signal: Signal, now: datetime) -> tuple[Alert, AlertEvent | None]:
    """The alert after one signal, and what to tell (None: nothing)."""
    if signal.verdict is Verdict.CLEARS:
        return _cleared(alert, rule, now)
    changed_cause = signal.cause_code != alert.cause_code
    fired = replace(
        alert,
        count=alert.count + 1,
        fired=alert.fired + 1,
        cleared=0,
        cause_code=signal.cause_code,
        next_step=next_step_of(rule, signal.cause_code),
        value=signal.value,
        last_fired_at=now,
    )
    if fired.state is State.PENDING and fired.fired < rule.open_after:
        return fired, None
    was = fired.state
    fired = replace(fired, state=move(fired, Step.FIRED_ENOUGH))
    if was is State.PENDING:
        return replace(fired, opened_at=now, told_at=now, version=alert.version + 1), AlertEvent.OPENED
    if changed_cause or now - alert.told_at >= UPDATE_EVERY:
        return replace(fired, told_at=now, version=alert.version + 1), AlertEvent.UPDATED
    return fired, None


def _cleared(alert: Alert, rule: Rule, now: datetime) -> tuple[Alert, AlertEvent | None]:
    cleared = replace(alert, fired=0, cleared=alert.cleared + 1)
    if cleared.cleared < rule.resolve_after:
        return cleared, None
    return resolve(cleared, now)


def resolve(alert: Alert, now: datetime) -> tuple[Alert, AlertEvent | None]:
    """A resolved alert; a pending one that never opened is dropped without a word."""
    was = alert.state
    resolved = replace(alert, state=move(alert, Step.CLEARED_ENOUGH), resolved_at=now, version=alert.version + 1)
    return resolved, None if was is State.PENDING else AlertEvent.RESOLVED


def quiet(alerts: Sequence[Alert], rule: Rule, now: datetime) -> list[Alert]:
    """The alerts of a rule that have not fired for its `quiet_s`."""
    if rule.quiet_s is None:
        return []
    limit = timedelta(seconds=rule.quiet_s)
    return [alert for alert in alerts if now - alert.last_fired_at >= limit]


def acknowledge(alert: Alert, who: str, now: datetime) -> Alert:
    """An alert somebody has taken on; acknowledging twice changes nothing. Raises SuiteError `request.conflict`."""
    state = move(alert, Step.ACKNOWLEDGE)
    if alert.state is State.ACKNOWLEDGED:
        return alert
    return replace(alert, state=state, acknowledged_at=now, acknowledged_by=who, version=alert.version + 1)


def event_data(alert: Alert) -> dict[str, Any]:
    """The data of an alert's events (thin; a published contract)."""
    return {
        "alert_id": alert.id,
        "rule": alert.rule,
        "severity": alert.severity,
        "state": alert.state.value,
        "integration_id": alert.integration_id,
        "subject": alert.subject,
        "cause_code": alert.cause_code,
        "title": alert.title,
        "next_step": alert.next_step,
        "count": alert.count,
        "value": alert.value,
        "threshold": alert.threshold,
        "unit": alert.unit,
        "opened_at": instant_text(alert.opened_at) if alert.opened_at else None,
        "updated_at": instant_text(alert.last_fired_at),
        "resolved_at": instant_text(alert.resolved_at) if alert.resolved_at else None,
        "version": alert.version,
    }
