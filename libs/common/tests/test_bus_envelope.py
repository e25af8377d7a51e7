"""The envelope of the bus: what goes in comes out, what is none of ours is refused, keys hash as Kafka hashes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiokafka.partitioner import murmur2 as kafka_murmur2
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from common.models.events import EVENT_TYPES, Event
from common.runtime.bus import UnreadableError, from_record, murmur2, partition_of, to_record

VALUES = {
    "string": st.text(),
    "integer": st.integers(-(2**53), 2**53),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "array": st.lists(st.text(), max_size=3),
    "object": st.dictionaries(st.text(), st.text(), max_size=3),
}
TYPES = sorted(EVENT_TYPES)
EVENT = Event(
    id="evt_1",
    type="ps.credential.refreshed",
    source="/auth-gateway/1",
    subject="int_1",
    time=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    tenant="ten_1",
    key="int_1",
    data={"integration_id": "int_1", "http_status": 200},
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    generation=3,
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    row = EVENT_TYPES[draw(st.sampled_from(TYPES))]
    fields = {name: st.none() | VALUES[kind] for name, kind in row.fields.items()}
    instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    deleted = draw(st.booleans())
    return Event(
        id=draw(st.text(min_size=1)),
        type=row.name,
        source="/test/1",
        subject=draw(st.text()),
        time=draw(instants),
        tenant=draw(st.text()),
        key=draw(st.text()),
        data={} if deleted else draw(st.fixed_dictionaries({}, optional=fields)),
        traceparent=draw(st.text()),
        generation=draw(st.integers(0, 100)),
        deleted=deleted,
    )


@given(events())
def test_an_event_survives_the_bus(event: Event) -> None:
    assert from_record(*to_record(event)) == event


def test_a_record_is_a_cloudevent_in_binary_mode() -> None:
    headers, key, value = to_record(EVENT)
    assert key == b"int_1"
    assert value is not None
    found = from_binary(KafkaMessage(headers, key, value), JSONFormat(), CloudEvent)
    assert found.get_attributes() == {
        "specversion": "1.0",
        "id": "evt_1",
        "type": "ps.credential.refreshed",
        "source": "/auth-gateway/1",
        "subject": "int_1",
        "time": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        "datacontenttype": "application/json",
        "dataschema": "urn:practice-studio:event:ps.credential.refreshed:1",
        "tenant": "ten_1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "partitionkey": "int_1",
        "generation": "3",
    }
    assert found.get_data() == {"integration_id": "int_1", "http_status": 200}


def test_a_field_of_a_newer_version_is_left_out() -> None:
    headers, key, _ = to_record(EVENT)
    assert from_record(headers, key, b'{"http_status":200,"a_later_field":1}').data == {"http_status": 200}


@pytest.mark.parametrize("header", ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time", "ce_tenant"])
def test_a_record_without_a_required_attribute_is_unreadable(header: str) -> None:
    headers, key, value = to_record(EVENT)
    del headers[header]
    with pytest.raises(UnreadableError):
        from_record(headers, key, value)


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ({}, b"{"),
        ({}, b"[]"),
        ({}, b'{"http_status":"200"}'),
        ({"ce_type": b"ps.unknown"}, b"{}"),
        ({"ce_time": b"yesterday"}, b"{}"),
        ({"ce_time": b"2026-03-01T09:30:00"}, b"{}"),
        ({"ce_generation": b"first"}, b"{}"),
        ({"ce_specversion": b"2.0"}, b"{}"),
        ({"ce_id": b"\xff"}, b"{}"),
    ],
)
def test_what_is_no_event_of_ours_is_unreadable(changed: dict[str, bytes], value: bytes) -> None:
    headers, key, _ = to_record(EVENT)
    with pytest.raises(UnreadableError):
        from_record(headers | changed, key, value)


@given(st.dictionaries(st.text(max_size=12), st.binary(max_size=12)), st.none() | st.binary(), st.none() | st.binary())
def test_any_bytes_are_unreadable_and_nothing_worse(
    headers: dict[str, bytes], key: bytes | None, value: bytes | None
) -> None:
    with pytest.raises(UnreadableError):
        from_record(headers, key, value)


@given(st.binary())
def test_keys_hash_as_kafka_hashes_them(key: bytes) -> None:
    assert murmur2(key) == kafka_murmur2(key) & 0xFFFFFFFF


@given(st.binary(min_size=1), st.integers(1, 100))
def test_a_partition_is_the_one_of_kafkas_partitioner(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (kafka_murmur2(key) & 0x7FFFFFFF) % partitions
