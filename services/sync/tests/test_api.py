"""The API over the whole module: a run against a FHIR server on the loopback, HL7 by the bus, roles."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from common.models.access import Role
from common.models.events import Event
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from sync.access import ACCESS
from sync.module import build

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
MESSAGE_ID = type_id("msg", uuid7(1_700_000_000_000, 1))
WAIT_S = 20.0


def document(endpoint: str) -> dict[str, Any]:
    return {
        "id": INTEGRATION_ID,
        "tenant": TENANT,
        "name": "Epic",
        "vendor": "epic",
        "product": "Epic",
        "environment": "test",
        "state": "active",
        "write_back": "off",
        "version": 1,
        "identifier_systems": [{"assigning_authority": "EPIC", "system": "urn:oid:1.2.3"}],
        "channels": {
            "fhir": {"kind": "fhir", "endpoint": endpoint, "time_zone": "America/Chicago", "credential": "api"},
            "hl7-in": {"kind": "hl7v2-in", "endpoint": "", "time_zone": "America/Chicago"},
        },
    }


def fhir_server(make: Any) -> Starlette:
    """Three patients, whose appointments all lie in the first window that is asked for."""
    windows: list[str] = []

    def bundle(rows: list[dict[str, Any]]) -> JSONResponse:
        return JSONResponse({"resourceType": "Bundle", "entry": [{"resource": row} for row in rows]})

    async def appointments(request: Request) -> JSONResponse:
        assert request.headers["authorization"] == "Bearer token"
        start = request.query_params.getlist("date")[0]
        windows.append(start)
        return bundle([make.appointment(number, number) for number in range(3)] if start == windows[0] else [])

    async def patients(request: Request) -> JSONResponse:
        return bundle([make.patient(int(one[1:])) for one in request.query_params["_id"].split(",")])

    return Starlette(routes=[Route("/R4/Appointment", appointments), Route("/R4/Patient", patients)])


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(WAIT_S):
        while not server.started:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/R4"
    finally:
        server.should_exit = True
        await serving


def auth_gateway(endpoint: str) -> Starlette:
    async def integration(request: Request) -> JSONResponse:
        if request.path_params["id"] != INTEGRATION_ID:
            return JSONResponse({"code": "integration.not-found"}, 404)
        return JSONResponse(document(endpoint))

    async def token(_: Request) -> JSONResponse:
        return JSONResponse({"access_token": "token", "expires_at": "2999-01-01T00:00:00.000Z"})

    path = "/auth/v1/integrations/{id}"
    return Starlette(routes=[Route(f"{path}/credentials/api:token", token, methods=["POST"]), Route(path, integration)])


def hl7_gateway() -> Starlette:
    body = "MSH|^~\\&|EPIC|DEMO|PS|HERE|20260301093000||ADT^A08|1|P|2.5.1\rPID|1||4001^^^EPIC||Überall^Ana\r"

    async def read(request: Request) -> JSONResponse:
        assert json.loads(await request.body()) == {"ids": [MESSAGE_ID]}
        item = {
            "id": MESSAGE_ID,
            "integration_id": INTEGRATION_ID,
            "channel": "hl7-in",
            "message_type": "ADT",
            "trigger_event": "A08",
            "received_at": "2026-03-01T15:31:00.000Z",
            "body": base64.b64encode(body.encode()).decode(),
        }
        return JSONResponse({"items": [item]})

    return Starlette(routes=[Route("/hl7/v1/messages:read", read, methods=["POST"])])


@pytest.fixture
async def suite(tmp_path: Path, make: Any) -> AsyncIterator[RunningSuite]:
    async with served(fhir_server(make)) as endpoint:
        peers = {"auth-gateway": auth_gateway(endpoint), "hl7-gateway": hl7_gateway()}
        runtime = make_test_runtime(tmp_path, "sync", peer_apps=peers)
        async with running(runtime, build) as up:
            yield up


async def wait_until(check: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WAIT_S):
        while not (found := await check()):  # noqa: ASYNC110 - what is seen through the API only
            await asyncio.sleep(0.02)
    return found


async def run_patients(suite: RunningSuite) -> dict[str, Any]:
    async with suite.client(Role.OPERATOR) as operator:
        body = {"integration_id": INTEGRATION_ID, "resource": "patient", "mode": "full"}
        started = await operator.post("/sync/v1/runs", json=body)
        assert started.status_code == 202, started.text
        location = started.headers["location"]
        assert location == f"/sync/v1/runs/{started.json()['id']}"

        async def ended() -> Any:
            run = (await operator.get(location)).json()
            return run if run["finished_at"] else None

        run: dict[str, Any] = await wait_until(ended)
        return run


async def test_a_run_brings_patients_that_a_steward_finds(suite: RunningSuite) -> None:
    run = await run_patients(suite)
    assert (run["state"], run["created"], run["error_code"]) == ("finished", 3, None)
    async with suite.client(Role.DATA_STEWARD) as steward:
        counts = (await steward.get("/sync/v1/records")).json()["items"]
        assert {row["type"]: row["count"] for row in counts} == {"patient": 3, "appointment": 0, "charge": 0}
        first = (await steward.post("/sync/v1/records/patient:search", json={"limit": 2})).json()
        assert len(first["items"]) == 2
        rest = (
            await steward.post("/sync/v1/records/patient:search", json={"limit": 2, "cursor": first["next"]})
        ).json()
        assert (len(rest["items"]), rest["next"]) == (1, None)
        wanted = {"name": "nunez1", "birth_date": "1970-05-17", "identifier": {"value": "4001"}}
        (found,) = (await steward.post("/sync/v1/records/patient:search", json=wanted)).json()["items"]
        read = await steward.get(f"/sync/v1/records/patient/{found['id']}")
        assert read.headers["etag"] == '"1"'
        assert read.json() == found
        (version,) = (await steward.get(f"/sync/v1/records/patient/{found['id']}/versions")).json()["items"]
        assert version["source_id"] == run["id"]
        (link,) = (await steward.post("/sync/v1/cross-references:search", json={"external_id": "p1"})).json()["items"]
        assert link["record_id"] == found["id"]
        listed = (await steward.get(f"/sync/v1/runs?integration_id={INTEGRATION_ID}&state=finished")).json()["items"]
        assert [row["id"] for row in listed] == [run["id"]]
        assert (await steward.get("/sync/v1/quarantine")).json() == {"items": [], "next": None}


async def test_a_message_from_the_bus_changes_the_same_patient(suite: RunningSuite) -> None:
    await run_patients(suite)
    data = {
        "message_id": MESSAGE_ID,
        "integration_id": INTEGRATION_ID,
        "channel": "hl7-in",
        "message_type": "ADT",
        "trigger_event": "A08",
    }
    event_id, now = suite.runtime.ids.new("evt"), suite.runtime.clock.now()
    event = Event(event_id, "ps.hl7.received", "/hl7-gateway/1", MESSAGE_ID, now, TENANT, "key", data)
    await suite.runtime.bus.publish([event])
    async with suite.client(Role.DATA_STEWARD) as steward:

        async def changed() -> Any:
            return (await steward.post("/sync/v1/records/patient:search", json={"name": "uberall"})).json()["items"]

        (found,) = await wait_until(changed)
        assert (found["version"], found["origin"]) == (2, "hl7v2")


async def test_schedules_are_made_changed_and_deleted(suite: RunningSuite) -> None:
    body = {"integration_id": INTEGRATION_ID, "resource": "appointment", "mode": "incremental", "every_s": 3600}
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        made = await admin.post("/sync/v1/schedules", json=body)
        assert made.status_code == 201
        path = made.headers["location"]
        assert (await admin.post("/sync/v1/schedules", json=body)).status_code == 409
        assert (await admin.post("/sync/v1/schedules", json={**body, "every_s": 1})).status_code == 422
        assert (await admin.get("/sync/v1/schedules")).json()["items"] == [made.json()]
        assert (await admin.patch(path, json={"every_s": 60})).status_code == 428
        changed = await admin.patch(path, json={"every_s": 60}, headers={"If-Match": made.headers["etag"]})
        assert (changed.status_code, changed.json()["every_s"], changed.headers["etag"]) == (200, 60, '"2"')
        stale = await admin.patch(path, json={"every_s": 61}, headers={"If-Match": made.headers["etag"]})
        assert stale.status_code == 412
        assert (await admin.delete(path)).status_code == 204
        assert (await admin.get(path)).status_code == 404


async def test_bad_requests_are_problems(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN) as admin:
        for method, path, body, status, code in (
            ("POST", "/sync/v1/runs", {"integration_id": INTEGRATION_ID}, 422, "request.invalid"),
            ("POST", "/sync/v1/runs", {"integration_id": "x", "resource": "patient"}, 404, "request.invalid-id"),
            ("POST", "/sync/v1/runs", {"integration_id": INTEGRATION_ID, "resource": "x"}, 422, "request.invalid"),
            ("GET", f"/sync/v1/runs/{type_id('run', 7)}", None, 404, "run.not-found"),
            ("POST", f"/sync/v1/runs/{type_id('run', 7)}:cancel", None, 404, "run.not-found"),
            ("POST", "/sync/v1/records/coverage:search", {}, 404, "record.type-unknown"),
            ("POST", "/sync/v1/records/patient:search", {"name": "a", "surname": "b"}, 422, "request.invalid"),
            ("POST", "/sync/v1/records/patient:search", {"cursor": "?"}, 400, "request.bad-cursor"),
            ("GET", f"/sync/v1/records/patient/{type_id('rec', 7)}", None, 404, "record.not-found"),
            ("GET", f"/sync/v1/schedules/{type_id('sch', 7)}", None, 404, "schedule.not-found"),
        ):  # fmt: skip
            answer = await admin.request(method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path


async def test_another_tenant_sees_nothing_and_a_second_start_is_refused(suite: RunningSuite) -> None:
    run = await run_patients(suite)
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get(f"/sync/v1/runs/{run['id']}")).status_code == 404
        assert (await stranger.post("/sync/v1/records/patient:search", json={})).json()["items"] == []
        body = {"integration_id": INTEGRATION_ID, "resource": "patient", "mode": "full"}
        assert (await stranger.post("/sync/v1/runs", json=body)).status_code == 404


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TENANT_ADMIN])
async def test_every_route_is_open_to_its_roles_only(suite: RunningSuite, role: Role) -> None:
    ids = {
        "run_id": type_id("run", 7), "record_id": type_id("rec", 7), "schedule_id": type_id("sch", 7),
        "record_type": "patient", "integration_id": INTEGRATION_ID, "resource": "patient", "version": 1,
        "kind": "payer",
    }  # fmt: skip
    async with suite.client(role) as client:
        for row in ACCESS:
            answer = await client.request(row.method, f"/sync/v1{row.path.format(**ids)}", json={})
            assert (answer.status_code == 403) is (role not in row.roles), f"{row.method} {row.path}"
