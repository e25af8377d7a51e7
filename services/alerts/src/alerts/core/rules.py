"""The alert rules: rows over event streams.

A rule reads events and says of each: it *fires* for a subject, it *clears* that subject, or it says nothing. The
subject is what an alert is about within an integration: a credential, a channel, a resource. `open_after` firings in a
row open an alert, `resolve_after` clearings in a row resolve it (hysteresis); `quiet_s` resolves one that has not
fired for that long, for streams in which nothing says "well again".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from common.models.errors import ERRORS
from common.models.events import Event


class Verdict(StrEnum):
    """What an event says about a subject."""

    FIRES = "fires"
    CLEARS = "clears"


@dataclass(frozen=True, slots=True)
class Signal:
    """One event seen by one rule."""

    verdict: Verdict
    integration_id: str
    subject: str
    cause_code: str | None = None
    value: float | None = None


Read = Callable[[Event, float], Signal | None]
"""(event, threshold) → what the rule makes of it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `threshold` and `enabled` can be set per tenant, the rest is fixed."""

    name: str
    title: str
    severity: str
    topics: tuple[str, ...]
    read: Read
    unit: str = ""
    threshold: float = 0.0
    open_after: int = 1
    resolve_after: int = 1
    quiet_s: float | None = None
    next_step: str = ""
    of_integration: bool = True
    """Whether what has no integration is passed over; False for what concerns the practice as a whole."""


_AUTHENTICATION_CODES: Final = frozenset({"peer.unauthorized", "credential.rejected", "peer.forbidden"})
_RATE_LIMITED: Final = "peer.rate-limited"
_TOO_MANY_REQUESTS: Final = 429
_ERROR: Final = 400


def _credential(event: Event, _: float) -> Signal | None:
    subject = f"credential:{event.data.get('credential')}"
    if event.type == "ps.credential.rejected":
        return Signal(
            Verdict.FIRES, _integration(event), subject, event.data.get("error_code") or "credential.rejected"
        )
    if event.type == "ps.credential.refreshed":
        return Signal(Verdict.CLEARS, _integration(event), subject)
    return None


def _failed_authentication(event: Event, threshold: float) -> Signal | None:
    """A credential the PMS refuses, or a run that ended because its token is not accepted."""
    if event.topic == "ps.credential.v1":
        return _credential(event, threshold)
    if event.type == "ps.sync.run.failed" and event.data.get("error_code") in _AUTHENTICATION_CODES:
        return Signal(Verdict.FIRES, _integration(event), "api", event.data["error_code"])
    if event.type == "ps.sync.run.finished":
        return Signal(Verdict.CLEARS, _integration(event), "api")
    return None


def _failed_runs(event: Event, _: float) -> Signal | None:
    """A run that failed, whatever the reason: the records of that resource grow old."""
    subject = f"{event.data.get('resource')}:{event.data.get('direction')}"
    if event.type == "ps.sync.run.failed":
        return Signal(Verdict.FIRES, _integration(event), subject, event.data.get("error_code"))
    if event.type == "ps.sync.run.finished":
        return Signal(Verdict.CLEARS, _integration(event), subject)
    return None


def _rate_limited(event: Event, _: float) -> Signal | None:
    """The PMS answers 429."""
    if event.data.get("direction") != "outbound" or event.data.get("status") is None:
        return None
    if event.data["status"] == _TOO_MANY_REQUESTS:
        return Signal(Verdict.FIRES, _integration(event), _peer(event), _RATE_LIMITED, event.data.get("retry_after_s"))
    if event.data["status"] < _ERROR:
        return Signal(Verdict.CLEARS, _integration(event), _peer(event))
    return None


def _slow_answers(event: Event, threshold: float) -> Signal | None:
    """Answers that take longer than the threshold (ms), or never come."""
    if event.data.get("direction") != "outbound" or event.data.get("kind") not in {"fhir", "unity", "hl7v2"}:
        return None
    duration_ms = float(event.data["duration_ms"])
    if duration_ms > threshold or event.data.get("error_code") == "peer.timeout":
        return Signal(Verdict.FIRES, _integration(event), _channel(event), "peer.slow", duration_ms)
    return Signal(Verdict.CLEARS, _integration(event), _channel(event), None, duration_ms)


def _clock_skew(event: Event, threshold: float) -> Signal | None:
    """The peer's clock and ours differ by more than the threshold (s)."""
    offset_ms = event.data.get("clock_offset_ms")
    if offset_ms is None or event.data.get("direction") != "outbound" or event.data.get("kind") == "webhook":
        return None
    offset_s = offset_ms / 1000
    verdict = Verdict.FIRES if abs(offset_s) > threshold else Verdict.CLEARS
    return Signal(
        verdict, _integration(event), _peer(event), "clock.skew" if verdict is Verdict.FIRES else None, offset_s
    )


def _hl7_rejected(event: Event, _: float) -> Signal | None:
    """HL7 messages that are answered AE or AR."""
    if event.type == "ps.hl7.rejected":
        return Signal(Verdict.FIRES, _integration(event), _channel(event), event.data.get("error_code"))
    if event.type == "ps.hl7.received" and not event.data.get("replay_id"):  # told again is not received again
        return Signal(Verdict.CLEARS, _integration(event), _channel(event))
    return None


def _hl7_parked(event: Event, _: float) -> Signal | None:
    """A message that its receiver does not take lies aside, and waits for a person."""
    state = event.data.get("state")
    if state == "parked":
        return Signal(Verdict.FIRES, _integration(event), _connection(event), event.data.get("error_code"))
    if state in {"delivered", "discarded"}:
        return Signal(Verdict.CLEARS, _integration(event), _connection(event))
    return None


