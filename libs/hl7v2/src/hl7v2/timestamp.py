"""HL7 times (DTM, TS): text → instant (HL7 v2.5.1 §2.A.22).

`YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`. A text without offset is local time of the facility, whose zone is an
argument. A time that a clock change skips or repeats is said so, not guessed silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

_TEXT: Final = re.compile(
    r"(?P<year>[0-9]{4})(?:(?P<month>[0-9]{2})(?:(?P<day>[0-9]{2})(?:(?P<hour>[0-9]{2})(?:(?P<minute>[0-9]{2})"
    r"(?:(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,4}))?)?)?)?)?)?(?P<offset>[+-][0-9]{4})?"
)
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """An instant in UTC, how precise its text was, the offset that was given (None: the facility's zone was taken).

    `note` is "skipped" or "repeated" for a local time that a clock change leaves out or has twice (the first is taken).
    """

    instant: datetime
    precision: str
    offset: str | None
    note: str | None = None


def parse_timestamp(text: str, zone: tzinfo) -> Timestamp | None:
    """The time of an HL7 text, None when it is none (or no date of the calendar)."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    given = [match[part] for part in _PARTS if match[part] is not None]
    numbers = [int(part) for part in given] + [1, 1, 0, 0, 0][len(given) - 1 :]
    microsecond = int((match["fraction"] or "0").ljust(6, "0"))
    precision = _PARTS[len(given) - 1]
    try:
        year, month, day, hour, minute, second = numbers[:6]
        local = datetime(year, month, day, hour, minute, second, microsecond)  # noqa: DTZ001 - its zone is put on below
        if match["offset"]:
            given_zone = _zone(match["offset"])
            return Timestamp(local.replace(tzinfo=given_zone).astimezone(UTC), precision, _shown(match["offset"]))
        aware = local.replace(tzinfo=zone)
        return Timestamp(aware.astimezone(UTC), precision, None, _note(aware))
    except (ValueError, OverflowError):
        return None


def format_timestamp(instant: datetime) -> str:
    """`YYYYMMDDHHMMSS+ZZZZ` of an aware datetime. Raises ValueError for one without a zone."""
    offset = instant.strftime("%z")[:5]
    if not offset:
        raise ValueError("an instant needs a zone")
    return f"{instant.year:04}{instant:%m%d%H%M%S}{offset}"


def _zone(offset: str) -> timezone:
    hours, minutes = int(offset[1:3]), int(offset[3:5])
    if hours > 14 or minutes > 59:
        raise ValueError("no such offset")
    delta = timedelta(hours=hours, minutes=minutes)
    return timezone(-delta if offset[0] == "-" else delta)


def _shown(offset: str) -> str:
    return f"{offset[:3]}:{offset[3:]}"


def _note(aware: datetime) -> str | None:
    there_and_back = aware.astimezone(UTC).astimezone(aware.tzinfo)
    if there_and_back.replace(tzinfo=None) != aware.replace(tzinfo=None):
        return "skipped"
    if aware.replace(fold=1).utcoffset() != aware.utcoffset():
        return "repeated"
    return None
