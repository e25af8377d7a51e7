"""Site profiles through the API: stored, checked, used by a running listener, tried, suggested."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from common.models.access import Role
from common.testing import OTHER_TENANT
from infrastructure.hl7_listening import Listening

Message = Callable[..., bytes]
WAIT_S = 10.0
RAW = {"content-type": "x-application/hl7-v2+er7"}
TOLERANT = "fields:\n  PID-7:\n    ignore: [data-type]   # the registration writes 00 for unknown parts\n"
STRICTER = "severity: {table-user: error}\nfields:\n  PID-19: {required: true}\n"


async def _store(suite: Any, name: str, text: str) -> Any:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        return await admin.post("/hl7/v1/profiles", json={"name": name, "text": text, "reason": "new feed"})


async def _change(suite: Any, name: str, text: str) -> Any:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        read = await admin.get(f"/hl7/v1/profiles/{name}")
        headers = {"If-Match": read.headers["etag"]}
        return await admin.put(f"/hl7/v1/profiles/{name}", json={"text": text, "reason": "changed"}, headers=headers)


def _good(message: Message, control_id: str) -> bytes:
    return message(control_id).replace(b"EVN||", b"EVN|A08|")


def _bad_date(message: Message, control_id: str) -> bytes:
    return _good(message, control_id).replace(b"19700101", b"19701341")


async def wait_until_applied(listening: Listening, version: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await listening.live())["profile"]["version"] != version:  # noqa: ASYNC110 - another task applies it
            await asyncio.sleep(0.02)


async def test_a_profile_lives(suite: Any) -> None:
    made = await _store(suite, "front-desk", TOLERANT)
    assert (made.status_code, made.headers["location"]) == (201, "/hl7/v1/profiles/front-desk"), made.text
    assert made.json()["document"] == {"fields": {"PID-7": {"ignore": ["data-type"]}}}
    assert made.json()["text"] == TOLERANT
    assert (await _store(suite, "front-desk", TOLERANT)).json()["code"] == "profile.name-taken"
    assert (await _store(suite, "standard", TOLERANT)).json()["code"] == "profile.name-taken"
    assert (await _store(suite, "Front Desk", TOLERANT)).json()["errors"][0]["pointer"] == "/name"
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        path = "/hl7/v1/profiles/front-desk"
        body = {"text": '{"severity": {"table-user": "error"}}', "reason": "stricter"}
        assert (await admin.put(path, json=body)).status_code == 428
        changed = await admin.put(path, json=body, headers={"If-Match": '"1"'})
        assert (changed.status_code, changed.json()["version"]) == (200, 2), changed.text
        assert (await admin.put(path, json=body, headers={"If-Match": '"1"'})).json()["code"] == (
            "request.version-changed"
        )
        names = [one["name"] for one in (await admin.get("/hl7/v1/profiles")).json()["items"]]
        assert names == ["front-desk", "lenient", "standard", "strict"]
        first = (await admin.get("/hl7/v1/profiles", params={"limit": 3})).json()
        rest = (await admin.get("/hl7/v1/profiles", params={"cursor": first["next"]})).json()
        assert [one["name"] for one in rest["items"]] == ["strict"]
        built_in = await admin.put("/hl7/v1/profiles/lenient", json=body, headers={"If-Match": '"1"'})
        assert (built_in.status_code, built_in.json()["code"]) == (409, "request.conflict")
        assert (await admin.delete(path)).status_code == 428
        assert (await admin.delete(path, headers={"If-Match": '"2"'})).status_code == 204
        assert (await admin.get(path)).json()["code"] == "profile.not-found"
        versions = (await admin.get(f"{path}/versions")).json()["items"]
        assert [(one["version"], one["reason"]) for one in versions] == [(2, "stricter"), (1, "new feed")]
        again = await _store(suite, "front-desk", TOLERANT)
        assert again.json()["version"] == 3
    async with suite.client(Role.AUDITOR) as auditor:
        entries = (await auditor.post("/hl7/v1/audit:search", json={})).json()["items"]
    told = [one["action"] for one in entries if one["subject"] == "front-desk"]
    assert sorted(told) == ["profile.changed", "profile.created", "profile.created", "profile.removed"]


async def test_every_mistake_is_told_with_its_line(suite: Any) -> None:
    text = "severity:\n  lenght: warning\nfields:\n  PID-3: {required: maybe}\n  PID-99: {length: 3}\nfields: {}\n"
    refused = await _store(suite, "wrong", text)
    assert (refused.status_code, refused.json()["code"]) == (422, "request.invalid")
    assert [one["detail"].partition(": ")[0] for one in refused.json()["errors"]] == ["line 6, fields"]
    refused = await _store(suite, "wrong", text.removesuffix("fields: {}\n"))
    places = [one["detail"].partition(": ")[0] for one in refused.json()["errors"]]
    assert places == ["line 2, severity.lenght", "line 4, fields.PID-3.required", "line 5, fields.PID-99"]
    for text, said in (
        ("a: &x [1]\nb: *x\n", "line 2"),
        ("[" * 50, "line 1"),
        ("fields: [", "line 1"),
        ("--- {}\n--- {}\n", "line 2"),
        ("!!python/object:os.system {}\n", "there is no"),
        ("", "at least 1"),
        ("# nothing\n", "nothing in it"),
        ("just words", "mapping"),
        ("name: 2026-99-99\nversion: !!binary AA==\n", "version"),
    ):
        refused = await _store(suite, "wrong", text)
        if "python" in text:  # a tag is only a tag: nothing is made of it
            assert refused.status_code in {201, 422}, refused.text
            continue
        assert refused.status_code == 422, (text, refused.text)
        assert said in refused.text, refused.text


async def test_a_listener_applies_a_changed_profile_without_closing(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    await _store(suite, "desk", TOLERANT)
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "before", "profile": "desk"}})
    client = await connect(free_port)
    await client.send(_bad_date(message, "b-1"))
    assert await client.code() == ("AA", "b-1")
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        refused = await admin.delete("/hl7/v1/profiles/desk", headers={"If-Match": '"1"'})
        assert (refused.status_code, refused.json()["code"]) == (409, "profile.in-use")
        assert "Front desk" in refused.json()["detail"]
        used = (await admin.get("/hl7/v1/profiles/desk")).json()["used_by"]
        assert [one["name"] for one in used] == ["Front desk"]
    body = _bad_date(message, "b-2")
    await client.raw(b"\x0b" + body[:60])  # a frame in hand while the profile changes
    assert (await _change(suite, "desk", STRICTER)).status_code == 200
    await wait_until_applied(listening, 2)
    await client.raw(body[60:] + b"\x1c\r")
    answer = await client.answer()
    assert b"MSA|AE|b-2" in answer
    assert b"PID^1^19" in answer
    assert b"PID^1^7" in answer
    client.close()
    found = {row["control_id"]: row["findings"] for row in await listening.found()}
    (tightened,) = [one for one in found["b-2"] if isinstance(one, dict) and one["path"] == "PID-19"]
    assert tightened["profile"] == {"name": "desk", "version": 2, "effect": "tightened", "standard_severity": None}


async def test_a_connection_names_only_profiles_that_are_there(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "after", "profile": "lenient"}})
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        read = await admin.get(listening.path)
        wrong = {**read.json()["configuration"], "listening": {"validation": {"when": "after", "profile": "gone"}}}
        refused = await admin.put(
            listening.path, json={"configuration": wrong, "reason": "a try"}, headers={"If-Match": "*"}
        )
    assert refused.json()["errors"][0]["pointer"] == "/configuration/listening/validation/profile"
    twice = _good(message, "l-1").replace(b"PV1|1|O", b"PV1|1|O~I")
    assert await listening.send(twice) == [("AA", "l-1")]
    (found,) = await listening.found()
    (loosened,) = [one for one in found["findings"] if one["path"] == "PV1-2[2]"]
    assert (loosened["severity"], loosened["profile"]["effect"]) == ("warning", "loosened")
    assert loosened["profile"]["standard_severity"] == "error"


async def test_a_profile_is_tried_before_it_is_in_force(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "after"}})
    bodies = [_bad_date(message, f"t-{number}") for number in range(3)] + [_good(message, "t-9")]
    await listening.send(*bodies)
    connection_id = listening.path.rpartition("/")[2]
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        wanted = {"connection_id": connection_id, "last": 10, "text": TOLERANT}
        tried = await admin.post("/hl7/v1/profiles/draft:test", json=wanted)
        assert tried.status_code == 200, tried.text
        shown = tried.json()
        assert (shown["messages"], shown["as_in_force"]["valid"], shown["tried"]["valid"]) == (4, 1, 4)
        assert shown["difference"]["newly_valid"] == 3
        assert shown["difference"]["findings"] == [
            {"path": "PID-7", "code": "102", "severity": "error", "times_in_force": 3, "times": 0}
        ]
        assert "19701341" not in tried.text
        given = {"messages": [base64.b64encode(body).decode() for body in (*bodies, b"HELLO")], "against": "lenient"}
        shown = (await admin.post("/hl7/v1/profiles/strict:test", json=given)).json()
        assert (shown["messages"], shown["unreadable"], shown["in_force"]["name"]) == (5, 1, "lenient")
        assert (await admin.post("/hl7/v1/profiles/none:test", json=given)).json()["code"] == "profile.not-found"
        assert (await admin.post("/hl7/v1/profiles/strict:test", json={})).status_code == 422
        assert (await admin.get("/hl7/v1/profiles/draft")).status_code == 404


async def test_a_profile_is_suggested_from_what_a_sender_sends(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "after"}}, encoding="8859/1")
    odd = [
        _bad_date(message, "s-1"),
        _good(message, "s-2").replace(b"PV1|1|O\r", b""),
        _good(message, "s-3").replace(b"PV1|1|O", b"PV1|1|O~I~E"),
        _good(message, "s-4").replace(b"4711^^^EPIC^MR", b""),
        _good(message, "s-5").replace(b"PV1|", b"NK1|1\rPID|2||1^^^A^MR||X^Y\rPV1|"),
        _good(message, "s-6")
        .replace(b"|2.5.1|", b"|2.3|")
        .replace(b"19700101|F", b"19700101|F" + b"|" * 11 + b"CANARY" * 20),
    ]
    await listening.send(*odd, _good(message, "s-7"))
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        wanted = {"connection_id": listening.path.rpartition("/")[2]}
        answer = await admin.post("/hl7/v1/profiles:suggest", json=wanted)
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert (shown["messages"], shown["valid_before"], shown["valid_after"]) == (7, 1, 7), shown
        assert shown["left"] == []
        changed = {one["place"]: one["value"] for one in shown["changes"]}
        assert changed["fields.PID-7.ignore"] == ["data-type"]
        assert changed["structures.ADT_A01.optional"] == ["PV1"]
        assert changed["fields.PV1-2.repetitions"] == 3
        assert changed["fields.PID-3.required"] is False
        assert "CANARY" not in answer.text
        stored = await _store(suite, "suggested", shown["text"])
        assert (stored.status_code, stored.json()["document"]) == (201, shown["document"]), stored.text


async def test_another_practice_sees_no_profile(suite: Any) -> None:
    await _store(suite, "ours", TOLERANT)
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        names = [one["name"] for one in (await stranger.get("/hl7/v1/profiles")).json()["items"]]
        assert names == ["lenient", "standard", "strict"]
        for method, path in (("GET", ""), ("GET", "/versions"), ("PUT", ""), ("DELETE", ""), ("POST", ":test")):
            body = {"text": TOLERANT, "reason": "theirs"} if method == "PUT" else {"messages": ["TVNI"]}
            response = await stranger.request(
                method, f"/hl7/v1/profiles/ours{path}", json=body, headers={"If-Match": "*"}
            )
            assert response.status_code == 404, (method, path, response.text)


async def test_the_validator_takes_a_profile_by_name(suite: Any, message: Message) -> None:
    await _store(suite, "desk", STRICTER + "tables:\n  '0001': {also: [D]}\n")
    bad = _good(message, "p-1").replace(b"||19700101|F", b"||19700101|Q")
    async with suite.client(Role.VIEWER) as viewer:
        shown = await viewer.post("/hl7/v1/validate", params={"profile": "desk"}, content=bad, headers=RAW)
        (item,) = shown.json()["items"]
        marks = {one["path"]: one.get("profile") for one in item["findings"]}
        assert marks["PID-19"]["effect"] == "tightened"
        assert marks["PID-8"] == {"name": "desk", "version": 1, "effect": "tightened", "standard_severity": "warning"}
        assert all(one["remedy"] for one in item["findings"])
        acknowledged = await viewer.post("/hl7/v1/acknowledge", params={"profile": "desk"}, content=bad, headers=RAW)
        assert acknowledged.json()["items"][0]["acknowledgment_code"] == "AE"
        twice = _good(message, "p-2").replace(b"PV1|1|O", b"PV1|1|O\rPV1|2|O")
        off = "structures: {ADT_A01: {repeating: [PV1]}}\n"
        assert (await _store(suite, "off", off)).status_code == 201
        shown = await viewer.post("/hl7/v1/validate", params={"profile": "off"}, content=twice, headers=RAW)
        (item,) = shown.json()["items"]
        assert item["valid"]
        assert [(one["path"], one["severity"]) for one in item["loosened"]] == [("PV1[2]", "error")]
        gone = await viewer.post("/hl7/v1/validate", params={"profile": "gone"}, content=bad, headers=RAW)
        assert (gone.status_code, gone.json()["code"]) == (404, "profile.not-found")
