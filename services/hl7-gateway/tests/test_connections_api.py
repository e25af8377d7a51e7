"""Connections through the API, in the module as the host runs it."""

import socket
from typing import Any

from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))


def _listener(free_port: int, **changed: Any) -> dict[str, Any]:
    configuration = {
        "name": "Front desk",
        "direction": "listener",
        "integration_id": INTEGRATION_ID,
        "host": "127.0.0.1",
        "port": free_port,
        **changed,
    }
    return {"configuration": configuration, "reason": "new feed"}


async def _create(suite: Any, body: dict[str, Any]) -> Any:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        return await admin.post("/hl7/v1/connections", json=body)


def _pointers(response: Any) -> list[str]:
    assert (response.status_code, response.json()["code"]) == (422, "request.invalid"), response.text
    return [one["pointer"] for one in response.json()["errors"]]


async def test_a_connection_lives(suite: Any, free_port: int) -> None:
    created = await _create(suite, _listener(free_port))
    assert created.status_code == 201, created.text
    path = created.headers["location"]
    assert created.json()["state"] == "active"
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        read = await admin.get(path)
        assert read.json()["configuration"] == created.json()["configuration"]
        configuration = {**read.json()["configuration"], "name": "Back office", "idle_timeout_s": 60}
        body = {"configuration": configuration, "reason": "renamed"}
        assert (await admin.put(path, json=body)).status_code == 428
        changed = await admin.put(path, json=body, headers={"If-Match": read.headers["etag"]})
        assert (changed.status_code, changed.json()["version"]) == (200, 2), changed.text
        stale = await admin.put(path, json=body, headers={"If-Match": read.headers["etag"]})
        assert (stale.status_code, stale.json()["code"]) == (412, "request.version-changed")
        paused = await admin.post(f"{path}:pause", json={"reason": "night work"})
        assert (paused.json()["state"], paused.json()["version"]) == ("paused", 3)
        assert (await admin.post(f"{path}:pause", json={"reason": "again"})).json()["version"] == 3
        assert (await admin.post(f"{path}:disable", json={"reason": "moved"})).json()["state"] == "disabled"
        assert (await admin.post(f"{path}:pause", json={"reason": "why not"})).status_code == 409
        assert (await admin.post(f"{path}:resume", json={"reason": "back"})).json()["state"] == "active"
        assert [one["name"] for one in await _names(admin)] == ["Back office"]
        assert (await admin.delete(path)).status_code == 428
        assert (await admin.delete(path, headers={"If-Match": '"5"'})).status_code == 204
        assert (await admin.get(path)).json()["code"] == "connection.not-found"
        versions = (await admin.get(f"{path}/versions")).json()["items"]
        assert [(one["version"], one["reason"]) for one in versions] == [
            (5, "back"),
            (4, "moved"),
            (3, "night work"),
            (2, "renamed"),
            (1, "new feed"),
        ]


async def _names(client: Any) -> Any:
    return [one["configuration"] for one in (await client.get("/hl7/v1/connections")).json()["items"]]


async def test_a_mistake_is_told_where_it_stands(suite: Any, free_port: int) -> None:
    for changed, pointer in (
        ({"port": "66x61"}, "/configuration/port"),
        ({"port": 70000}, "/configuration/port"),
        ({"frame_bites_max": 5}, "/configuration/frame_bites_max"),
        ({"listening": {"validation": {"profile": "nobody"}}}, "/configuration/listening/validation/profile"),
        ({"sending": {}}, "/configuration/sending"),
        ({"tls": {"mode": "tls"}}, "/configuration/tls/certificate_pem"),
        ({"integration_id": "int_nonsense"}, "/configuration/integration_id"),
    ):
        response = await _create(suite, _listener(free_port, **changed))
        assert _pointers(response)[0] == pointer
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/hl7/v1/connections")).json()["items"] == []


