"""HL7 after FHIR and back, on a real database."""

from __future__ import annotations

from typing import Any

import pytest

from common.models.errors import SuiteError
from sync.core.run import Mode, Resource

SCH = "SCH|7000^EPC|7000^EPC||||X||OV^Office visit|15|min|^^15^20260302100000-0600|||||||||||||||"


async def test_a_message_changes_the_patient_that_a_run_brought(house: Any, make: Any) -> None:
    await house.run()
    await house.receive(("ADT^A08", make.pid(0, "Überall^Ana")))
    assert len(await house.find()) == 5
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"] == [{"family": "Überall", "given": ["Ana"]}]
    assert (found["version"], found["origin"]) == (2, "hl7v2")
    assert found["record"]["birth_date"] == "1970-05-17"
    event = (await house.told("ps.record"))[-1]
    assert event.data["changed"] == ["names"]
    assert event.data["origin"] == "hl7v2"


async def test_later_polls_keep_it_until_the_pms_really_changes(house: Any, make: Any) -> None:
    await house.run()
    await house.receive(("ADT^A08", make.pid(0, "Überall^Ana||19720101")))
    unchanged = await house.run()
    assert (unchanged.updated, unchanged.unchanged) == (0, 5)
    house.pms.patients["p0"] = make.patient(0, gender="female")
    await house.run()
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"][0]["family"] == "Überall"
    assert found["record"]["gender"] == "female"
    house.pms.patients["p0"] = make.patient(0, gender="female", name=[{"family": "Neu", "given": ["Ana"]}])
    await house.run()
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["names"][0]["family"] == "Neu"
    assert found["record"]["birth_date"] == "1972-01-01"


async def test_a_patient_that_hl7_brought_first_is_found_by_the_run(house: Any, make: Any) -> None:
    await house.receive(("ADT^A04", make.pid(0, "Ahead^Ana|||F")))
    run = await house.run()
    assert (run.created, run.updated) == (4, 1)
    (found,) = await house.find(identifier_value="4000")
    assert found["record"]["gender"] == "female"


async def test_null_clears_and_absent_keeps(house: Any, make: Any) -> None:
    await house.run()
    await house.receive(("ADT^A31", make.pid(0, '||""')))
    (found,) = await house.find(identifier_value="4000")
    assert "birth_date" not in found["record"]
    assert found["record"]["names"]


async def test_a_batch_about_one_patient_makes_a_version_per_message_in_order(house: Any, make: Any) -> None:
    await house.receive(*(("ADT^A08", make.pid(0, f"Name{number}^Ana")) for number in range(3)))
    (found,) = await house.find(name="name2")
    assert found["version"] == 3
    assert await house.find(name="name0") == []
    assert [event.data["version"] for event in await house.told("ps.record")] == [1, 2, 3]


async def test_an_older_message_is_not_applied_over_a_newer_one(house: Any, make: Any) -> None:
    await house.receive(("ADT^A08", make.pid(0, "New^Ana")), minutes=10)
    await house.receive(("ADT^A08", make.pid(0, "Old^Ana")), minutes=9)
    (found,) = await house.find(identifier_value="4000")
    assert (found["record"]["names"][0]["family"], found["version"]) == ("New", 1)


async def test_an_siu_changes_the_appointment_that_a_run_brought(house: Any, make: Any) -> None:
    await house.run(Resource.APPOINTMENT, Mode.INCREMENTAL)
    await house.receive(("SIU^S13", f"{SCH}\r{make.pid(0)}"))
    (found,) = await house.find("appointment", identifier_value="7000")
    assert found["record"]["start"] == "2026-03-02T16:00:00.000Z"
    actor = found["record"]["participants"][0]["actor"]
    assert actor["external_id"] == "p0"  # the same patient, so what the resource said stays
    await house.receive(("SIU^S15", f"{SCH}\r{make.pid(0)}"), minutes=1)
    (found,) = await house.find("appointment", identifier_value="7000")
    assert found["record"]["status"] == "cancelled"
    assert len(await house.find("appointment")) == 5


async def test_an_siu_for_a_new_patient_brings_both(house: Any, make: Any) -> None:
    await house.receive(("SIU^S12", f"{SCH}\r{make.pid(9, 'New^Ana')}"))
    (patient,) = await house.find(name="new")
    (found,) = await house.find("appointment")
    assert found["record"]["participants"][0]["actor"]["record_id"] == patient["id"]


@pytest.mark.parametrize(
    ("kind", "segments", "expected"),
    [
        ("ADT^A08", "EVN|A08", ("patient", "hl7.field-missing", "PID", "open")),
        ("ADT^A08", "PID|1||4711^^^NOBODY^MR", ("patient", "hl7.authority-unmapped", "PID-3.4", "open")),
        ("ADT^A08", "PID|1||4711^^^EPIC^MR|||||9", ("patient", "record.invalid", "PID-8", "open")),
        ("SIU^S12", "SCH|1^NOBODY", ("appointment", "hl7.authority-unmapped", "SCH-2.2", "open")),
    ],
)
async def test_what_can_not_be_mapped_waits_in_quarantine_and_holds_up_nobody(
    house: Any, make: Any, kind: str, segments: str, expected: tuple[str, str, str, str]
) -> None:
    await house.receive((kind, segments), ("ADT^A08", make.pid(0, "Behind^Ana")))
    assert await house.quarantined() == [expected]
    assert len(await house.find(name="behind")) == 1


async def test_identifiers_of_two_patients_are_a_conflict(house: Any, make: Any) -> None:
    await house.run()
    both = "PID|1||4000^^^EPIC^MR~4001^^^EPIC^MR||Both^Ana"
    await house.receive(("SIU^S12", f"{SCH}\r{both}"))
    assert await house.quarantined() == [("appointment", "record.conflict", "identifiers", "open")]
    assert await house.find(name="both") == []
    assert await house.find("appointment") == []


async def test_messages_of_other_kinds_unreadable_ones_and_gone_ones_are_let_go(house: Any) -> None:
    events = await house.receive(("ORU^R01", "PID|1"))
    (message,) = house.messages.bodies.values()
    house.messages.bodies["msg_bad"] = type(message)("msg_bad", "hl7-in", "ADT", "A08", message.received_at, b"HELLO")
    await house.handle([*events, house.event("msg_bad", "ADT", "A08"), house.event("msg_gone", "ADT", "A08")])
    assert await house.quarantined() == [("patient", "hl7.unparsable", "message", "open")]


async def test_an_unknown_integration_is_quarantined_and_an_absent_gateway_is_waited_for(house: Any, make: Any) -> None:
    (event,) = await house.receive(("ADT^A08", make.pid(0, "X^Ana")))
    foreign = house.event(event.subject, "ADT", "A08", integration_id="int_gone")
    await house.handle([foreign])
    assert ("patient", "integration.not-found", "message", "open") in await house.quarantined()
    house.messages.failure = SuiteError("service.unavailable")
    with pytest.raises(SuiteError, match=r"service\.unavailable"):
        await house.handle([event])
