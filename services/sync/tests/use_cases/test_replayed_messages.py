"""A message that is replayed: through the inbox again, applied again, and never over newer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from common.models.events import Event
from common.models.identifier_systems import IdentifierSystem
from common.runtime.bus import Bus, Delivery
from common.runtime.inbox import Consumer
from sync.consumers import subscriptions

REPLAY = "rpl_1"


class _NoBus:
    """`handle` is called by the test, so nothing is asked of a bus."""


@pytest.fixture
def consumer(house: Any) -> Consumer:
    """The real inbox before the real handler."""
    (subscription,) = subscriptions(house.apply)
    return Consumer(cast(Bus, _NoBus()), house.database, house.clock, house.ids, subscription)


async def _deliver(consumer: Consumer, events: Sequence[Event]) -> None:
    await consumer.handle([Delivery(event, event.topic, 0, number) for number, event in enumerate(events)])


def _replayed(house: Any, event: Event) -> Event:
    """What hl7-gateway publishes for a replay."""
    return replace(event, id=house.ids.new("evt"), data={**event.data, "duplicate": False, "replay_id": REPLAY})


async def test_it_is_applied_again_although_the_inbox_saw_the_message(
    house: Any, make: Any, consumer: Consumer
) -> None:
    (event,) = await house.receive(("ADT^A08", make.pid(0, "Überall^Ana")))
    await _deliver(consumer, [event])
    house.pms.patients["p0"] = make.patient(0, name=[{"family": "Neu", "given": ["Ana"]}])
    await house.run()
    await _deliver(consumer, [event])  # delivered twice: nothing
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"][0]["family"] == "Neu"
    again = _replayed(house, event)
    await _deliver(consumer, [again])
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"][0]["family"] == "Überall"
    versions = found["version"]
    await _deliver(consumer, [again, _replayed(house, event)])  # the page repeated, and another replay
    (found,) = await house.find(identifier_value="4000")
    assert found["version"] == versions


async def test_it_is_not_applied_over_newer_messages(house: Any, make: Any, consumer: Consumer) -> None:
    (old,) = await house.receive(("ADT^A08", make.pid(0, "Old^Ana")), minutes=1)
    await house.receive(("ADT^A08", make.pid(0, "New^Ana")), minutes=2)
    await _deliver(consumer, [_replayed(house, old)])
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"][0]["family"] == "New"


async def test_what_was_quarantined_is_resolved_once_it_can_be_mapped(
    house: Any, make: Any, consumer: Consumer
) -> None:
    segments = "PID|1||4711^^^NOBODY^MR||Late^Ana"
    events = await house.receive(("ADT^A08", segments), ("ADT^A08", "PID|1||5^^^ELSEWHERE^MR"))
    assert [row[3] for row in await house.quarantined()] == ["open", "open"]
    (known,) = house.directory.known.values()
    systems = (*known.identifier_systems, IdentifierSystem("NOBODY", "urn:oid:1.2.9"))
    house.directory.known[known.id] = replace(known, identifier_systems=systems)
    await _deliver(consumer, [_replayed(house, event) for event in events])
    assert sorted(row[3] for row in await house.quarantined()) == ["open", "resolved"]
    assert len(await house.find(name="late")) == 1
