"""The module as the host runs it: a message over MLLP, then everything the API says of it."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from common.models.access import Role, expand
from common.models.identifiers import type_id, uuid7
from common.models.trace import mllp_trace_id
from common.testing import OTHER_TENANT
from hl7_gateway.access import ACCESS

Message = Callable[..., bytes]


async def _received(suite: Any, connect: Any, *bodies: bytes) -> list[tuple[str, str]]:
    client = await connect(suite.mllp_port)
    await client.send(*bodies)
    codes = [await client.code() for _ in bodies]
    client.close()
    await client.writer.wait_closed()
    return codes


async def _search(suite: Any, role: Role = Role.DATA_STEWARD, **body: Any) -> Any:
    async with suite.client(role) as client:
        response = await client.post("/hl7/v1/messages:search", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_message_is_found_by_what_it_says(suite: Any, connect: Any, message: Message) -> None:
    bodies = [message("m-1"), message("m-2", kind="BAR^P01"), message("m-3", patient="99^^^OTHER^MR")]
    assert await _received(suite, connect, *bodies) == [("AA", "m-1"), ("AR", "m-2"), ("AA", "m-3")]
    first = await _search(suite, limit=2)
    rest = await _search(suite, limit=2, cursor=first["next"])
    shown = first["items"] + rest["items"]
    assert sorted(row["control_id"] for row in shown) == ["m-1", "m-2", "m-3"]
    assert shown == sorted(shown, key=lambda row: row["id"], reverse=True)
    assert (len(rest["items"]), rest["next"]) == (1, None)
    (found,) = (await _search(suite, control_id="m-1"))["items"]
    assert (found["message_type"], found["trigger_event"], found["acknowledgment_code"]) == ("ADT", "A08", "AA")
    assert found["connection"]["peer"].startswith("127.0.0.1:")
    (rejected,) = (await _search(suite, state="rejected"))["items"]
    assert rejected["findings"] == ["hl7.type-unsupported"]


async def test_a_patient_is_found_by_identifier(suite: Any, connect: Any, message: Message) -> None:
    await _received(suite, connect, message("p-1"), message("p-2", patient="99^^^OTHER^MR"))
    for system, value, found in (
        ("EPIC", "4711", ["p-1"]),
        ("urn:oid:1.2.3", "4711", ["p-1"]),
        ("OTHER", "99", ["p-2"]),
        ("EPIC", "99", []),
    ):
        page = await _search(suite, patient={"system": system, "value": value})
        assert [row["control_id"] for row in page["items"]] == found


async def test_visits_orders_senders_and_findings_are_found(suite: Any, connect: Any, message: Message) -> None:
    visit = "PV1|1|O|CLINIC^1^1" + "|" * 16 + "V-77^^^EPIC\r"
    order = "ORC|RE|P-1^EPIC|F-1^LAB\rOBR|1|P-1^EPIC|F-2^LAB|X\r"
    plain = message("n-1")
    head = plain[: plain.index(b"PV1|")] if b"PV1|" in plain else plain
    bodies = [head + (visit + order).encode(), message("n-2"), plain]
    assert await _received(suite, connect, *bodies) == [("AA", "n-1"), ("AA", "n-2"), ("AA", "n-1")]
    for wanted, count in (
        ({"visit_number": "V-77"}, 1),
        ({"visit_number": "V-78"}, 0),
        ({"order_number": "P-1"}, 1),
        ({"order_number": "F-2", "visit_number": "V-77"}, 1),
        ({"order_number": "V-77"}, 0),
        ({"sending_application": "EPIC", "sending_facility": "CLINIC"}, 3),
        ({"sending_application": "NOBODY"}, 0),
        ({"finding_code": "hl7.control-id-reused"}, 1),
    ):
        assert len((await _search(suite, **wanted))["items"]) == count, wanted
    (reused,) = (await _search(suite, finding_code="hl7.control-id-reused"))["items"]
    assert reused["size_bytes"] == len(message("n-1"))
    async with suite.client(Role.DATA_STEWARD) as steward:
        for wrong in ({"visit_number": ""}, {"order_number": "x" * 251}, {"visit": "V-77"}):
            assert (await steward.post("/hl7/v1/messages:search", json=wrong)).status_code == 422


async def test_a_body_is_read_with_a_reason_and_audited(suite: Any, connect: Any, message: Message) -> None:
    await _received(suite, connect, message("b-1"))
    (found,) = (await _search(suite))["items"]
    async with suite.client(Role.PHI_REVIEWER) as reviewer:
        path = f"/hl7/v1/messages/{found['id']}:read-body"
        assert (await reviewer.post(path, json={})).status_code == 422
        read = (await reviewer.post(path, json={"reason": "complaint 17"})).json()
    assert base64.b64decode(read["body"]) == message("b-1")
    async with suite.client(Role.SERVICE) as service:
        missing = type_id("msg", uuid7(1_700_000_000_000, 9))
        bodies = (await service.post("/hl7/v1/messages:read", json={"ids": [found["id"], missing]})).json()["items"]
    assert [(row["id"], base64.b64decode(row["body"])) for row in bodies] == [(found["id"], message("b-1"))]
    async with suite.client(Role.AUDITOR) as auditor:
        entries = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"]
    assert [(entry["action"], entry["subject"], entry["reason"]) for entry in entries] == [
        ("messages.bodies.read", "messages", None),
        ("message.body.read", found["id"], "complaint 17"),
    ]
    assert entries[0]["detail"] == {"count": 1}


async def test_another_practice_sees_nothing(suite: Any, connect: Any, message: Message) -> None:
    await _received(suite, connect, message("o-1"))
    (found,) = (await _search(suite))["items"]
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.post("/hl7/v1/messages:search", json={})).json()["items"] == []
        assert (await stranger.get(f"/hl7/v1/messages/{found['id']}")).status_code == 404
        read = await stranger.post(f"/hl7/v1/messages/{found['id']}:read-body", json={"reason": "none"})
    assert read.status_code == 404
    async with suite.client(Role.SERVICE, tenant=OTHER_TENANT) as service:
        assert (await service.post("/hl7/v1/messages:read", json={"ids": [found["id"]]})).json()["items"] == []


async def test_every_route_asks_for_its_role(suite: Any) -> None:
    for role in Role:
        held = expand([role])
        async with suite.client(role) as client:
            for row in ACCESS:
                path = "/hl7/v1" + row.path.replace("{message_id}", type_id("msg", uuid7(1, 1)))
                status = (await client.request(row.method, path, json={})).status_code
                assert (status != 403) == bool(row.roles & held), f"{role} {row.method} {row.path}: {status}"
    async with suite.client() as nobody:
        assert (await nobody.post("/hl7/v1/messages:search", json={})).status_code == 401


async def test_a_bad_search_is_told_where(suite: Any) -> None:
    bad: list[Any] = [{"unknown": 1}, {"limit": 0}, {"limit": 501}, {"message_type": "adt"}, {"patient": {}}, []]
    bad.append({"after": "2026-01-01T00:00:00"})
    async with suite.client(Role.DATA_STEWARD) as client:
        for body in bad:
            response = await client.post("/hl7/v1/messages:search", json=body)
            assert (response.status_code, response.json()["code"]) == (422, "request.invalid"), body


async def test_too_many_or_strange_ids_are_refused(suite: Any) -> None:
    async with suite.client(Role.SERVICE) as service:
        one = type_id("msg", uuid7(1, 1))
        assert (await service.post("/hl7/v1/messages:read", json={"ids": [one] * 201})).status_code == 422
        assert (await service.post("/hl7/v1/messages:read", json={"ids": ["nonsense"]})).status_code == 404


async def test_the_trace_begins_with_the_message_and_is_carried_on(suite: Any, connect: Any, message: Message) -> None:
    await _received(suite, connect, message("tr-1"))
    assert (await _search(suite))["complete"]
    (span,) = [span for span in suite.spans.get_finished_spans() if span.name == "hl7.receive"]
    trace_id = mllp_trace_id("EPIC", "CLINIC", "20260301093000", "tr-1")
    assert f"{span.context.trace_id:032x}" == trace_id
    assert dict(span.attributes) == {"message_type": "ADT", "trigger_event": "A08", "acknowledgment_code": "AA"}


async def test_no_patient_in_what_is_kept_or_told(
    suite: Any, connect: Any, message: Message, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "CANARYNAME"
    bodies = [message("c-1", name=canary), message("c-2", name=canary, kind=f"{canary}^{canary}"), canary.encode()]
    await _received(suite, connect, *bodies)
    page = await _search(suite)
    assert canary not in str(page)
    assert canary not in caplog.text
    for path in tmp_path.rglob("*sqlite3*"):
        assert canary.encode() not in path.read_bytes(), path.name


async def test_ready_and_the_listener_shown(suite: Any, connect: Any, message: Message) -> None:
    await _received(suite, connect, message("l-1"))
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/hl7/readyz")).status_code == 200
        (listener,) = (await viewer.get("/hl7/v1/listeners")).json()["items"]
    assert (listener["state"], listener["counters"]["frames"]) == ("listening", 1)
