"""Time and identifiers as arguments: the two protocols every use case takes, and their fakes.

Instants are aware datetimes in UTC; their text form is RFC 3339 with milliseconds and `Z`. Where a source gave an
offset, the offset is kept beside the instant as text (`+HH:MM`), because "09:00 in Chicago" is lost otherwise.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from common.models.identifiers import type_id, uuid7


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""


class Ids(Protocol):
    """Where new identifiers come from."""

    def new(self, prefix: str) -> str:
        """A new TypeID with that prefix, sortable by time of creation."""

    def token(self, size_bytes: int = 32) -> str:
        """An unguessable base64url text of that many random bytes."""

    def fraction(self) -> float:
        """A number in [0, 1) for jitter; not for secrets."""


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime) -> None:
        self._now = at.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both hands forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class SequenceIds:
    """Identifiers in a fixed sequence, for tests that compare whole results."""

    def __init__(self, start: int = 1) -> None:
        self._next = start

    def new(self, prefix: str) -> str:
        number = self._next
        self._next += 1
        return type_id(prefix, uuid7(1_700_000_000_000, number))

    def token(self, size_bytes: int = 32) -> str:
        number = self._next
        self._next += 1
        return f"token-{number:0{size_bytes}d}"

    def fraction(self) -> float:
        return 0.5


def instant_text(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-03-01T09:30:00.000Z`."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """The instant of an RFC 3339 text, in UTC. Raises ValueError for anything else, a missing offset included."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant needs an offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("an instant lies between the years 1 and 9999 in UTC") from error


def offset_text(instant: datetime) -> str:
    """The offset of an aware datetime as `+HH:MM`."""
    text = instant.strftime("%z")
    if not text:
        raise ValueError("an instant needs a time zone")
    return f"{text[:3]}:{text[3:5]}"
