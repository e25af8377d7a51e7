"""A day in the practice: what happens when, a function of the practice, a seed and the day, and nothing else.

Who has an appointment comes (and pays when leaving), stays away, cancels ahead, or asks for another day; besides,
people are registered and booked, move house, and now and then two records turn out to be one person's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from simulator.core.chance import below, number, percent
from simulator.core.population import Role
from simulator.core.practice import Appointment, Practice

OPENS: Final = time(7, 30)
CLOSES: Final = time(18, 0)
SPEED_MAX: Final = 100_000.0
NO_SHOW_SHARE: Final = 6
CANCEL_SHARE: Final = 5
MOVE_SHARE: Final = 4
# One of so many appointments of the day: a change of address, somebody new. A day has one of each at least.
APPOINTMENTS_PER_ADDRESS: Final = 25
APPOINTMENTS_PER_NEW: Final = 40
NEW_MAX: Final = 50


class Happening(StrEnum):
    """What can happen."""

    CHECK_IN = "check-in"
    CHECK_OUT = "check-out"
    NO_SHOW = "no-show"
    CANCEL = "cancel"
    REBOOK = "rebook"
    MOVE = "move"
    REGISTER = "register"
    ADDRESS = "address"
    MERGE = "merge"


@dataclass(frozen=True, slots=True)
class DayEvent:
    """What happens at an instant (UTC). `patient` is empty for somebody who is only now registered.

    `other` is the record that ends in a merge; `seed` decides what is left to chance.
    """

    at: datetime
    kind: Happening
    patient: str
    appointment: str
    seed: int
    other: str = ""


def instant_of(practice: Practice, day: date, at: time) -> datetime:
    """An instant (UTC) of a local time of the practice."""
    return datetime.combine(day, at, practice.zone).astimezone(UTC)


def events_of(practice: Practice, rows: Sequence[Appointment], day: date, seed: int) -> tuple[DayEvent, ...]:
    """The events of a day, in order; `rows` are the appointments that are booked for it."""
    events = [event for row in rows for event in _of_visit(row, instant_of(practice, day, OPENS), seed)]
    events += _of_office(practice, day, seed, len(rows))
    return tuple(sorted(events, key=lambda event: (event.at, event.kind, event.appointment, event.patient)))


def due(events: Sequence[DayEvent], position: int, now: datetime) -> Sequence[DayEvent]:
    """The events from `position` on whose instant has come."""
    return events[position : bisect_right(events, now, lo=position, key=lambda event: event.at)]


def _of_visit(row: Appointment, opens: datetime, seed: int) -> Iterator[DayEvent]:
    own = number(seed, "day", row.id)
    fate = below(100, own, "fate")

    def event(at: datetime, kind: Happening) -> DayEvent:
        return DayEvent(at, kind, row.patient, row.id, number(own, kind))

    ahead = max(opens, row.start - timedelta(minutes=20 + below(160, own, "ahead")))
    if fate < NO_SHOW_SHARE:
        yield event(row.start + timedelta(minutes=15), Happening.NO_SHOW)
    elif fate < NO_SHOW_SHARE + CANCEL_SHARE:
        yield event(ahead, Happening.CANCEL)
        if percent(50, own, "rebook"):
            yield event(ahead + timedelta(minutes=2), Happening.REBOOK)
    elif fate < NO_SHOW_SHARE + CANCEL_SHARE + MOVE_SHARE:
        yield event(ahead, Happening.MOVE)
    else:
        comes = row.start + timedelta(minutes=below(20, own, "comes") - 14)
        yield event(comes, Happening.CHECK_IN)
        yield event(max(comes, row.end) + timedelta(minutes=1 + below(12, own, "leaves")), Happening.CHECK_OUT)


def _of_office(practice: Practice, day: date, seed: int, appointments: int) -> Iterator[DayEvent]:
    """What has no appointment: at any minute of the opening hours."""
    opens, closes = instant_of(practice, day, OPENS), instant_of(practice, day, CLOSES)
    minutes = int((closes - opens).total_seconds()) // 60

    def moment(*what: object) -> datetime:
        return opens + timedelta(minutes=below(minutes, seed, day, *what))

    for count in range(min(1 + appointments // APPOINTMENTS_PER_NEW, NEW_MAX)):
        yield DayEvent(moment("register", count), Happening.REGISTER, "", "", number(seed, day, "register", count))
    for count in range(1 + appointments // APPOINTMENTS_PER_ADDRESS):
        patient = practice.patients.at(below(practice.made, seed, day, "who-moves", count))
        if patient.active:
            at = moment("address", count)
            yield DayEvent(at, Happening.ADDRESS, patient.id, "", number(seed, day, "address", count))
    doubles = [place for place in practice.special() if place.role is Role.DUPLICATE]
    if doubles:
        place = doubles[below(len(doubles), seed, day, "merge")]
        ended, lives = practice.patients.at(place.index), practice.patients.at(place.partner)
        yield DayEvent(moment("merge"), Happening.MERGE, lives.id, "", number(seed, day, "merge"), ended.id)
