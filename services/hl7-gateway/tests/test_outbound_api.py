"""Sending through the API, in the module as the host runs it: the gateway's own listener is the receiver."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
RAW = {"content-type": "x-application/hl7-v2+er7"}
WAIT_S = 20.0
Message = Callable[..., bytes]


async def _sender(suite: Any, port: int, name: str = "Out", **changed: Any) -> str:
    sending = {"ack_timeout_ms": 2000, "backoff": {"first_ms": 10, "max_ms": 50}}
    configuration = {
        "name": name,
        "direction": "sender",
        "integration_id": INTEGRATION_ID,
        "host": "127.0.0.1",
        "port": port,
        "sending": sending,
        **changed,
    }
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        response = await admin.post("/hl7/v1/connections", json={"configuration": configuration, "reason": "new"})
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


async def _send(suite: Any, path: str, body: bytes, **headers: str) -> Any:
    async with suite.client(Role.SERVICE) as service:
        return await service.post(f"{path}/messages", content=body, headers={**RAW, **headers})


async def _search(suite: Any, **body: Any) -> Any:
    async with suite.client(Role.OPERATOR) as operator:
        response = await operator.post("/hl7/v1/outbound:search", json=body)
    assert response.status_code == 200, response.text
    return response.json()["items"]


async def wait_for_states(suite: Any, *states: str, **filters: Any) -> Any:
    """The messages, oldest first, once they are in these states."""
    async with asyncio.timeout(WAIT_S):
        while True:
            items = list(reversed(await _search(suite, **filters)))
            if [item["state"] for item in items] == list(states):
                return items
            await asyncio.sleep(0.01)


async def test_messages_reach_the_receiver_and_are_shown(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    sent = await _send(suite, path, message("out-1") + message("out-2", patient="99^^^EPIC^MR"))
    assert sent.status_code == 202, sent.text
    assert [(one["control_id"], one["state"]) for one in sent.json()["items"]] == [
        ("out-1", "queued"),
        ("out-2", "queued"),
    ]
    first, _ = await wait_for_states(suite, "delivered", "delivered")
    async with suite.client(Role.OPERATOR) as operator:
        one = (await operator.get(f"/hl7/v1/outbound/{first['id']}")).json()
        assert (one["acknowledgment_code"], one["attempts"], one["error_code"]) == ("AA", 1, None)
        assert [entry["outcome"] for entry in one["tries"]] == ["delivered"]
        shown = (await operator.get(path)).json()["live"]
    assert shown["link"]["state"] == "up"
    assert shown["queue"] == {"depth": 0, "parked": 0, "held": 0, "oldest_queued_at": None, "oldest_age_s": None}
    assert (shown["counters"]["queued"], shown["counters"]["delivered"]) == (2, 2)
    async with suite.client(Role.DATA_STEWARD) as steward:
        received = (await steward.post("/hl7/v1/messages:search", json={})).json()["items"]
        assert sorted(row["control_id"] for row in received) == ["out-1", "out-2"]
        mine = {"patient": {"system": "EPIC", "value": "99"}}
        found = (await steward.post("/hl7/v1/outbound:search", json=mine)).json()["items"]
    assert [row["control_id"] for row in found] == ["out-2"]


async def test_a_rejected_message_is_parked_and_a_person_decides(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    await _send(suite, path, message("bad-1", kind="ZZZ^Z99"))
    await _send(suite, path, message("bad-2", kind="ZZZ^Z99", patient="5^^^EPIC^MR"))
    first, second = await wait_for_states(suite, "parked", "parked")
    assert first["error_code"] == "hl7.refused-reject"
    async with suite.client(Role.OPERATOR) as operator:
        why = {"reason": "the receiver takes it now"}
        again = await operator.post(f"/hl7/v1/outbound/{first['id']}:retry", json=why)
        assert (again.status_code, again.json()["state"]) == (200, "queued")
        await wait_for_states(suite, "parked", "parked")
        tried = (await operator.get(f"/hl7/v1/outbound/{first['id']}")).json()["tries"]
        assert [entry["number"] for entry in tried] == [1, 2]
        all_parked = await operator.post(f"{path}:retry-parked", json=why)
        assert all_parked.json() == {"retried": 2}
        await wait_for_states(suite, "parked", "parked")
        gone = await operator.post(f"/hl7/v1/outbound/{second['id']}:discard", json={"reason": "not wanted"})
        assert gone.json()["state"] == "discarded"
        twice = await operator.post(f"/hl7/v1/outbound/{second['id']}:discard", json={"reason": "not wanted"})
        assert (twice.status_code, twice.json()["code"]) == (409, "request.conflict")
        assert (await operator.post(f"/hl7/v1/outbound/{first['id']}:retry", json={})).status_code == 422
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        kept = await admin.delete(path, headers={"If-Match": "*"})
        assert (kept.status_code, kept.json()["code"]) == (409, "connection.has-messages")


async def test_the_same_request_twice_is_queued_once(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    answers = [await _send(suite, path, message("once"), **{"idempotency-key": "k-1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    await wait_for_states(suite, "delivered")


async def test_messages_can_come_as_json(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    bodies = [base64.b64encode(message(f"j-{number}")).decode() for number in (1, 2)]
    async with suite.client(Role.SERVICE) as service:
        sent = await service.post(f"{path}/messages", json={"messages": bodies})
        assert sent.status_code == 202
        for bad, pointer in (
            ({"messages": []}, "/messages"),
            ({"messages": bodies, "more": 1}, "/messages"),
            ({"messages": [bodies[0], "%%%"]}, "/messages/1"),
            ({"messages": [1]}, "/messages/0"),
        ):
            refused = await service.post(f"{path}/messages", json=bad)
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
        broken = await service.post(f"{path}/messages", content=b"{", headers={"content-type": "application/json"})
        assert (broken.status_code, broken.json()["code"]) == (400, "request.malformed")
    await wait_for_states(suite, "delivered", "delivered")


async def test_what_cannot_be_sent_is_refused_whole(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    for body, code in (
        (b"HELLO WORLD", "hl7.unparsable"),
        (b"", "hl7.unparsable"),
        (message("good") + message(""), "hl7.field-missing"),
        (message("good") + b"NTE|\x0b\r", "hl7.frame-bytes-inside"),
    ):
        refused = await _send(suite, path, body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    too_many = await _send(suite, path, b"".join(message(f"n-{number}") for number in range(1001)))
    assert (too_many.status_code, too_many.json()["code"]) == (413, "request.too-large")
    picture = await _send(suite, path, message("x"), **{"content-type": "image/png"})
    assert picture.status_code == 415
    assert await _search(suite) == []


async def test_only_a_sender_that_is_not_disabled_takes_messages(suite: Any, message: Message, free_port: int) -> None:
    listener = await _sender(suite, free_port, "In", direction="listener", sending=None)
    path = await _sender(suite, suite.mllp_port)
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await admin.post(f"{path}:pause", json={"reason": "night work"})
        assert (await _send(suite, path, message("waits"))).status_code == 202
        await admin.post(f"{path}:disable", json={"reason": "moved"})
        for place in (path, listener):
            refused = await _send(suite, place, message("no"))
            assert (refused.status_code, refused.json()["code"]) == (409, "connection.not-sending")
        await admin.post(f"{path}:resume", json={"reason": "back"})
    (one,) = await wait_for_states(suite, "delivered")
    assert one["control_id"] == "waits"


async def test_another_practice_sees_and_sends_nothing(suite: Any, message: Message) -> None:
    path = await _sender(suite, suite.mllp_port)
    await _send(suite, path, message("mine"))
    (one,) = await wait_for_states(suite, "delivered")
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.post("/hl7/v1/outbound:search", json={})).json()["items"] == []
        assert (await stranger.get(f"/hl7/v1/outbound/{one['id']}")).status_code == 404
        for verb in ("retry", "discard"):
            refused = await stranger.post(f"/hl7/v1/outbound/{one['id']}:{verb}", json={"reason": "theirs"})
            assert refused.status_code == 404
        sent = await stranger.post(f"{path}/messages", content=message("theirs"), headers=RAW)
        assert sent.status_code == 404
        assert (await stranger.post(f"{path}:retry-parked", json={"reason": "theirs"})).status_code == 404


async def test_no_patient_in_what_is_kept_or_told(suite: Any, message: Message, tmp_path: Any, caplog: Any) -> None:
    canary = "CANARYNAME"
    path = await _sender(suite, suite.mllp_port)
    await _send(suite, path, message("c-1", name=canary) + message("c-2", name=canary, kind="ZZZ^Z99"))
    refused = await _send(suite, path, canary.encode())
    items = await wait_for_states(suite, "delivered", "parked")
    assert canary not in str(items) + refused.text
    assert canary not in caplog.text
    for file in tmp_path.rglob("*sqlite3*"):
        assert canary.encode() not in file.read_bytes(), file.name
