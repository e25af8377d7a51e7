"""Merges of patients and charges that come by HL7, on a real database."""

from __future__ import annotations

from typing import Any

from sync.core.run import Mode, Resource

GUARANTOR = "PV1|1|O|||||||||||||||||V-9"
FT1 = "FT1|{0}|T-{0}||20260301093000|20260302|{1}|99213^Office visit^C4|||1|80.00&USD"


def merge(kept: int, retired: int) -> str:
    return f"EVN|A40\rPID|1||{4000 + kept}^^^EPIC||Kept^Ana\rMRG|{4000 + retired}^^^EPIC"


def patients_of(appointment: dict[str, Any]) -> list[str]:
    actors = [one["actor"] for one in appointment["record"]["participants"]]
    return [actor["record_id"] for actor in actors if actor["type"] == "Patient"]


async def test_appointments_that_are_not_in_the_message_go_to_the_survivor(house: Any) -> None:
    await house.run(Resource.APPOINTMENT)
    await house.run()
    before = await house.find()
    (kept,), (gone,) = [await house.find(identifier_value=str(4000 + number)) for number in (0, 1)]
    booked = await house.find("appointment")
    assert [patients_of(one) for one in booked].count([gone["id"]]) == 1
    await house.receive(("ADT^A40", merge(0, 1)), minutes=40)
    booked = await house.find("appointment")
    assert [patients_of(one) for one in booked].count([kept["id"]]) == 2
    assert len(await house.find()) == len(before)
    (found,) = await house.find(identifier_value="4001")
    assert found["id"] == kept["id"]
    told = [(event.subject, event.data["record_type"]) for event in await house.told("ps.record")][-4:]
    assert {kind for _, kind in told} == {"patient", "appointment"}
    assert {record_id for record_id, kind in told if kind == "patient"} == {kept["id"], gone["id"]}


async def test_runs_afterwards_find_nothing_to_complain_of(house: Any, make: Any) -> None:
    await house.run(Resource.APPOINTMENT)
    await house.run()
    await house.receive(("ADT^A40", merge(0, 1)), minutes=40)
    booked = {one["id"]: one["version"] for one in await house.find("appointment")}
    for mode in (Mode.FULL, Mode.INCREMENTAL):
        assert (await house.run(Resource.APPOINTMENT, mode)).updated == 0
        assert (await house.run(Resource.PATIENT, mode)).updated == 0
    assert {one["id"]: one["version"] for one in await house.find("appointment")} == booked
    assert await house.quarantined() == []


async def test_a_group_that_cannot_be_read_applies_nothing_and_is_resolved_by_a_replay(house: Any) -> None:
    await house.run()
    second = "PID|2||4002^^^EPIC||Kept^Ana\rMRG|4003^^^NOBODY"
    (event,) = await house.receive(("ADT^A40", f"{merge(0, 1)}\r{second}"), minutes=40)
    assert await house.quarantined() == [("patient", "hl7.authority-unmapped", "MRG-1.4", "open")]
    assert len(await house.find(identifier_value="4001")) == 1
    assert (await house.find(identifier_value="4000"))[0]["version"] == 1
    message = house.messages.bodies[event.subject]
    mended = message.body.replace(b"NOBODY", b"EPIC")
    house.messages.bodies[event.subject] = type(message)(
        message.id, message.channel, "ADT", "A40", message.received_at, mended
    )
    await house.handle([house.event(event.subject, "ADT", "A40", replay_id="rpl_1")])
    assert [row[3] for row in await house.quarantined()] == ["resolved"]
    (first,) = await house.find(identifier_value="4001")
    (other,) = await house.find(identifier_value="4003")
    assert first["id"] != other["id"]
    assert {one["value"] for one in first["record"]["identifiers"]} >= {"4000", "4001"}


async def test_the_reverse_merge_waits_for_a_person(house: Any) -> None:
    await house.run()
    await house.receive(("ADT^A40", merge(0, 1)), minutes=40)
    await house.receive(("ADT^A40", merge(1, 0)), minutes=41)
    assert await house.quarantined() == [("patient", "record.merge-cycle", "MRG-1", "open")]


async def test_charges_of_a_message_each_for_itself(house: Any, make: Any) -> None:
    await house.run()
    rows = [FT1.format(1, "CG"), FT1.format(2, "??"), FT1.format(3, "PY")]
    message = "\r".join((make.pid(0, "Ana"), GUARANTOR, *rows))
    (event,) = await house.receive(("DFT^P03", message), minutes=30)
    found = await house.find("charge")
    assert sorted(one["record"]["kind"] for one in found) == ["charge", "payment"]
    (patient,) = await house.find(identifier_value="4000")
    assert {one["record"]["subject"]["record_id"] for one in found} == {patient["id"]}
    assert await house.quarantined() == [("charge", "record.invalid", "FT1[2]-6", "open")]
    body = house.messages.bodies[event.subject]
    house.messages.bodies[event.subject] = type(body)(
        body.id, body.channel, "DFT", "P03", body.received_at, body.body.replace(b"|??|", b"|CD|")
    )
    await house.handle([house.event(event.subject, "DFT", "P03", replay_id="rpl_1")])
    assert sorted(one["record"]["kind"] for one in await house.find("charge")) == ["charge", "credit", "payment"]
    assert [row[3] for row in await house.quarantined()] == ["resolved"]


async def test_charges_go_with_their_patient_when_he_is_merged(house: Any, make: Any) -> None:
    await house.run()
    await house.receive(("DFT^P03", f"{make.pid(1, 'Ana')}\r{FT1.format(1, 'CG')}"), minutes=30)
    await house.receive(("ADT^A40", merge(0, 1)), minutes=40)
    (kept,) = await house.find(identifier_value="4000")
    (charge,) = await house.find("charge")
    assert charge["record"]["subject"]["record_id"] == kept["id"]
    assert charge["version"] == 2
