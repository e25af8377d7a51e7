"""Vendor servers through the API: made, seen by their tenant alone, spoken to as a client would, removed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.models.access import Role
from common.testing import OTHER_TENANT, RunningSuite, make_test_runtime, running
from pms import unity, unity_session
from simulator.core.servers import PATIENTS_TOTAL_MAX, SERVERS_MAX
from simulator.module import build

UNITY = {
    "service_username": "svc",
    "service_password": "canary-service",
    "application": "App.Test",
    "user": "jdoe",
    "user_password": "canary-user",
}
SERVERS = "/simulator/v1/servers"
LOG_ON = unity_session.get_token("svc", "canary-service")


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as up:
        yield up


async def make(suite: RunningSuite, **body: Any) -> httpx.Response:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        return await admin.post(SERVERS, json={"name": "north", "vendor": "unity", "unity": UNITY} | body)


async def send(suite: RunningSuite, base: str, request: unity.UnityRequest) -> httpx.Response:
    async with suite.client() as client:
        return await client.post(request.url(base), content=request.body, headers=dict(request.headers))


async def test_a_unity_server_from_its_making_to_its_end(suite: RunningSuite) -> None:
    made = await make(suite, patients=40, unity=UNITY | {"product": "PM"})
    assert made.status_code == 201, made.text
    assert "canary" not in made.text
    assert (made.json()["vendor"], made.json()["patients"], made.json()["unity"]["system"]) == (
        "unity", 40, "Practice Management",
    )  # fmt: skip
    base = made.json()["unity_base"]
    token = unity_session.parse_token(
        (await send(suite, base, unity_session.get_token("svc", "canary-service"))).content
    )
    assert token.token is not None, "a GUID"
    session = unity.Session("App.Test", "jdoe", token.token)
    user = unity_session.parse_user(
        (await send(suite, base, unity_session.authenticate_user(session, "canary-user"))).content
    )
    assert user.valid
    answer = unity.parse_answer((await send(suite, base, unity.patient(session, "40"))).content)
    assert answer.rows[0]["ID"] == "40"
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        assert [row["name"] for row in (await admin.get(SERVERS)).json()["items"]] == ["north"]
        assert (await admin.get(f"{SERVERS}/north")).json() == made.json()
        assert (await admin.delete(f"{SERVERS}/north")).status_code == 204
        assert (await admin.get(f"{SERVERS}/north")).status_code == 404
    gone = await send(suite, base, unity.patient(session, "40"))
    assert (gone.status_code, gone.headers["content-type"]) == (404, "text/html")


async def test_an_epic_server_is_a_practice_of_its_own(suite: RunningSuite) -> None:
    made = (await make(suite, name="south", vendor="epic", unity=None, patients=30, seed=9)).json()
    async with suite.client() as vendor:
        statement = await vendor.get(f"{made['fhir_base']}/metadata", headers={"Accept": "application/fhir+json"})
        assert statement.json()["implementation"]["url"] == made["fhir_base"]
        refused = await vendor.post(made["token_url"], data={"grant_type": "client_credentials"})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client")
        assert (await vendor.post(f"{made['fhir_base']}/x".replace("/epic/", "/unity/"))).status_code == 404
    async with suite.client(Role.VIEWER) as viewer:
        overview = (await viewer.get("/simulator/v1")).json()
        assert [row["name"] for row in overview["practices"]] == ["demo"], "other tenants do not see it"


async def test_a_server_belongs_to_its_tenant(suite: RunningSuite) -> None:
    assert (await make(suite)).status_code == 201
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as other:
        assert (await other.get(SERVERS)).json()["items"] == []
        assert (await other.get(f"{SERVERS}/north")).status_code == 404
        assert (await other.delete(f"{SERVERS}/north")).status_code == 404
        taken = await other.post(SERVERS, json={"name": "north", "vendor": "epic"})
        assert (taken.status_code, taken.json()["code"]) == (409, "request.conflict")
    assert (await make(suite, name="demo")).status_code == 409, "a practice of the settings"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "North"},
        {"name": "unity"}, {"name": "-x"}, {"name": "a/b"}, {"name": "x" * 41}, {"vendor": "other"}, {"patients": 0},
        {"patients": 100_001}, {"unity": None}, {"vendor": "epic"}, {"unity": UNITY | {"idle_life_s": 0}},
        {"unity": UNITY | {"unlicensed": ["GetNothing"]}}, {"unity": UNITY | {"user_password": ""}},
        {"unity": UNITY | {"product": "Sunrise"}}, {"more": 1},
    ],
)  # fmt: skip
async def test_servers_that_cannot_be(suite: RunningSuite, body: dict[str, Any]) -> None:
    answer = await make(suite, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
    assert "canary" not in answer.text


async def test_there_is_room_for_so_many(suite: RunningSuite) -> None:
    for number in range(SERVERS_MAX):
        assert (await make(suite, name=f"s{number}", patients=1)).status_code == 201
    assert (await make(suite, name="one-more", patients=1)).status_code == 409
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        assert (await admin.delete(f"{SERVERS}/s0")).status_code == 204
    assert (await make(suite, name="one-more", patients=1)).status_code == 201
    assert PATIENTS_TOTAL_MAX >= 100_000


@pytest.mark.parametrize(
    ("fault", "request_of", "status"),
    [
        ("expired-secret", unity_session.get_token("svc", "canary-service"), 200),
        ("unavailable", unity_session.get_token("svc", "canary-service"), 503),
        ("rate-limited", unity.magic("Echo", unity.Session("App.Test", "jdoe", "")), 429),
    ],
)
async def test_a_server_has_faults_of_its_own(
    suite: RunningSuite, fault: str, request_of: unity.UnityRequest, status: int
) -> None:
    base = (await make(suite)).json()["unity_base"]
    async with suite.client(Role.OPERATOR) as operator:
        assert (await operator.put(f"/simulator/v1/faults/{fault}", json={})).status_code == 200
        assert unity_session.parse_token((await send(suite, base, LOG_ON)).content).token, "those of the settings"
        started = await operator.put(f"{SERVERS}/north/faults/{fault}", json={})
        assert (started.status_code, started.json()["active"]) == (200, True)
        listed = (await operator.get(f"{SERVERS}/north/faults")).json()["items"]
        assert [row["name"] for row in listed if row["active"]] == [fault]
        broken = await send(suite, base, request_of)
        assert broken.status_code == status
        assert unity_session.parse_token(broken.content).token is None
        assert (await operator.delete(f"{SERVERS}/north/faults/{fault}")).status_code == 204
    assert (await send(suite, base, request_of)).status_code == 200


async def test_faults_of_a_server_that_cannot_be(suite: RunningSuite) -> None:
    await make(suite)
    async with suite.client(Role.OPERATOR) as operator:
        for fault, status in (("nothing", 404), ("tenant-not-enabled", 404), ("hl7-version", 404)):
            assert (await operator.put(f"{SERVERS}/north/faults/{fault}", json={})).status_code == status
        wrong = await operator.put(f"{SERVERS}/north/faults/other-product", json={"parameters": {"product": "Sunrise"}})
        assert wrong.status_code == 422
        assert "/parameters/product" in wrong.text
        await operator.put(f"{SERVERS}/north/faults/slow", json={"parameters": {"delay_ms": 1}})
        await operator.put(f"{SERVERS}/north/faults/session-idle")
        assert (await operator.delete(f"{SERVERS}/north/faults")).status_code == 204
        assert not any(row["active"] for row in (await operator.get(f"{SERVERS}/north/faults")).json()["items"])
    async with suite.client(Role.OPERATOR, tenant=OTHER_TENANT) as other:
        assert (await other.get(f"{SERVERS}/north/faults")).status_code == 404
        assert (await other.put(f"{SERVERS}/north/faults/slow")).status_code == 404
        assert (await other.delete(f"{SERVERS}/north/faults")).status_code == 404
        assert (await other.delete(f"{SERVERS}/north/faults/slow")).status_code == 404


@pytest.mark.parametrize(
    ("fault", "parameters", "action", "says"),
    [
        ("user-not-authenticated", {}, "GetPatient", "GetUserAuthentication first"),
        ("session-idle", {}, "GetServerInfo", "logged out due to inactivity"),
        ("magic-error", {}, "GetPatient", "Object reference"),
        ("magic-error", {"kind": "critical-status"}, "GetPatient", "Critical"),
        ("action-unlicensed", {"action": "GetDictionary"}, "GetDictionary", "not licensed"),
        ("other-product", {"product": "PM"}, "GetServerInfo", "Practice Management"),
        ("dictionary-renamed", {}, "GetDictionary", "Female (new)"),
        ("client-disabled", {}, "GetUserAuthentication", "locked"),
    ],
)
async def test_what_unity_answers_under_a_fault(
    suite: RunningSuite, fault: str, parameters: dict[str, str], action: str, says: str
) -> None:
    base = (await make(suite)).json()["unity_base"]
    token = unity_session.parse_token((await send(suite, base, LOG_ON)).content).token
    session = unity.Session("App.Test", "jdoe", token or "")
    await send(suite, base, unity_session.authenticate_user(session, "canary-user"))
    asked = {"GetPatient": ("2",), "GetDictionary": ("Sex",), "GetUserAuthentication": ("canary-user",)}.get(action, ())
    request = unity.patient(session, "2") if action == "GetPatient" else unity.magic(action, session, asked)
    assert says not in (await send(suite, base, request)).text
    async with suite.client(Role.OPERATOR) as operator:
        await operator.put(f"{SERVERS}/north/faults/{fault}", json={"parameters": parameters})
    answer = await send(suite, base, request)
    assert (answer.status_code, says in answer.text) == (200, True), answer.text