def _hl7_not_delivered(event: Event, _: float) -> Signal | None:
    """Tries to send that fail one after the other: the queue behind them grows."""
    state = event.data.get("state")
    if state == "queued" and event.data.get("error_code"):
        return Signal(Verdict.FIRES, _integration(event), _connection(event), event.data["error_code"])
    return Signal(Verdict.CLEARS, _integration(event), _connection(event)) if state == "delivered" else None


def _expiring(event: Event, threshold: float) -> Signal | None:
    """A secret, certificate or password whose end is at most the threshold (days) away."""
    subject = f"expiry:{event.data.get('credential')}:{event.data.get('stage')}"
    days = event.data.get("notice_days")
    if event.type == "ps.credential.expiring" and days is not None and days <= threshold:
        return Signal(Verdict.FIRES, _integration(event), subject, "credential.expiring", float(days))
    return Signal(Verdict.CLEARS, _integration(event), subject) if event.type == "ps.credential.renewed" else None


def _break_glass(event: Event, _: float) -> Signal | None:
    """Somebody took rights in an emergency; it is well when somebody else has looked at it."""
    subject = f"break-glass:{event.data.get('access_id')}"
    if event.type == "ps.access.break-glass-opened":
        return Signal(Verdict.FIRES, "", subject, "break-glass.opened")
    return Signal(Verdict.CLEARS, "", subject) if event.type == "ps.access.break-glass-reviewed" else None


def _integration(event: Event) -> str:
    return str(event.data.get("integration_id") or "")


def _channel(event: Event) -> str:
    return f"channel:{event.data.get('channel') or ''}"


def _connection(event: Event) -> str:
    return f"connection:{event.data.get('connection_id') or ''}"


def _peer(event: Event) -> str:
    """The host, not the channel: its clock and its limits are the same for tokens and for data."""
    return f"peer:{event.data.get('endpoint') or ''}"


RULES: Final[dict[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule(
            "failed-authentication", "Authentication with the PMS fails", "critical",
            ("ps.credential.v1", "ps.sync.run.v1"), _failed_authentication,
            next_step="Run Test Connection on the credential; it names the stage and the likely cause.",
        ),
        Rule(
            "credential-expiring", "A credential expires soon", "warning", ("ps.credential.v1",), _expiring,
            # The longest gap between two notices is 16 days; what is never renewed nor removed ends by itself.
            unit="d", threshold=30.0, quiet_s=31 * 86_400.0,
            next_step="See at GET /auth/v1/expiries what ends when, and have it renewed before.",
        ),
        Rule(
            "break-glass", "Rights were taken in an emergency", "critical", ("ps.access.v1",), _break_glass,
            of_integration=False,
            next_step="Read what was done with it in the audit log, then sign it off: "
            "POST /auth/v1/break-glass/{id}:review.",
        ),
        Rule(
            "failed-runs", "Synchronisation runs fail", "critical", ("ps.sync.run.v1",), _failed_runs,
            next_step="Read the run's error code; run Connection Test on the channel.",
        ),
        Rule(
            "rate-limited", "The PMS limits our request rate", "warning", ("ps.exchange.v1",), _rate_limited,
            resolve_after=3,
            next_step="Lower the schedule's frequency, or ask the PMS administrator for a higher limit.",
        ),
        Rule(
            "slow-answers", "The PMS answers slowly", "warning", ("ps.exchange.v1",), _slow_answers,
            unit="ms", threshold=2000.0, open_after=2, resolve_after=3,
            next_step="Run Connection Test: if TCP is slow too it is the network, else the PMS.",
        ),
        Rule(
            "clock-skew", "The PMS's clock and ours differ", "warning", ("ps.exchange.v1",), _clock_skew,
            unit="s", threshold=30.0, open_after=2, resolve_after=3,
            next_step="Compare both clocks with a time server; token requests fail when they drift apart.",
        ),
        Rule(
            "hl7-rejected", "HL7 messages are rejected", "warning",
            ("ps.hl7.rejected.v1", "ps.hl7.received.v1"), _hl7_rejected,
            # One accepted message proves nothing: where one type of several is rejected, the alert would come and go.
            resolve_after=20, quiet_s=600.0,
            next_step="Read the error code of the rejected messages; correct the sender or the channel's senders.",
        ),
        Rule(
            "hl7-parked", "An HL7 message is parked", "warning", ("ps.hl7.delivery.v1",), _hl7_parked,
            next_step="Find it with POST /hl7/v1/outbound:search (state parked); then retry or discard it.",
        ),
        Rule(
            "hl7-not-delivered", "HL7 messages are not delivered", "critical",
            ("ps.hl7.delivery.v1",), _hl7_not_delivered, open_after=3,
            next_step="Run the connection's test; it names the stage and the likely cause.",
        ),
    )
}  # fmt: skip

TOPICS: Final = tuple(sorted({topic for rule in RULES.values() for topic in rule.topics}))


def next_step_of(rule: Rule, cause_code: str | None) -> str:
    """What to do: the cause's own next step where the catalogue has one, else the rule's."""
    row = ERRORS.get(cause_code or "")
    return row.next_step if row is not None else rule.next_step


def rule_json(rule: Rule, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as the API shows it, with what the tenant has set."""
    return {
        "name": rule.name,
        "title": rule.title,
        "severity": rule.severity,
        "topics": list(rule.topics),
        "enabled": overrides.get("enabled", True),
        "threshold": overrides.get("threshold", rule.threshold),
        "unit": rule.unit,
        "open_after": rule.open_after,
        "resolve_after": rule.resolve_after,
        "quiet_s": rule.quiet_s,
        "next_step": rule.next_step,
        "version": overrides.get("version", 1),
    }
