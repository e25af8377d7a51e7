"""Events as text: what goes in comes out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.clock import instant_text, parse_instant
from common.models.events import EVENT_TYPES, Event
from common.runtime.event_text import event_text, parse_event

VALUES = {
    "string": st.text(),
    "integer": st.integers(-(2**53), 2**53),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "array": st.lists(st.text(), max_size=3),
    "object": st.dictionaries(st.text(), st.text(), max_size=3),
}
TYPES = sorted(EVENT_TYPES)


@st.composite
def events(draw: st.DrawFn) -> Event:
    row = EVENT_TYPES[draw(st.sampled_from(TYPES))]
    fields = {name: st.none() | VALUES[kind] for name, kind in row.fields.items()}
    instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    return Event(
        id=draw(st.text()),
        type=row.name,
        source="/test/1",
        subject=draw(st.text()),
        time=parse_instant(instant_text(draw(instants))),
        tenant="ten_1",
        key=draw(st.text()),
        data=draw(st.fixed_dictionaries({}, optional=fields)),
        traceparent=draw(st.text()),
        generation=draw(st.integers(0, 100)),
        deleted=draw(st.booleans()),
    )


@given(events())
def test_an_event_survives_the_outbox(event: Event) -> None:
    assert parse_event(event_text(event)) == event


@given(st.sampled_from(TYPES))
def test_a_type_that_this_code_does_not_know_is_an_error(name: str) -> None:
    event = Event("evt_1", name, "/test/1", "", datetime(2026, 3, 1, tzinfo=UTC), "ten_1", "")
    with pytest.raises(ValueError, match="unknown event type"):
        parse_event(event_text(event).replace(name, "ps.unknown"))
