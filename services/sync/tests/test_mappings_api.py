"""Field mappings over HTTP: read, change, refuse, compare, restore, try, and what a change would make different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from httpx import AsyncClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from sync.module import build

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
PATIENT = f"/sync/v1/mappings/{INTEGRATION_ID}/patient"
WAIT_S = 20.0
WANTED: set[str] = set()


def fhir_server(make: Any) -> Starlette:
    """Three patients with an appointment each, of a type that the PMS calls NEWPT."""
    kind = {"coding": [{"system": "s", "code": "NEWPT", "display": "New patient"}]}
    windows: list[str] = []

    def bundle(rows: list[dict[str, Any]]) -> JSONResponse:
        return JSONResponse({"resourceType": "Bundle", "entry": [{"resource": row} for row in rows]})

    async def appointments(request: Request) -> JSONResponse:
        start = request.query_params.getlist("date")[0]
        windows.append(start)
        rows = [make.appointment(number, number, appointmentType=kind) for number in range(3)]
        return bundle(rows if start in {windows[0], windows[-1]} else [])

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
    channel = {"kind": "fhir", "endpoint": endpoint, "time_zone": "America/Chicago"}
    document = {
        "id": INTEGRATION_ID, "tenant": TENANT, "name": "Epic", "vendor": "epic", "product": "Epic",
        "environment": "test", "state": "active", "write_back": "off", "version": 1, "identifier_systems": [],
        "channels": {"fhir": channel},
    }  # fmt: skip

    async def integration(request: Request) -> JSONResponse:
        if request.path_params["id"] != INTEGRATION_ID:
            return JSONResponse({"code": "integration.not-found"}, 404)
        return JSONResponse(document)

    async def require_change(request: Request) -> Response:
        """This integration wants a change record once `WANTED` is the one that covers it."""
        if WANTED and (await request.json())["change_id"] not in WANTED:
            return JSONResponse({"code": "change.required", "status": 409}, 409)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/auth/v1/integrations/{id}:require-change", require_change, methods=["POST"]),
            Route("/auth/v1/integrations/{id}", integration),
        ]
    )


@pytest.fixture
async def suite(tmp_path: Path, make: Any) -> AsyncIterator[RunningSuite]:
    async with served(fhir_server(make)) as endpoint:
        runtime = make_test_runtime(tmp_path, "sync", peer_apps={"auth-gateway": auth_gateway(endpoint)})
        async with running(runtime, build) as up:
            yield up


@pytest.fixture
async def admin(suite: RunningSuite) -> AsyncIterator[AsyncClient]:
    async with suite.client(Role.TENANT_ADMIN) as client:
        yield client


async def wait_until(check: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WAIT_S):
        while not (found := await check()):  # noqa: ASYNC110 - what is seen through the API only
            await asyncio.sleep(0.02)
    return found


async def run(admin: AsyncClient, resource: str) -> dict[str, Any]:
    body = {"integration_id": INTEGRATION_ID, "resource": resource, "mode": "full"}
    started = await admin.post("/sync/v1/runs", json=body)
    assert started.status_code == 202, started.text

    async def ended() -> Any:
        found = (await admin.get(started.headers["location"])).json()
        return found if found["finished_at"] else None

    found: dict[str, Any] = await wait_until(ended)
    return found


def with_row(rows: list[dict[str, Any]], target: str, **changed: Any) -> list[dict[str, Any]]:
    """The rows with one replaced or added."""
    return [*(row for row in rows if row["target"] != target), {"target": target, **changed}]


async def test_a_mapping_is_changed_compared_and_restored(admin: AsyncClient) -> None:
    listed = (await admin.get(f"/sync/v1/mappings?integration_id={INTEGRATION_ID}")).json()["items"]
    assert [(row["resource"], row["version"]) for row in listed] == [("patient", 0), ("appointment", 0)]
    first = await admin.get(PATIENT)
    assert (first.json()["version"], first.headers["etag"]) == (0, '"0"')
    rows = first.json()["rows"]
    same = await admin.put(PATIENT, json={"rows": rows}, headers={"If-Match": '"0"'})
    assert (same.status_code, same.json()["warnings"], same.json()["rows"]) == (200, [], rows), same.text

    upper = with_row(rows, "names[*].family", source="family", transforms=[{"name": "upper"}])
    body = {"rows": upper, "note": "as printed on cards"}
    assert (await admin.put(PATIENT, json=body)).status_code == 428
    assert (await admin.put(PATIENT, json=body, headers={"If-Match": '"0"'})).status_code == 412
    changed = await admin.put(PATIENT, json=body, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"'), changed.text

    versions = (await admin.get(f"{PATIENT}/versions")).json()["items"]
    assert [(row["version"], row["note"]) for row in versions] == [(2, "as printed on cards"), (1, "")]
    assert versions[0]["saved_by"]
    difference = (await admin.get(f"{PATIENT}/difference?before=0&after=2")).json()
    (row,) = difference["changed"]
    assert (row["after"]["target"], row["columns"]) == ("names[*].family", ["transforms"])
    assert (difference["added"], difference["removed"], difference["moved"]) == ([], [], True)

    restored = await admin.post(f"{PATIENT}:restore", json={"version": 0}, headers={"If-Match": '"2"'})
    assert (restored.json()["version"], restored.json()["restored_from"]) == (3, 0)
    assert (await admin.get(PATIENT)).json()["rows"] == rows
    assert (await admin.get(f"{PATIENT}/versions/2")).json()["note"] == "as printed on cards"
    missing = await admin.get(f"{PATIENT}/versions/9")
    assert (missing.status_code, missing.json()["code"]) == (404, "mapping.version-not-found")


async def test_a_mistake_is_refused_with_row_and_column(admin: AsyncClient) -> None:
    rows = (await admin.get(PATIENT)).json()["rows"]
    for mistake, pointer, code in (
        ({"target": "birth_day", "source": "birthDate"}, "/target", "mapping.unknown-target"),
        ({"target": "gender", "source": "name.where("}, "/source", "mapping.source-syntax"),
        (
            {"target": "gender", "source": "gender", "transforms": [{"name": "shout"}]},
            "/transforms", "mapping.unknown-transform",
        ),
        ({"target": "gender", "source": "gender", "default": 7}, "/default", "mapping.default-type"),
        (
            {"target": "active", "source": "active", "transforms": [{"name": "upper"}]},
            "/transforms", "mapping.type-mismatch",
        ),
    ):  # fmt: skip
        given = [*(row for row in rows if row["target"] != mistake["target"]), mistake]
        refused = await admin.put(PATIENT, json={"rows": given}, headers={"If-Match": '"0"'})
        assert (refused.status_code, refused.json()["code"]) == (422, "mapping.refused"), refused.text
        found = [(each["pointer"], each["code"]) for each in refused.json()["errors"]]
        assert found == [(f"/rows/{len(given) - 1}{pointer}", code)]
    without = [row for row in rows if not row["target"].startswith("names")]
    refused = await admin.put(PATIENT, json={"rows": without}, headers={"If-Match": '"0"'})
    assert [each["code"] for each in refused.json()["errors"]] == ["mapping.required-unmapped"]
    for body in ({}, {"rows": [{"target": "gender", "src": "x"}]}):
        assert (await admin.put(PATIENT, json=body, headers={"If-Match": '"0"'})).status_code == 422
    assert (await admin.get(PATIENT)).json()["version"] == 0
    assert (await admin.get(PATIENT.replace("patient", "charge"))).status_code == 422


async def test_an_unknown_field_of_the_source_is_a_warning(admin: AsyncClient) -> None:
    rows = with_row((await admin.get(PATIENT)).json()["rows"], "gender", source="sexAtBirth")
    saved = await admin.put(PATIENT, json={"rows": rows}, headers={"If-Match": '"0"'})
    assert saved.status_code == 200
    assert [(each["column"], each["code"]) for each in saved.json()["warnings"]] == [
        ("source", "mapping.unknown-source")
    ]


async def test_a_sample_shows_input_output_and_findings_per_row(admin: AsyncClient, make: Any) -> None:
    sample = make.patient(1, telecom=[{"system": "phone", "value": "5550100"}, {"system": "phone"}])
    tried = (await admin.post(f"{PATIENT}:test", json={"sample": sample})).json()
    rows = {row["target"]: row for row in tried["rows"]}
    assert tried["record"]["birth_date"] == "1970-05-17"
    assert tried["rejected"] is None
    assert (rows["birth_date"]["input"], rows["birth_date"]["output"]) == ("1970-05-17", "1970-05-17")
    assert (rows["names[*].family"]["input"], rows["names[*].family"]["output"]) == (["Núñez1"], "Núñez1")
    assert rows["telecom[*].value"]["input"] == ["5550100", None]
    assert rows["telecom[*].value"]["findings"] == [{"rule": "required", "value_class": "absent"}]

    given = with_row([*rows.values()], "birth_date", source="birthDate")
    given = [
        {"target": row["target"], "source": row.get("source", "")} for row in given if row["target"] == "birth_date"
    ]
    refused = await admin.post(f"{PATIENT}:test", json={"sample": sample, "rows": given})
    assert refused.json()["code"] == "mapping.refused"
    bad = (await admin.post(f"{PATIENT}:test", json={"sample": make.patient(1, birthDate="May")})).json()
    assert bad["record"] is None
    assert bad["rejected"]["code"] == "record.invalid"
    assert bad["rejected"]["value_class"] == "text"
    assert (await admin.post(f"{PATIENT}:test", json={"sample": {"resourceType": "Group"}})).json()["rejected"][
        "rule"
    ] == ("resourceType")


async def test_a_dry_run_counts_what_would_change_and_stores_nothing(admin: AsyncClient) -> None:
    assert (await run(admin, "patient"))["created"] == 3
    rows = (await admin.get(PATIENT)).json()["rows"]
    body = {"rows": with_row(rows, "names[*].family", source="family", transforms=[{"name": "upper"}])}
    found = (await admin.post(f"{PATIENT}:dry-run", json=body)).json()
    assert (found["resources"], found["changed"], found["newly_rejected"]) == (3, 3, 0), found
    (target,) = found["targets"]
    stored = (await admin.post("/sync/v1/records/patient:search", json={})).json()["items"]
    assert (target["target"], target["changed"]) == ("names[*].family", 3)
    assert sorted(target["examples"]) == sorted(each["id"] for each in stored)
    assert {each["version"] for each in stored} == {1}
    never = {"rows": with_row(rows, "gender", source="birthDate")}
    rejected = (await admin.post(f"{PATIENT}:dry-run", json=never)).json()
    assert rejected["newly_rejected"] == 3
    assert rejected["rejections"][0]["count"] == 3


VALUE_MAP = f"/sync/v1/value-maps/{INTEGRATION_ID}/appointment-type"
NEW = {"source_system": "", "source_code": "NEW", "display": "New patient visit", "target_code": "new-patient"}


async def test_a_value_map_goes_out_as_csv_and_comes_in_again(admin: AsyncClient) -> None:
    listed = (await admin.get(f"/sync/v1/value-maps?integration_id={INTEGRATION_ID}")).json()["items"]
    assert {row["kind"]: row["version"] for row in listed} == dict.fromkeys(
        ("appointment-type", "location", "practitioner", "payer", "status", "custom"), 0
    )
    assert (await admin.put(VALUE_MAP, json={"rows": [NEW]})).status_code == 428
    saved = await admin.put(VALUE_MAP, json={"rows": [NEW]}, headers={"If-Match": '"0"'})
    assert (saved.status_code, saved.headers["etag"], saved.json()["rows"]) == (200, '"1"', [NEW]), saved.text
    file = await admin.get(f"{VALUE_MAP}:export")
    assert file.headers["content-type"].startswith("text/csv")
    text = file.text + 's,OLD,"Follow-up, 20 min",follow-up\r\n'
    imported = await admin.post(f"{VALUE_MAP}:import", json={"csv": text}, headers={"If-Match": '"1"'})
    assert [row["target_code"] for row in imported.json()["rows"]] == ["new-patient", "follow-up"], imported.text
    assert (await admin.get(f"{VALUE_MAP}:export")).text == text
    difference = (await admin.get(f"{VALUE_MAP}/difference?before=1&after=2")).json()
    assert [row["source_code"] for row in difference["added"]] == ["OLD"]
    restored = await admin.post(f"{VALUE_MAP}:restore", json={"version": 1}, headers={"If-Match": '"2"'})
    assert (restored.json()["version"], restored.json()["restored_from"], restored.json()["rows"]) == (3, 1, [NEW])
    versions = (await admin.get(f"{VALUE_MAP}/versions")).json()["items"]
    assert [row["version"] for row in versions] == [3, 2, 1]
    assert len((await admin.get(f"{VALUE_MAP}/versions/2")).json()["rows"]) == 2
    assert (await admin.get(f"{VALUE_MAP}/versions/7")).status_code == 404


async def test_a_value_map_with_a_mistake_is_refused_whole(admin: AsyncClient) -> None:
    empty = {**NEW, "source_code": "X", "target_code": " "}
    refused = await admin.put(VALUE_MAP, json={"rows": [NEW, empty]}, headers={"If-Match": '"0"'})
    assert (refused.status_code, refused.json()["code"]) == (422, "value-map.refused")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/rows/1/target_code"]
    twice = await admin.put(VALUE_MAP, json={"rows": [NEW, NEW]}, headers={"If-Match": '"0"'})
    assert [each["code"] for each in twice.json()["errors"]] == ["value-map.twice"]
    header = "source_system,source_code,display,target_code\r\n"
    for text, code in (
        ("a,b\r\n1,2\r\n", "value-map.header"),
        (header + "s,A,x\r\n", "value-map.cells"),
        (header + 's,"A\r\n', "value-map.not-csv"),
    ):
        bad = await admin.post(f"{VALUE_MAP}:import", json={"csv": text}, headers={"If-Match": '"0"'})
        assert (bad.status_code, [each["code"] for each in bad.json()["errors"]]) == (422, [code]), bad.text
    assert (await admin.get(VALUE_MAP)).json()["version"] == 0
    assert (await admin.get(VALUE_MAP.replace("appointment-type", "colour"))).status_code == 422


async def test_values_without_a_row_are_listed_with_suggestions_until_they_are_mapped(admin: AsyncClient) -> None:
    await admin.put(VALUE_MAP, json={"rows": [NEW]}, headers={"If-Match": '"0"'})
    path = f"/sync/v1/mappings/{INTEGRATION_ID}/appointment"
    lookup = {"name": "value-map", "parameters": {"map": "appointment-type", "unknown": "absent"}}
    rows = (await admin.get(path)).json()["rows"]
    rows = with_row(rows, "description", source="appointmentType.coding.first()", transforms=[lookup])
    tried = await admin.post(f"{path}:dry-run", json={"rows": rows})
    assert (tried.status_code, tried.json()["resources"]) == (200, 3), tried.text
    saved = await admin.put(path, json={"rows": rows}, headers={"If-Match": '"0"'})
    assert saved.status_code == 200, saved.text
    assert (await admin.get(f"{VALUE_MAP}/unmapped")).json()["items"] == []  # a dry run counts nothing

    assert (await run(admin, "appointment"))["state"] == "finished"
    (value,) = (await admin.get(f"{VALUE_MAP}/unmapped")).json()["items"]
    assert (value["source_system"], value["source_code"], value["display"]) == ("s", "NEWPT", "New patient")
    assert value["times"] >= 3
    assert value["suggestions"][0]["target_code"] == "new-patient"
    more = [NEW, {**NEW, "source_code": "NEWPT"}]
    assert (await admin.put(VALUE_MAP, json={"rows": more}, headers={"If-Match": '"1"'})).status_code == 200
    assert (await admin.get(f"{VALUE_MAP}/unmapped")).json()["items"] == []
    await run(admin, "appointment")
    found = (await admin.post("/sync/v1/records/appointment:search", json={})).json()["items"]
    assert {each["record"].get("description") for each in found} == {"new-patient"}


async def test_another_tenant_finds_nothing(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        for path in (
            PATIENT,
            VALUE_MAP,
            f"{VALUE_MAP}/unmapped",
            f"{PATIENT}/versions",
            f"/sync/v1/mappings?integration_id={INTEGRATION_ID}",
        ):
            assert (await stranger.get(path)).status_code == 404


@pytest.fixture
def wanted() -> Iterator[str]:
    """The change record that the integration wants."""
    record = type_id("chg", uuid7(1_700_000_000_000, 1))
    WANTED.add(record)
    yield record
    WANTED.clear()


async def test_where_a_change_record_is_wanted_nothing_changes_without(admin: AsyncClient, wanted: str) -> None:
    rows = (await admin.get(PATIENT)).json()["rows"]
    held = {"If-Match": '"0"'}
    value_map = f"/sync/v1/value-maps/{INTEGRATION_ID}/status"
    row = {"source_system": "s", "source_code": "a", "display": "A", "target_code": "b"}
    for method, path, body in (
        ("PUT", PATIENT, {"rows": rows}),
        ("POST", f"{PATIENT}:restore", {"version": 0}),
        ("PUT", value_map, {"rows": [row]}),
        ("POST", f"{value_map}:restore", {"version": 0}),
        ("POST", f"{value_map}:import", {"csv": "source_system,source_code,display,target_code\n"}),
    ):
        refused = await admin.request(method, path, json=body, headers=held)
        assert (refused.status_code, refused.json()["code"]) == (409, "change.required"), path
    assert (await admin.get(PATIENT)).json()["version"] == 0
    assert (await admin.post(f"{PATIENT}:test", json={"sample": {"resourceType": "Patient"}})).status_code == 200
    saved = await admin.put(PATIENT, json={"rows": rows}, headers=held | {"X-Change-Record": wanted})
    assert (saved.status_code, saved.json()["version"]) == (200, 1)