async def test_a_misspelt_field_leaves_the_connection_as_it_was(suite: Any, free_port: int) -> None:
    created = await _create(suite, _listener(free_port))
    body = {"configuration": {**created.json()["configuration"], "keepalive": False}, "reason": "a try"}
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        changed = await admin.put(created.headers["location"], json=body, headers={"If-Match": "*"})
        assert _pointers(changed) == ["/configuration/keepalive"]
        now = (await admin.get(created.headers["location"])).json()
        assert {name: now[name] for name in created.json()} == created.json()


async def test_a_port_in_use_says_whose_it_is(suite: Any, free_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen(1)
        refused = await _create(suite, _listener(free_port))
        assert (refused.status_code, refused.json()["code"]) == (409, "connection.port-in-use")
        assert refused.json()["fault"] == "operator"
        assert "ss -ltnp" in refused.json()["next_step"]
    own = await _create(suite, _listener(suite.mllp_port))
    assert (own.status_code, own.json()["code"]) == (409, "connection.port-taken")
    assert "PS_HL7_LISTEN_PORT" in own.json()["detail"]
    assert (await _create(suite, _listener(free_port))).status_code == 201
    twin = await _create(suite, _listener(free_port, name="Twin"))
    assert twin.json()["code"] == "connection.port-taken"
    assert "Front desk" in twin.json()["detail"]
    elsewhere = await _create(suite, _listener(free_port, name="Away", host="192.0.2.1"))
    assert elsewhere.json()["code"] == "connection.port-unusable"


async def test_keys_go_in_and_never_come_out(suite: Any, free_port: int, authority: Any, tmp_path: Any) -> None:
    certificate, key = authority.issue("gateway.example")
    tls = {"mode": "mutual", "certificate_pem": certificate, "private_key_pem": key, "ca_pem": authority.pem}
    created = await _create(suite, _listener(free_port, tls=tls))
    assert created.status_code == 201, created.text
    assert created.json()["tls_facts"]["certificate"]["subject"] == "gateway.example"
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        path = created.headers["location"]
        configuration = {**created.json()["configuration"], "idle_timeout_s": 5}
        body = {"configuration": configuration, "reason": "keeps its key"}
        changed = await admin.put(path, json=body, headers={"If-Match": "*"})
        assert changed.json()["tls_facts"] == created.json()["tls_facts"]
        shown = created.text + changed.text + (await admin.get(path)).text + (await admin.get(f"{path}/versions")).text
        other, _ = authority.issue()
        body["configuration"] = {**configuration, "tls": {"mode": "mutual", "certificate_pem": other}}
        mismatch = await admin.put(path, json=body, headers={"If-Match": "*"})
        assert _pointers(mismatch) == ["/configuration/tls/private_key_pem"]
    secret = "".join(key.splitlines()[1:-1])[:40]
    assert "PRIVATE KEY" not in shown + mismatch.text
    for file in tmp_path.rglob("*sqlite3*"):
        assert secret.encode() not in file.read_bytes(), file.name


async def test_another_practice_sees_no_connection(suite: Any, free_port: int) -> None:
    path = (await _create(suite, _listener(free_port))).headers["location"]
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get("/hl7/v1/connections")).json()["items"] == []
        for method, place, body in (
            ("GET", path, None),
            ("GET", f"{path}/versions", None),
            ("PUT", path, _listener(free_port)),
            ("DELETE", path, None),
            ("POST", f"{path}:pause", {"reason": "theirs"}),
        ):
            response = await stranger.request(method, place, json=body, headers={"If-Match": "*"})
            assert response.status_code == 404, (method, place, response.text)
        foreign = await stranger.post("/hl7/v1/connections", json=_listener(free_port, host="127.0.0.2"))
        assert _pointers(foreign) == ["/configuration/integration_id"]


async def test_the_same_creation_sent_twice_is_done_once(suite: Any, free_port: int) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        for _ in range(2):
            made = await admin.post(
                "/hl7/v1/connections", json=_listener(free_port), headers={"Idempotency-Key": "made-once"}
            )
            assert made.status_code == 201
        assert len((await admin.get("/hl7/v1/connections")).json()["items"]) == 1
