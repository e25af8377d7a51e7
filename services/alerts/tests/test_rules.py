"""What each rule makes of an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from alerts.core.rules import RULES, Verdict, next_step_of
from common.models.events import Event

EXCHANGE = {
    "channel": "fhir",
    "kind": "fhir",
    "direction": "outbound",
    "duration_ms": 10.0,
    "status": 200,
}


def event(event_type: str, **data: Any) -> Event:
    return Event(
        "evt_1",
        event_type,
        "/t/r",
        "s",
        datetime(2026, 3, 1, tzinfo=UTC),
        "ten_1",
        "k",
        {"integration_id": "int_1", **data},
    )


def exchange(**data: Any) -> Event:
    return event("ps.exchange.recorded", **{**EXCHANGE, **data})


def access(happened: str) -> Event:
    data = {"access_id": "acc_1", "role": "phi-reviewer"}
    return Event(
        "evt_1", f"ps.access.break-glass-{happened}", "/t/r", "s", datetime(2026, 3, 1, tzinfo=UTC), "ten_1", "k", data
    )


def delivery(state: str, **data: Any) -> Event:
    return event("ps.hl7.delivery", state=state, connection_id="con_1", **data)


@pytest.mark.parametrize(
    ("rule", "seen", "verdict"),
    [
        ("failed-authentication", event("ps.credential.rejected", credential="api"), Verdict.FIRES),
        ("failed-authentication", event("ps.credential.refreshed", credential="api"), Verdict.CLEARS),
        ("failed-authentication", event("ps.credential.refresh-failed", credential="api"), None),
        ("failed-authentication", event("ps.sync.run.failed", error_code="peer.unauthorized"), Verdict.FIRES),
        ("failed-authentication", event("ps.sync.run.failed", error_code="peer.unavailable"), None),
        ("credential-expiring", event("ps.credential.expiring", credential="api", notice_days=14), Verdict.FIRES),
        ("credential-expiring", event("ps.credential.expiring", credential="api", notice_days=31), None),
        ("credential-expiring", event("ps.credential.renewed", credential="api"), Verdict.CLEARS),
        ("credential-expiring", event("ps.credential.refreshed", credential="api"), None),
        ("break-glass", access("opened"), Verdict.FIRES),
        ("break-glass", access("reviewed"), Verdict.CLEARS),
        ("failed-runs", event("ps.sync.run.failed", error_code="peer.unavailable"), Verdict.FIRES),
        ("failed-runs", event("ps.sync.run.finished", ), Verdict.CLEARS),
        ("failed-runs", event("ps.sync.run.progressed", ), None),
        ("rate-limited", exchange(status=429, retry_after_s=5.0), Verdict.FIRES),
        ("rate-limited", exchange(status=200), Verdict.CLEARS),
        ("rate-limited", exchange(status=503), None),
        ("slow-answers", exchange(duration_ms=2000.1), Verdict.FIRES),
        ("slow-answers", exchange(duration_ms=2000.0), Verdict.CLEARS),
        ("slow-answers", exchange(duration_ms=9.0, status=None, error_code="peer.timeout"), Verdict.FIRES),
        ("slow-answers", exchange(kind="webhook", duration_ms=9000.0), None),
        ("clock-skew", exchange(clock_offset_ms=-31_000), Verdict.FIRES),
        ("clock-skew", exchange(clock_offset_ms=900), Verdict.CLEARS),
        ("clock-skew", exchange(), None),
        ("hl7-rejected", event("ps.hl7.rejected", channel="in"), Verdict.FIRES),
        ("hl7-rejected", event("ps.hl7.received", channel="in"), Verdict.CLEARS),
        ("hl7-parked", delivery("parked", error_code="hl7.refused-error"), Verdict.FIRES),
        ("hl7-parked", delivery("discarded"), Verdict.CLEARS),
        ("hl7-parked", delivery("queued", error_code="hl7.no-acknowledgment"), None),
        ("hl7-not-delivered", delivery("queued", error_code="hl7.no-acknowledgment"), Verdict.FIRES),
        ("hl7-not-delivered", delivery("queued", error_code=None), None),
        ("hl7-not-delivered", delivery("delivered"), Verdict.CLEARS),
        ("hl7-rejected", event("ps.hl7.received", channel="in", replay_id="rpl_1"), None),
    ],
)  # fmt: skip
def test_verdicts(rule: str, seen: Event, verdict: Verdict | None) -> None:
    signal = RULES[rule].read(seen, RULES[rule].threshold)
    assert (signal.verdict if signal else None) is verdict


def test_every_rule_says_what_to_do_and_the_causes_own_step_goes_first() -> None:
    assert all(rule.next_step and rule.topics for rule in RULES.values())
    assert "status page" in next_step_of(RULES["failed-runs"], "peer.unavailable")
    assert next_step_of(RULES["slow-answers"], "peer.slow") == RULES["slow-answers"].next_step
