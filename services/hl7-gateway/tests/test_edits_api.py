"""Edit and send again through the API, in the module as the host runs it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hl7v2
from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
RAW = {"content-type": "x-application/hl7-v2+er7"}
WAIT_S = 20.0
WHY = {"reason": "wrong class, ticket 17"}
Message = Callable[..., bytes]


async def _search(suite: Any, what: str = "messages", **body: Any) -> list[dict[str, Any]]:
    """Oldest first."""
    async with suite.client(Role.TENANT_ADMIN) as admin:
        found = (await admin.post(f"/hl7/v1/{what}:search", json=body)).json()
    return list(reversed(found["items"]))


async def _receive(suite: Any, connect: Any, *bodies: bytes) -> list[dict[str, Any]]:
    """What was refused for want of a disk in time is sent again, as a sender would; what was taken is there."""
    client = await connect(suite.mllp_port)
    async with asyncio.timeout(WAIT_S):
        for body in bodies:
            held = len(await _search(suite))
            codes = [await _acknowledged(client, body)]
            while len(await _search(suite)) == held:
                assert codes[-1] == "AE", "acknowledged and not stored"
                codes.append(await _acknowledged(client, body))
    client.close()
    await client.writer.wait_closed()
    return await _search(suite)


async def _acknowledged(client: Any, body: bytes) -> str:
    await client.send(body)
    return str(await client.code())


async def _edit(suite: Any, path: str, **body: Any) -> Any:
    async with suite.client(Role.PHI_REVIEWER) as reviewer:
        return await reviewer.post(f"/hl7/v1/{path}:edit", json={**WHY, **body})


async def _sender(suite: Any, port: int, **changed: Any) -> str:
    configuration = {
        "name": "Out",
        "direction": "sender",
        "integration_id": INTEGRATION_ID,
        "host": "127.0.0.1",
        "port": port,
        "sending": {"backoff": {"first_ms": 10, "max_ms": 50}},
        **changed,
    }
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        response = await admin.post("/hl7/v1/connections", json={"configuration": configuration, **WHY})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def wait_for_states(suite: Any, *states: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(WAIT_S):
        while True:
            items = await _search(suite, "outbound")
            if sorted(item["state"] for item in items) == sorted(states):
                return items
            await asyncio.sleep(0.01)


async def wait_for_listener(connect: Any, port: int) -> Any:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await connect(port)
            except OSError:
                await asyncio.sleep(0.01)


def _set(**values: Any) -> list[dict[str, Any]]:
    return [{"path": path.replace("_", "-"), "value": value} for path, value in values.items()]


async def test_a_preview_shows_findings_before_and_after_and_takes_nothing_in(
    suite: Any, connect: Any, message: Message
) -> None:
    (first,) = await _receive(suite, connect, message("e-1").replace(b"|19700101|F", b"|19709999|F"))
    seen = await _edit(suite, f"messages/{first['id']}", changes=_set(PID_7="19700101"), preview=True)
    assert seen.status_code == 200, seen.text
    shown = seen.json()
    assert shown["changed"] == ["PID-7"]
    before, after = ([row["path"] for row in shown[one]["findings"]] for one in ("before", "after"))
    assert "PID-7" in str(before)
    assert "PID-7" not in str(after)
    assert hl7v2.parse(base64.b64decode(shown["body"]))["PID-7"] == "19700101"
    assert "19709999" not in str({**shown, "body": ""})
    assert len(await _search(suite)) == 1
    async with suite.client(Role.AUDITOR) as auditor:
        entry = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"][0]
    assert (entry["action"], entry["reason"]) == ("message.body.read", WHY["reason"])


async def test_an_edited_message_comes_in_as_a_new_one_with_a_link(suite: Any, connect: Any, message: Message) -> None:
    (first,) = await _receive(suite, connect, message("e-1", kind="BAR^P01"))
    assert first["state"] == "rejected"
    changes = _set(**{"MSH_9.1": "ADT", "MSH_9.2": "A08"})
    done = await _edit(suite, f"messages/{first['id']}", changes=changes)
    assert done.status_code == 201, done.text
    new = done.json()
    assert (new["edited_from"], new["changed"], new["target"]["kind"]) == (first["id"], ["MSH-9"], "inbound")
    old, made = await _search(suite)
    assert (old, made["id"]) == (first, new["id"])
    assert (made["state"], made["trigger_event"], made["control_id"]) == ("received", "A08", "e-1")
    assert (made["integration_id"], made["channel"]) == (first["integration_id"], first["channel"])
    assert made["connection"]["peer"] == f"edited:{first['id']}"
    async with suite.client(Role.OPERATOR) as operator:
        link = (await operator.get(f"/hl7/v1/messages/{new['id']}/edits")).json()
        source = (await operator.get(f"/hl7/v1/messages/{first['id']}/edits")).json()
    assert (link["edited_from"], link["edits"]) == (first["id"], [])
    assert (source["edited_from"], [one["id"] for one in source["edits"]]) == (None, [new["id"]])
    assert (link["origin"]["author"], link["origin"]["reason"]) == ("tester", WHY["reason"])
    async with suite.client(Role.AUDITOR) as auditor:
        entry = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"][0]
    assert (entry["action"], entry["subject"]) == ("message.edited", first["id"])
    assert entry["detail"] == {"message_id": new["id"], "count": 1}


async def test_the_same_edit_twice_is_two_messages_unless_the_request_is_the_same(
    suite: Any, connect: Any, message: Message
) -> None:
    (first,) = await _receive(suite, connect, message("e-1"))
    body = {**WHY, "changes": _set(PV1_2="I")}
    path = f"/hl7/v1/messages/{first['id']}:edit"
    async with suite.client(Role.PHI_REVIEWER) as reviewer:
        keyed = [(await reviewer.post(path, json=body, headers={"Idempotency-Key": "k"})).json() for _ in range(2)]
        other = (await reviewer.post(path, json=body)).json()
    assert keyed[0] == keyed[1]
    assert {one["id"] for one in await _search(suite)} == {first["id"], keyed[0]["id"], other["id"]}


async def test_an_edited_message_can_go_to_a_sender(suite: Any, connect: Any, message: Message, receiver: Any) -> None:
    (first,) = await _receive(suite, connect, message("e-1"))
    there = await receiver()
    target = {"kind": "connection", "connection_id": await _sender(suite, there.port)}
    body = base64.b64encode(message("e-2", name="OTHER^SYNTHETIC")).decode()
    done = await _edit(suite, f"messages/{first['id']}", body=body, target=target)
    assert done.status_code == 201, done.text
    assert done.json()["changed"] == ["MSH-10", "PID-5"]
    (sent,) = await wait_for_states(suite, "delivered")
    assert (sent["id"], sent["control_id"], there.seen) == (done.json()["id"], "e-2", ["e-2"])
    async with suite.client(Role.OPERATOR) as operator:
        link = (await operator.get(f"/hl7/v1/outbound/{sent['id']}/edits")).json()
    assert link["edited_from"] == first["id"]
    assert len(await _search(suite)) == 1


async def test_what_an_edit_can_not_be_is_told(suite: Any, connect: Any, message: Message, free_port: int) -> None:
    (first,) = await _receive(suite, connect, message("e-1"))
    path = f"messages/{first['id']}"
    listener = await _sender(suite, free_port, name="In", direction="listener", sending=None)
    nobody = type_id("con", uuid7(1, 1))
    fine = _set(PV1_2="I")
    text = base64.b64encode(b"HELLO WORLD").decode()
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "request.invalid"),
        ({"changes": []}, 422, "request.invalid"),
        ({"changes": fine, "body": text}, 422, "request.invalid"),
        ({"changes": [{"path": "PID-5"}]}, 422, "request.invalid"),
        ({"changes": _set(ZZZ_1="x")}, 422, "request.invalid"),
        ({"body": "%%%"}, 422, "request.invalid"),
        ({"body": text}, 422, "message.edit-unparsable"),
        ({"changes": _set(PV1_2="O")}, 422, "message.edit-unchanged"),
        ({"changes": _set(**{"MSH_9.1": "ZZZ"})}, 422, "hl7.type-unsupported"),
        ({"changes": fine, "reason": ""}, 422, "request.invalid"),
        ({"changes": fine, "target": {"kind": "connection"}}, 404, "request.invalid-id"),
        ({"changes": fine, "target": {"kind": "connection", "connection_id": nobody}}, 404, "connection.not-found"),
        ({"changes": fine, "target": {"kind": "connection", "connection_id": listener}}, 409, "connection.not-sending"),
    ]
    for body, status, code in cases:
        refused = await _edit(suite, path, **body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body
    missing = await _edit(suite, f"messages/{type_id('msg', uuid7(1, 1))}", changes=fine)
    assert missing.json()["code"] == "message.not-found"
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        foreign = await stranger.post(f"/hl7/v1/{path}:edit", json={**WHY, "changes": fine})
        assert (foreign.status_code, (await stranger.get(f"/hl7/v1/{path}/edits")).status_code) == (404, 404)
    assert len(await _search(suite)) == 1


async def test_a_connection_that_validates_first_refuses_an_invalid_edit(
    suite: Any, connect: Any, message: Message, free_port: int
) -> None:
    listening = {"validation": {"when": "before"}}
    await _sender(suite, free_port, name="In", direction="listener", sending=None, listening=listening)
    good = message("v-1")
    client = await wait_for_listener(connect, free_port)
    await client.send(good)
    assert await client.code() == ("AA", "v-1")
    client.close()
    await client.writer.wait_closed()
    (first,) = await _search(suite)
    refused = await _edit(suite, f"messages/{first['id']}", changes=_set(PID_7="19709999"))
    assert (refused.status_code, refused.json()["code"]) == (422, "hl7.invalid")
    assert "PID-7" in refused.json()["detail"]
    done = await _edit(suite, f"messages/{first['id']}", changes=_set(PID_7="19710101"))
    assert done.status_code == 201
    made = (await _search(suite))[-1]
    assert made["connection"]["id"] == first["connection"]["id"]


async def _reject(visit: Any, control_id: str) -> None:
    visit.answer("AR", control_id)


async def _accept(visit: Any, control_id: str) -> None:
    visit.answer("AA", control_id)


async def _parked(suite: Any, message: Message, there: Any, *later: bytes) -> tuple[dict[str, Any], str]:
    """A parked message, and messages that wait behind it."""
    connection_id = await _sender(suite, there.port)
    async with suite.client(Role.SERVICE) as service:
        place = f"/hl7/v1/connections/{connection_id}/messages"
        await service.post(place, content=message("bad"), headers=RAW)
        (first,) = await wait_for_states(suite, "parked")
        for body in later:
            await service.post(place, content=body, headers=RAW)
    return first, connection_id


async def test_an_edited_parked_message_goes_before_those_that_waited_behind_it(
    suite: Any, message: Message, receiver: Any
) -> None:
    there = await receiver(_reject, _accept)
    parked, _ = await _parked(suite, message, there, message("later"))
    await wait_for_states(suite, "parked", "held")
    changes = _set(PV1_2="I", MSH_10="better")
    seen = await _edit(suite, f"outbound/{parked['id']}", changes=changes, preview=True)
    assert (seen.status_code, seen.json()["changed"]) == (200, ["MSH-10", "PV1-2"])
    done = await _edit(suite, f"outbound/{parked['id']}", changes=changes)
    assert done.status_code == 201, done.text
    items = await wait_for_states(suite, "delivered", "delivered", "discarded")
    by_id = {item["id"]: item for item in items}
    assert by_id[parked["id"]]["state"] == "discarded"
    assert by_id[done.json()["id"]]["control_id"] == "better"
    assert there.seen == ["bad", "better", "later"]
    async with suite.client(Role.OPERATOR) as operator:
        old = (await operator.get(f"/hl7/v1/outbound/{parked['id']}")).json()
        new = (await operator.get(f"/hl7/v1/outbound/{done.json()['id']}")).json()
        link = (await operator.get(f"/hl7/v1/outbound/{new['id']}/edits")).json()
        again = await _edit(suite, f"outbound/{parked['id']}", changes=changes)
    assert [(one["number"], one["outcome"]) for one in new["tries"]] == [(1, "delivered")]
    assert [one["number"] for one in old["tries"]] == [1]
    assert link["edited_from"] == parked["id"]
    assert (again.status_code, again.json()["code"]) == (409, "request.conflict")


async def test_a_parked_message_that_becomes_another_patients_goes_to_the_end(
    suite: Any, message: Message, receiver: Any
) -> None:
    there = await receiver(_reject, _accept)
    later = (message("same"), message("other", patient="5^^^EPIC^MR"))
    parked, connection_id = await _parked(suite, message, there, *later)
    await wait_for_states(suite, "parked", "held", "delivered")
    changes = _set(**{"PID_3.1": "5", "MSH_10": "theirs"})
    done = await _edit(suite, f"outbound/{parked['id']}", changes=changes)
    assert done.status_code == 201, done.text
    await wait_for_states(suite, "delivered", "delivered", "delivered", "discarded")
    assert sorted(there.seen[2:]) == ["same", "theirs"]
    async with suite.client(Role.OPERATOR) as operator:
        live = (await operator.get(f"/hl7/v1/connections/{connection_id}")).json()["live"]
    assert (live["queue"]["depth"], live["counters"]["discarded"]) == (0, 1)


async def test_no_patient_in_what_is_kept_or_told(
    suite: Any, connect: Any, message: Message, tmp_path: Path, caplog: Any
) -> None:
    canary = "CANARYNAME"
    (first,) = await _receive(suite, connect, message("c-1"))
    path = f"messages/{first['id']}"
    done = await _edit(suite, path, changes=_set(PID_5=canary))
    body = base64.b64encode(message("c-2") + canary.encode() + b"\r").decode()
    whole = await _edit(suite, path, body=body)
    refused = await _edit(suite, path, changes=_set(ZZZ_1=canary))
    assert (done.status_code, whole.status_code, refused.status_code) == (201, 201, 422)
    assert canary not in done.text + whole.text + refused.text + str(await _search(suite))
    assert canary not in caplog.text
    assert _files_with(tmp_path, canary.encode()) == []


def _files_with(data: Path, text: bytes) -> list[str]:
    return [file.name for file in data.rglob("*sqlite3*") if text in file.read_bytes()]
