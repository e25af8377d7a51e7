"""HL7 times, with and without offset, around clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7v2.timestamp import format_timestamp, parse_timestamp

CHICAGO = ZoneInfo("America/Chicago")


@pytest.mark.parametrize(
    ("text", "instant", "precision", "offset"),
    [
        ("2026", datetime(2026, 1, 1, 6, tzinfo=UTC), "year", None),
        ("20260301", datetime(2026, 3, 1, 6, tzinfo=UTC), "day", None),
        ("202607010930", datetime(2026, 7, 1, 14, 30, tzinfo=UTC), "minute", None),
        ("20260701093000.25-0700", datetime(2026, 7, 1, 16, 30, 0, 250000, tzinfo=UTC), "second", "-07:00"),
        ("20260701093000+0530", datetime(2026, 7, 1, 4, 0, tzinfo=UTC), "second", "+05:30"),
    ],
)
def test_texts(text: str, instant: datetime, precision: str, offset: str | None) -> None:
    found = parse_timestamp(text, CHICAGO)
    assert found is not None
    assert (found.instant, found.precision, found.offset, found.note) == (instant, precision, offset, None)


@pytest.mark.parametrize("text", ["", "20261301", "20260230", "2026030125", "yesterday", "20260301+9900", "202"])
def test_what_is_no_time(text: str) -> None:
    assert parse_timestamp(text, CHICAGO) is None


def test_clock_changes_are_said() -> None:
    skipped, repeated = parse_timestamp("20260308023000", CHICAGO), parse_timestamp("20261101013000", CHICAGO)
    assert skipped is not None
    assert repeated is not None
    assert (skipped.note, repeated.note) == ("skipped", "repeated")


@given(st.text("0123456789+-.", max_size=30))
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = parse_timestamp(text, CHICAGO)
    assert found is None or found.instant.tzinfo is UTC


@given(st.integers(-2_000_000_000, 4_000_000_000))
def test_written_times_are_read_back(seconds: int) -> None:
    instant = datetime.fromtimestamp(seconds, UTC)
    found = parse_timestamp(format_timestamp(instant), CHICAGO)
    assert found is not None
    assert found.instant == instant


def test_an_instant_without_zone_is_not_written() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_timestamp(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None))


def test_early_years_keep_four_digits() -> None:
    assert format_timestamp(datetime(987, 1, 2, tzinfo=UTC)) == "09870102000000+0000"
