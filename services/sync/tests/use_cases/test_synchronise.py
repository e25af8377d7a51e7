"""Runs on a real database: pages, crash and resume, no progress, pause, cancel, leases, quarantine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from common.models.errors import SuiteError
from common.models.integration import IntegrationState, Vendor
from sync.core.run import Mode, Resource
from sync.core.run_state import RunState


async def test_patients_come_from_the_appointments_of_the_windows(house: Any) -> None:
    run = await house.run(Resource.PATIENT)
    assert (run.state, run.error_code) == (RunState.FINISHED, None)
    assert (run.records_read, run.created, run.updated, run.unchanged, run.quarantined) == (5, 5, 0, 0, 0)
    assert len(await house.find()) == 5
    # 211 days in windows of 30, each asked once; patients by id, once each.
    assert len(house.pms.windows) == 8
    assert [one for one in house.pms.requests if one.startswith("Patient")] == ["Patient p0,p1,p2", "Patient p3,p4"]
    told = [event.type for event in await house.told("ps.sync.run")]
    assert told == ["ps.sync.run.started", *["ps.sync.run.progressed"] * 9, "ps.sync.run.finished"]
    assert run.pages == 9
    changed = await house.told("ps.record")
    assert len(changed) == 5
    assert changed[0].key == changed[0].data["record_id"]
    assert changed[0].data["changed"] == ["identifiers", "names", "birth_date"]


async def test_a_second_run_changes_nothing_and_a_changed_resource_one_record(house: Any, make: Any) -> None:
    await house.run()
    again = await house.run()
    assert (again.created, again.updated, again.unchanged) == (0, 0, 5)
    house.pms.patients["p1"] = make.patient(1, birthDate="1971-01-01")
    third = await house.run()
    assert (third.updated, third.unchanged) == (1, 4)
    (event,) = [event for event in await house.told("ps.record") if event.data["version"] == 2]
    assert event.data["changed"] == ["birth_date"]
    assert event.data["origin"] == "fhir"


async def test_appointments_bring_the_patients_they_need(house: Any) -> None:
    run = await house.run(Resource.APPOINTMENT, Mode.INCREMENTAL)
    assert (run.state, run.created) == (RunState.FINISHED, 10)
    (first,) = await house.find("appointment", identifier_value="7000")
    (patient,) = await house.find(identifier_value="4000")
    assert first["record"]["participants"][0]["actor"]["record_id"] == patient["id"]
    asked = len(house.pms.requests)
    again = await house.run(Resource.APPOINTMENT, Mode.INCREMENTAL)
    assert again.unchanged == 5
    assert not any(one.startswith("Patient") for one in house.pms.requests[asked:])


async def test_a_killed_process_goes_on_at_its_cursor(house: Any, replica: Any, wait_for: Any) -> None:
    """Killed with the second page in its hands: the other one asks for that page again and for no other."""
    dying = asyncio.Event()

    async def hang(request: str) -> None:
        if request == "page 1" and not dying.is_set():
            dying.set()
            await asyncio.Event().wait()

    house.pms.before = hang
    queued = await house.queue()
    await house.work.look()
    await wait_for(dying)
    for task in house.work._working.values():
        task.cancel()  # nothing is written any more, as after a kill
    await asyncio.gather(*house.work._working.values(), return_exceptions=True)
    left = await house.get(queued)
    assert (left.state, left.pages, left.created) == (RunState.RUNNING, 1, 3)
    house.clock.advance(60)  # its lease runs out
    async with replica() as other:
        await other.work.look()
        await other.work.settle()
    run = await house.get(queued)
    assert (run.state, run.created, run.pages) == (RunState.FINISHED, 5, 9)
    assert house.pms.appointment_requests() == ["page 0", "page 1", "page 1"]
    assert [event.type for event in await house.told("ps.sync.run")].count("ps.sync.run.started") == 1


async def test_a_replica_that_was_taken_for_dead_writes_nothing(house: Any, replica: Any, wait_for: Any) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def stall(request: str) -> None:
        if request == "page 1" and not arrived.is_set():
            arrived.set()
            await go_on.wait()

    house.pms.before = stall
    queued = await house.queue()
    await house.work.look()
    await wait_for(arrived)
    house.clock.advance(60)
    async with replica() as other:
        await other.work.look()
        await other.work.settle()
        assert (await house.get(queued)).state is RunState.FINISHED
        versions = len(await house.told("ps.record"))
        go_on.set()
        await house.work.settle()
        assert len(await house.told("ps.record")) == versions == 5
        assert (await house.get(queued)).pages == 9


@pytest.mark.parametrize("back_to", ["next:0", "next:1"])
async def test_a_page_that_leads_back_ends_the_run(house: Any, back_to: str) -> None:
    house.pms.links[1] = back_to
    run = await house.run()
    assert (run.state, run.error_code) == (RunState.FAILED, "run.no-progress")
    assert len(house.pms.appointment_requests()) <= 3
    (failed,) = await house.told("ps.sync.run.failed")
    assert (failed.data["error_code"], failed.data["fault"]) == ("run.no-progress", "peer")
    # A failed run stands in nobody's way.
    house.pms.links.clear()
    assert (await house.run()).state is RunState.FINISHED


async def test_the_same_page_under_another_link_ends_the_run(house: Any) -> None:
    house.pms.pages[1] = house.pms.pages[0]
    assert (await house.run()).error_code == "run.no-progress"


async def test_a_second_start_names_the_first(house: Any) -> None:
    queued = await house.queue()
    with pytest.raises(SuiteError) as refused:
        await house.queue()
    assert refused.value.code == "run.already-running"
    assert queued.id in str(refused.value.detail)
    assert (await house.queue(Resource.APPOINTMENT)).state is RunState.QUEUED


@pytest.mark.parametrize("code", ["peer.rate-limited", "peer.unauthorized", "credential.rejected"])
async def test_a_failure_ends_the_run_with_its_code(house: Any, code: str) -> None:
    async def fail(request: str) -> None:
        if request == "page 1":
            raise SuiteError(code)

    house.pms.before = fail
    run = await house.run()
    assert (run.state, run.error_code, run.created) == (RunState.FAILED, code, 3)


async def test_a_mistake_of_ours_ends_the_run_too(house: Any) -> None:
    async def fail(_: str) -> None:
        raise KeyError

    house.pms.before = fail
    assert (await house.run()).error_code == "internal.error"


async def test_a_paused_integration_stops_the_run_which_goes_on_later(house: Any, wait_for: Any) -> None:
    waiting = asyncio.Event()

    async def slow(request: str) -> None:
        if request == "page 1" and not waiting.is_set():
            waiting.set()
            await asyncio.Event().wait()  # an answer that takes for ever is not waited for

    house.pms.before = slow
    queued = await house.queue()
    await house.work.look()
    await wait_for(waiting)
    house.directory.set_state(IntegrationState.PAUSED)
    await house.work.settle()
    paused = await house.get(queued)
    assert (paused.state, paused.pages) == (RunState.PAUSED, 1)
    with pytest.raises(SuiteError, match=r"integration\.not-active"):
        await house.queue(Resource.APPOINTMENT)
    await house.work.look()
    await house.work.settle()
    assert (await house.get(queued)).state is RunState.PAUSED
    house.directory.set_state(IntegrationState.ACTIVE)
    await house.work.look()
    await house.work.settle()
    run = await house.get(queued)
    assert (run.state, run.created) == (RunState.FINISHED, 5)
    assert house.pms.appointment_requests() == ["page 0", "page 1", "page 1"]


async def test_a_run_is_cancelled_at_its_page_or_before_it_began(house: Any, wait_for: Any) -> None:
    waiting = asyncio.Event()

    async def slow(request: str) -> None:
        if request == "page 1":
            waiting.set()
            await asyncio.Event().wait()

    house.pms.before = slow
    queued = await house.queue()
    await house.work.look()
    await wait_for(waiting)
    assert (await house.cancel(queued)).cancel_requested
    await house.work.settle()
    cancelled = await house.get(queued)
    assert (cancelled.state, cancelled.created) == (RunState.CANCELLED, 3)
    with pytest.raises(SuiteError, match="cancelled can not cancel"):
        await house.cancel(queued)
    other = await house.queue(Resource.APPOINTMENT)
    assert (await house.cancel(other)).state is RunState.CANCELLED
    assert [event.subject for event in await house.told("ps.sync.run.cancelled")] == [queued.id, other.id]


async def test_an_integration_that_is_gone_fails_the_run(house: Any) -> None:
    queued = await house.queue()
    house.directory.known.clear()
    await house.work.look()
    await house.work.settle()
    assert (await house.get(queued)).error_code == "integration.not-found"


async def test_a_resource_the_vendor_does_not_offer_is_refused(house: Any, make: Any) -> None:
    (known,) = house.directory.known
    house.directory.known[known] = replace(make.integration(Vendor.UNITY), id=known)
    with pytest.raises(SuiteError, match=r"run\.resource-unsupported"):
        await house.queue()


async def test_bad_rows_are_quarantined_and_resolved_when_they_are_corrected(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, birthDate="May 1970")
    # The same number as p0's: one patient or two, only a person can say.
    house.pms.patients["p2"] = make.patient(2, identifier=make.patient(0)["identifier"])
    run = await house.run()
    assert (run.state, run.created, run.quarantined) == (RunState.FINISHED, 3, 2)
    assert await house.quarantined() == [
        ("patient", "record.conflict", "identifiers", "open"),
        ("patient", "record.invalid", "birth_date", "open"),
    ]
    again = await house.run()
    assert again.quarantined == 2
    assert len(await house.quarantined()) == 2  # counted, not piled up
    house.pms.patients["p1"] = make.patient(1)
    await house.run()
    assert ("patient", "record.invalid", "birth_date", "resolved") in await house.quarantined()


async def test_what_the_quarantine_keeps_is_sealed(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, birthDate="May 1970")
    await house.run()
    async with house.database.read() as session:
        connection = await session.connection()
        rows = (await connection.exec_driver_sql("SELECT * FROM quarantine")).all()
    assert "Núñez1" not in repr(rows)
    assert "4001" not in repr(rows)
    assert "'p1'" not in repr(rows)
