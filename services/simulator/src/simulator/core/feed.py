"""A feed of HL7 messages: which message comes when, a function of its seed and nothing else.

Message number n of a feed is the same for the same seed, practice, mix and instant. Messages of one patient stay on one
connection, so their order is kept. A feed that falls behind (a slow receiver) makes up for `BEHIND_S_MAX` at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log
from typing import Any, Final, Literal

from simulator.core.chance import below, choice, number
from simulator.core.change import new_appointment
from simulator.core.chart import Chart
from simulator.core.hl7_messages import FEED_KINDS, Scene, compose_kind
from simulator.core.practice import Appointment, Patient
from simulator.core.shape import Shape
from simulator.core.shape_messages import compose_shaped, drawn, gap_of

RATE_MAX: Final = 60_000
BEHIND_S_MAX: Final = 1.0
GAP_MAX_S: Final = 900.0
CONNECTIONS_MAX: Final = 200
# Share of the mean rate by hour of a workday in the practice's zone (sum 24): two peaks, a lunch, quiet nights.
WORKDAY_CURVE: Final = (
    0.05, 0.05, 0.05, 0.05, 0.1, 0.2, 0.6, 1.6, 2.9, 3.1, 2.8, 2.3,
    1.4, 2.1, 2.6, 2.2, 1.2, 0.4, 0.15, 0.05, 0.03, 0.03, 0.02, 0.02,
)  # fmt: skip
WEEKEND_SHARE: Final = 0.08
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """How a feed is to be. `mix`: kind → weight, empty: as in the field; a `shape` takes its place."""

    name: str
    practice: str
    host: str
    port: int
    rate_per_minute: float
    curve: Literal["constant", "workday", "shape"]
    connections: int
    seed: int
    timeout_s: float
    messages_max: int | None = None
    mix: Mapping[str, int] = field(default_factory=dict)
    shape: Shape | None = None


@dataclass(slots=True)
class FeedState:
    """What became of it. `codes` counts MSA-1, `errors` the codes of what went wrong instead."""

    plan: FeedPlan
    started_at: datetime
    ended_at: datetime | None = None
    sent: int = 0
    message_bytes: int = 0
    mismatched: int = 0
    withheld: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """One message, and the connection it goes over."""

    kind: str
    body: bytes
    control_id: str
    connection: int


def gap_of_feed(plan: FeedPlan, chart: Chart, sequence: int, now: datetime) -> float:
    """Seconds between message number `sequence` and the next, at an instant; at most `GAP_MAX_S`."""
    mean = 60 / plan.rate_per_minute
    if plan.curve == "constant":
        return mean
    seed = number(plan.seed, "gap", plan.name, sequence)
    if plan.curve == "shape" and plan.shape is not None:
        return min(gap_of(plan.shape, seed), GAP_MAX_S)
    local = now.astimezone(chart.practice.zone)
    share = WORKDAY_CURVE[local.hour] * (WEEKEND_SHARE if local.weekday() >= _SATURDAY else 1.0)
    # Arrivals of independent people are a Poisson process: distances between them are exponential.
    chance = (1 + below(1_000_000, seed)) / 1_000_001
    return min(-log(chance) * mean / share, GAP_MAX_S)


def message_of(plan: FeedPlan, chart: Chart, sequence: int, now: datetime) -> FeedMessage:
    """Message number `sequence` (from 0) as it leaves at `now`."""
    seed = number(plan.seed, "feed", plan.name, sequence)
    patients = tuple(chart.practice.patients)
    patient = chart.patient(choice(patients, seed, "patient"))
    if patient is not None and patient.replaced_by is not None:
        # Of a record that ended nothing is sent: what happens is told of the one that goes on.
        patient = chart.patient(patient.replaced_by)
    assert patient is not None
    control_id = f"{number(plan.seed, 'control', plan.name) % 16**8:08X}{sequence:010d}"
    scene = Scene(chart.practice, patient, _appointment(chart, patient, seed, now), seed, now, control_id)
    connection = number(plan.seed, "connection", patient.id) % plan.connections
    if plan.shape is not None:
        shaped = compose_shaped(plan.shape, scene)
        return FeedMessage(shaped.kind, shaped.body, control_id, connection)
    weights = plan.mix or {name: row.weight for name, row in FEED_KINDS.items()}
    kind = drawn(weights, seed, "kind") or next(iter(weights))
    return FeedMessage(kind, compose_kind(FEED_KINDS[kind], scene), control_id, connection)


def _appointment(chart: Chart, patient: Patient, seed: int, now: datetime) -> Appointment:
    """One of the patient's appointments of the next five weeks."""
    today = chart.local_day(now)
    mine = [row for row in chart.appointments(today, today + timedelta(days=34)) if row.patient == patient.id]
    # Who was registered meanwhile, or has put off the only visit, may have none in these weeks.
    return choice(mine or [new_appointment(chart, patient, start=None, minutes=None, now=now)], seed, "appointment")


def state_json(state: FeedState) -> dict[str, Any]:
    """For the API; instants are left to it."""
    plan = state.plan
    return {
        "name": plan.name,
        "practice": plan.practice,
        "host": plan.host,
        "port": plan.port,
        "rate_per_minute": plan.rate_per_minute,
        "curve": plan.curve,
        "connections": plan.connections,
        "seed": plan.seed,
        "messages_max": plan.messages_max,
        "mix": dict(plan.mix),
        "from_shape": plan.shape is not None,
        "state": "running" if state.ended_at is None else "ended",
        "sent": state.sent,
        "message_bytes": state.message_bytes,
        "mismatched": state.mismatched,
        "withheld": state.withheld,
        "acknowledgment_codes": dict(state.codes),
        "error_codes": dict(state.errors),
        "message_types": dict(state.types),
    }
