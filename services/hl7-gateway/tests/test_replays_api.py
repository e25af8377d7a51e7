"""Replays through the API, in the module as the host runs it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
WAIT_S = 20.0
WHY = {"reason": "consumer was repaired"}
Message = Callable[..., bytes]


async def _receive(suite: Any, connect: Any, *bodies: bytes) -> list[dict[str, Any]]:
    """The messages as the search shows them, in the order they were sent."""
    client = await connect(suite.mllp_port)
    await client.send(*bodies)
    for _ in bodies:
        await client.code()
    client.close()
    await client.writer.wait_closed()
    async with suite.client(Role.DATA_STEWARD) as steward:
        found = (await steward.post("/hl7/v1/messages:search", json={})).json()
    assert found["complete"]
    by_control_id = {item["control_id"]: item for item in found["items"]}
    return [by_control_id[body.split(b"|")[9].decode()] for body in bodies]


async def wait_for_replayed(suite: Any, count: int) -> list[Any]:
    """The received events on the bus that are replays, once there are so many."""
    since = suite.runtime.clock.now() - timedelta(hours=1)
    async with asyncio.timeout(WAIT_S):
        while True:
            events = [found.event async for found in suite.runtime.bus.history("ps.hl7.received.v1", since)]
            again = [event for event in events if event.data.get("replay_id")]
            if len(again) >= count:
                return again
            await asyncio.sleep(0.01)


async def _start(suite: Any, **body: Any) -> Any:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        return await admin.post("/hl7/v1/replays", json={"filter": {}, **WHY, **body})


async def wait_for_state(suite: Any, replay_id: str, state: str, code: str | None = None) -> Any:
    async with asyncio.timeout(WAIT_S), suite.client(Role.VIEWER) as viewer:
        while True:
            shown = (await viewer.get(f"/hl7/v1/replays/{replay_id}")).json()
            if (shown["state"], shown["waiting_code"]) == (state, code):
                return shown
            await asyncio.sleep(0.01)


async def wait_for_seen(there: Any, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(there.seen) < count:  # noqa: ASYNC110 - the receiver is what tells, with a bound
            await asyncio.sleep(0.01)


async def _move(suite: Any, replay_id: str, step: str) -> Any:
    async with suite.client(Role.OPERATOR) as operator:
        return await operator.post(f"/hl7/v1/replays/{replay_id}:{step}", json=WHY)


async def _sender(suite: Any, port: int, **sending: Any) -> tuple[str, str]:
    configuration = {
        "name": "Out",
        "direction": "sender",
        "integration_id": INTEGRATION_ID,
        "host": "127.0.0.1",
        "port": port,
        "sending": {"backoff": {"first_ms": 10, "max_ms": 50}, **sending},
    }
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        response = await admin.post("/hl7/v1/connections", json={"configuration": configuration, **WHY})
    assert response.status_code == 201, response.text
    return str(response.headers["location"]), response.json()["id"]


def _delete_body(data: Path, message_id: str) -> None:
    with closing(sqlite3.connect(data / "hl7-intake.sqlite3")) as intake, intake:
        intake.execute("DELETE FROM body WHERE id = ?", (message_id,))


async def test_one_message_is_told_of_again(suite: Any, connect: Any, message: Message) -> None:
    (first,) = await _receive(suite, connect, message("r-1"))
    async with suite.client(Role.OPERATOR) as operator:
        answer = await operator.post(f"/hl7/v1/messages/{first['id']}:replay", json=WHY)
    assert answer.status_code == 202, answer.text
    (event,) = await wait_for_replayed(suite, 1)
    told = answer.json()
    assert (event.id, event.data["replay_id"]) == (told["event_id"], told["replay_id"])
    assert (event.data["message_id"], event.data["duplicate"]) == (first["id"], False)
    assert event.key == first["patient_key"]  # the key that the first one had: its order holds
    async with suite.client(Role.AUDITOR) as auditor:
        entry = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"][0]
    assert (entry["action"], entry["subject"], entry["reason"]) == ("message.replayed", first["id"], WHY["reason"])
    assert entry["detail"] == {"replay_id": told["replay_id"]}


async def test_what_can_not_be_replayed_says_why(suite: Any, connect: Any, message: Message, tmp_path: Path) -> None:
    gone, rejected = await _receive(suite, connect, message("r-1"), message("r-2", kind="BAR^P01"))
    _delete_body(tmp_path, gone["id"])
    cases = [
        (gone["id"], 410, "message.body-deleted"),
        (rejected["id"], 409, "message.not-replayable"),
        (type_id("msg", uuid7(1, 1)), 404, "message.not-found"),
        ("nonsense", 404, "request.invalid-id"),
    ]
    async with suite.client(Role.OPERATOR) as operator:
        for message_id, status, code in cases:
            refused = await operator.post(f"/hl7/v1/messages/{message_id}:replay", json=WHY)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert (await operator.post(f"/hl7/v1/messages/{gone['id']}:replay", json={})).status_code == 422
    async with suite.client(Role.OPERATOR, tenant=OTHER_TENANT) as stranger:
        refused = await stranger.post(f"/hl7/v1/messages/{gone['id']}:replay", json=WHY)
    assert refused.json()["code"] == "message.not-found"
    async with suite.client(Role.PHI_REVIEWER) as reviewer:
        read = await reviewer.post(f"/hl7/v1/messages/{gone['id']}:read-body", json=WHY)
    assert (read.status_code, read.json()["code"]) == (410, "message.body-deleted")


async def test_a_preview_says_what_would_happen_and_does_nothing(suite: Any, connect: Any, message: Message) -> None:
    bodies = [message("p-1"), message("p-2", kind="BAR^P01"), message("p-3"), message("p-4", kind="ADT^A04")]
    found = await _receive(suite, connect, *bodies)
    seen = await _start(suite, preview=True, rate_per_s=2)
    assert seen.status_code == 200
    shown = seen.json()
    assert (shown["count"], shown["complete"]) == (4, True)
    assert (shown["first"]["id"], shown["last"]["id"]) == (found[0]["id"], found[-1]["id"])
    assert shown["by_type"][0] == {"message_type": "ADT", "trigger_event": "A08", "state": "received", "count": 2}
    assert shown["would"]["hand_over"] == 3
    assert shown["would"]["skip"] == {"message.not-replayable": 1}
    assert shown["would"]["duration_s"] == 1.5
    patient = {"filter": {"patient": {"system": "EPIC", "value": "nobody"}}}
    assert (await _start(suite, preview=True, **patient)).json()["count"] == 0
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/hl7/v1/replays")).json()["items"] == []


async def test_many_messages_are_told_of_again_in_their_order(suite: Any, connect: Any, message: Message) -> None:
    bodies = [*(message(f"b-{number}") for number in range(30)), message("x", kind="BAR^P01")]
    found = await _receive(suite, connect, *bodies)
    started = await _start(suite, rate_per_s=1000)
    assert started.status_code == 202, started.text
    replay_id = started.json()["id"]
    assert started.headers["location"] == f"/hl7/v1/replays/{replay_id}"
    shown = await wait_for_state(suite, replay_id, "done")
    assert (shown["total"], shown["done"], shown["remaining"]) == (31, 30, 0)
    assert shown["skipped"] == {"message.not-replayable": 1}
    assert shown["measured_per_s"] > 0
    events = await wait_for_replayed(suite, 30)
    assert [event.data["message_id"] for event in events] == [one["id"] for one in found[:30]]
    assert {event.data["replay_id"] for event in events} == {replay_id}
    assert (await _move(suite, replay_id, "cancel")).json()["code"] == "request.conflict"


async def test_a_patient_in_the_filter_is_kept_as_a_pseudonym(
    suite: Any, connect: Any, message: Message, tmp_path: Path
) -> None:
    await _receive(suite, connect, message("q-1"), message("q-2", patient="CANARY99^^^EPIC^MR"))
    patient = {"system": "EPIC", "value": "CANARY99"}
    started = (await _start(suite, filter={"patient": patient, "message_type": "ADT"})).json()
    shown = await wait_for_state(suite, started["id"], "done")
    assert (shown["total"], shown["filter"]) == (1, {"message_type": "ADT", "patient": True})
    assert _files_with(tmp_path, b"CANARY99") == []


async def test_pause_resume_and_cancel(suite: Any, connect: Any, message: Message) -> None:
    await _receive(suite, connect, *(message(f"s-{number}") for number in range(3)))
    replay_id = (await _start(suite, rate_per_s=0.1)).json()["id"]  # one message, then nothing for ten seconds
    await wait_for_replayed(suite, 1)
    paused = await _move(suite, replay_id, "pause")
    assert (paused.json()["state"], paused.json()["done"], paused.json()["remaining"]) == ("paused", 1, 2)
    assert paused.json()["remaining_s"] == 20
    assert (await _move(suite, replay_id, "resume")).json()["state"] == "running"
    cancelled = (await _move(suite, replay_id, "cancel")).json()
    assert (cancelled["state"], cancelled["remaining"]) == ("cancelled", 2)
    assert cancelled["ended_at"] is not None
    again = await _move(suite, replay_id, "resume")
    assert (again.status_code, again.json()["code"]) == (409, "request.conflict")
    async with suite.client(Role.AUDITOR) as auditor:
        entries = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"]
    assert [entry["action"] for entry in entries][:4] == [
        "replay.cancelled",
        "replay.resumed",
        "replay.paused",
        "replay.created",
    ]


async def test_a_full_queue_makes_a_replay_wait_and_loses_nothing(
    suite: Any, connect: Any, message: Message, receiver: Any
) -> None:
    found = await _receive(suite, connect, *(message(f"f-{number}") for number in range(7)))
    there = await receiver()
    path, connection_id = await _sender(suite, there.port, queue_messages_max=4)
    async with suite.client(Role.OPERATOR) as operator:
        await operator.post(f"{path}:pause", json=WHY)
        target = {"kind": "connection", "connection_id": connection_id}
        seen = (await _start(suite, target=target, preview=True)).json()
        assert seen["would"]["queue"] == {
            "state": "paused",
            "depth": 0,
            "queue_messages_max": 4,
            "room_for_replays": 2,
        }
        replay_id = (await _start(suite, target=target, rate_per_s=100)).json()["id"]
        waiting = await wait_for_state(suite, replay_id, "running", "connection.queue-full")
        assert waiting["done"] == 2  # half of the queue is left to what happens now
        await operator.post(f"{path}:resume", json=WHY)
    done = await wait_for_state(suite, replay_id, "done")
    assert (done["done"], done["skipped"]) == (7, {})
    await wait_for_seen(there, 7)
    assert there.seen == [one["control_id"] for one in found]


async def test_what_a_connection_can_not_carry_is_skipped_and_counted(
    suite: Any, connect: Any, message: Message, receiver: Any, tmp_path: Path
) -> None:
    bodies = [message("k-1"), message(""), message("k-3", kind="BAR^P01"), message("k-4")]
    found = await _receive(suite, connect, *bodies)
    _delete_body(tmp_path, found[-1]["id"])
    there = await receiver()
    _, connection_id = await _sender(suite, there.port)
    started = await _start(suite, target={"kind": "connection", "connection_id": connection_id})
    done = await wait_for_state(suite, started.json()["id"], "done")
    assert done["done"] == 2  # a message that we rejected may be right for another receiver
    assert done["skipped"] == {"hl7.field-missing": 1, "message.body-deleted": 1}


async def test_what_is_wrong_with_a_replay_iswait_for_replayed(
    suite: Any, connect: Any, message: Message, free_port: int
) -> None:
    nobody = type_id("con", uuid7(1, 1))
    await _receive(suite, connect, message("w-1"))
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"filter": {"control_id": "absent"}}, 422, "replay.empty"),
        ({"target": {"kind": "connection", "connection_id": nobody}}, 404, "connection.not-found"),
        ({"target": {"kind": "connection"}}, 404, "request.invalid-id"),
        ({"target": {"kind": "moon"}}, 422, "request.invalid"),
        ({"rate_per_s": 0}, 422, "request.invalid"),
        ({"rate_per_s": 1e9}, 422, "request.invalid"),
        ({"filter": {"limit": 3}}, 422, "request.invalid"),
        ({"filter": {"unknown": 3}}, 422, "request.invalid"),
        ({"reason": ""}, 422, "request.invalid"),
    ]
    for body, status, code in cases:
        refused = await _start(suite, **body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body
    path, connection_id = await _sender(suite, free_port)
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await admin.post(f"{path}:disable", json=WHY)
    refused = await _start(suite, target={"kind": "connection", "connection_id": connection_id})
    assert (refused.status_code, refused.json()["code"]) == (409, "connection.not-sending")
    async with suite.client(Role.VIEWER) as viewer:
        missing = await viewer.get(f"/hl7/v1/replays/{type_id('rpl', uuid7(1, 1))}")
    assert (missing.status_code, missing.json()["code"]) == (404, "replay.not-found")


async def test_a_connection_that_goes_away_fails_the_replay(
    suite: Any, connect: Any, message: Message, free_port: int
) -> None:
    await _receive(suite, connect, *(message(f"g-{number}") for number in range(3)))
    path, connection_id = await _sender(suite, free_port, queue_messages_max=2)
    started = await _start(suite, target={"kind": "connection", "connection_id": connection_id})
    replay_id = started.json()["id"]
    await wait_for_state(suite, replay_id, "running", "connection.queue-full")
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        (queued,) = (await admin.post("/hl7/v1/outbound:search", json={})).json()["items"]
        await _move(suite, replay_id, "pause")
        await admin.post(f"/hl7/v1/outbound/{queued['id']}:discard", json=WHY)
        assert (await admin.delete(path, headers={"If-Match": "*"})).status_code == 204
    await _move(suite, replay_id, "resume")
    failed = await wait_for_state(suite, replay_id, "failed")
    assert (failed["error_code"], failed["done"], failed["remaining"]) == ("connection.not-found", 1, 2)


async def test_another_practice_sees_no_replay(suite: Any, connect: Any, message: Message) -> None:
    await _receive(suite, connect, message("o-1"))
    replay_id = (await _start(suite)).json()["id"]
    await wait_for_state(suite, replay_id, "done")
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get("/hl7/v1/replays")).json()["items"] == []
        assert (await stranger.get(f"/hl7/v1/replays/{replay_id}")).status_code == 404
        assert (await stranger.post(f"/hl7/v1/replays/{replay_id}:cancel", json=WHY)).status_code == 404
        empty = await stranger.post("/hl7/v1/replays", json={"filter": {}, **WHY})
    assert empty.json()["code"] == "replay.empty"


@pytest.mark.parametrize("limit", [1, 2])
async def test_replays_are_listed_newest_first(suite: Any, connect: Any, message: Message, limit: int) -> None:
    await _receive(suite, connect, message("l-1"))
    made = [(await _start(suite)).json()["id"] for _ in range(3)]
    listed, cursor = [], ""
    async with suite.client(Role.VIEWER) as viewer:
        while cursor is not None:
            query = {"limit": limit, **({"cursor": cursor} if cursor else {})}
            page = (await viewer.get("/hl7/v1/replays", params=query)).json()
            listed += [one["id"] for one in page["items"]]
            cursor = page["next"]
    assert listed == made[::-1]


def _files_with(data: Path, text: bytes) -> list[str]:
    return [file.name for file in data.rglob("*sqlite3*") if text in file.read_bytes()]
