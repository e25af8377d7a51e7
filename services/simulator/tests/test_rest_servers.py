"""Oracle Health's and plain FHIR servers over their wire: tokens, demands of searches, pages, writes with ETags."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.models.access import Role
from common.testing import RunningSuite, make_test_runtime, running
from pms.cerner import urn_of
from simulator.core.cerner_dialect import PATIENT_REFUSAL
from simulator.module import build

SERVERS = "/simulator/v1/servers"
SECRET = "canary-%secret:x"
ALL = ("Account", "Appointment", "ChargeItem", "Coverage", "Encounter", "Group", "Location", "Patient", "Practitioner",
       "Slot")  # fmt: skip


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as up:
        yield up


async def make(suite: RunningSuite, vendor: str, *scopes: str) -> dict[str, Any]:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        made = await admin.post(SERVERS, json={"name": "north", "vendor": vendor, "patients": 60})
        assert made.status_code == 201, made.text
        given = scopes or tuple(f"system/{kind}.cruds" for kind in ALL)
        client = await admin.put("/simulator/v1/clients/app", json={"secret": SECRET, "scopes": given})
        assert client.status_code == 200, client.text
        assert "canary" not in client.text
        return dict(made.json())


def basic(client_id: str = "app", secret: str = SECRET) -> dict[str, str]:
    pair = f"{client_id}:{httpx.QueryParams({'s': secret}).get('s')}"
    quoted = pair.replace("%", "%25").replace(":x", "%3Ax")
    return {"authorization": "Basic " + base64.b64encode(quoted.encode()).decode()}


async def ask(suite: RunningSuite, url: str, headers: dict[str, str], **form: str) -> httpx.Response:
    async with suite.client() as client:
        return await client.post(url, data={"grant_type": "client_credentials"} | form, headers=headers)


async def reach(suite: RunningSuite, server: dict[str, Any], scope: str = "") -> httpx.AsyncClient:
    granted = await ask(suite, server["token_url"], basic(), **({"scope": scope} if scope else {}))
    assert granted.status_code == 200, granted.text
    client = suite.client()
    client.headers["authorization"] = f"Bearer {granted.json()['access_token']}"
    return client


async def test_oracle_health_tokens(suite: RunningSuite) -> None:
    server = await make(suite, "cerner", "system/Patient.rs", "system/Appointment.rs")
    granted = await ask(suite, server["token_url"], basic(), scope="system/Patient.rs system/Patient.read")
    assert (granted.status_code, granted.json()["expires_in"]) == (200, 570)
    assert granted.json()["scope"] == "system/Patient.rs", "a v1 scope is dropped without a word"
    for headers, form, status, name in (
        ({}, {}, 401, "authorization-header"),
        (basic(secret="another"), {}, 400, "client-credentials"),
        (basic("stranger"), {}, 400, "client-credentials"),
        (basic(), {"scope": "system/Patient.read"}, 400, "scopes-empty"),
    ):
        refused = await ask(suite, server["token_url"], headers, **form)
        urn = urn_of(refused.json()["error_uri"])
        assert urn is not None
        assert (refused.status_code, urn.name) == (status, name)
        assert refused.headers["cerner-correlation-id"] in refused.json()["error_uri"]
    elsewhere = server["token_url"].replace(server["tenant"], "11111111-2222-4333-8444-555555555555")
    refused = await ask(suite, elsewhere, basic())
    assert (refused.json()["error"], urn_of(refused.json()["error_uri"]).name) == ("invalid_grant", "tenant-unknown")
    async with suite.client() as client:
        wrong = await client.get(server["fhir_base"].replace(server["tenant"], "x") + "/Patient/1")
        assert (wrong.status_code, wrong.text) == (403, "Tenant not valid or accessible")
        nobody = await client.get(server["fhir_base"] + "/Patient/1")
        assert (nobody.status_code, "Invalid issuer" in nobody.headers["www-authenticate"]) == (401, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Patient", 400), ("Patient?family=a", 200), ("Appointment?date=ge2026-03-01&date=lt2026-03-08", 400),
        ("Slot?start=ge2026-03-02&start=lt2026-03-03", 400), ("Encounter", 400), ("Coverage", 400), ("Person", 404),
        ("Slot?service-type=x&start=ge2026-03-02&start=lt2026-03-03", 200), ("Location", 400),
    ],
)  # fmt: skip
async def test_what_oracle_health_demands_of_a_search(suite: RunningSuite, path: str, status: int) -> None:
    server = await make(suite, "cerner")
    async with await reach(suite, server) as client:
        found = await client.get(f"{server['fhir_base']}/{path}")
    assert found.status_code == status, found.text
    if path == "Patient":
        assert PATIENT_REFUSAL in found.text
    if path.startswith("Slot?service"):
        assert len(found.json()["entry"]) == 50


async def pages(client: httpx.AsyncClient, url: str | None) -> list[dict[str, Any]]:
    found = []
    for _ in range(200):
        if url is None:
            return found
        bundle = (await client.get(url)).json()
        found += [entry["resource"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    raise AssertionError("endless")


async def test_pages_of_oracle_health_repeat_an_id(suite: RunningSuite) -> None:
    server = await make(suite, "cerner")
    async with await reach(suite, server) as client:
        base = server["fhir_base"]
        found = await pages(client, f"{base}/Slot?service-type=x&start=ge2026-03-02&start=lt2026-03-04&_count=100")
    ids = [row["id"] for row in found]
    assert len(ids) > len(set(ids)), "an id repeats across pages"
    assert len({row["start"] for row in found}) > 36


async def test_what_belongs_together(suite: RunningSuite) -> None:
    server = await make(suite, "fhir")
    async with await reach(suite, server) as client:
        base = server["fhir_base"]
        encounters = await pages(client, f"{base}/Encounter?date=ge2026-01-01&date=lt2026-03-01&_count=1000")
        charges = await pages(client, f"{base}/ChargeItem?date=ge2026-01-01&date=lt2026-03-01&_count=1000")
        patients = {row["id"] for row in await pages(client, f"{base}/Patient?_count=1000")}
        coverages = await pages(client, f"{base}/Coverage?_count=1000")
        accounts = await pages(client, f"{base}/Account?_count=1000")
        one = (await client.get(f"{base}/Encounter/{encounters[0]['id']}")).json()
        charge = (await client.get(f"{base}/ChargeItem/{charges[0]['id']}")).json()
        slot = (await pages(client, f"{base}/Slot?start=ge2026-03-02&start=lt2026-03-03&_count=1000"))[0]
        assert (await client.get(f"{base}/Slot/{slot['id']}")).json() == slot
        assert (await client.get(f"{base}/Slot/a.b.c")).status_code == 404
    assert len(patients) == len(accounts) == 60
    assert 0 < len(coverages) < 60
    assert one == encounters[0]
    assert charge == charges[0]
    assert {row["context"]["reference"].split("/")[1] for row in charges} <= {row["id"] for row in encounters}
    assert {row["subject"]["reference"].split("/")[1] for row in encounters} <= patients
    held = {row["id"] for row in coverages}
    assert {c["coverage"]["reference"].split("/")[1] for row in accounts for c in row.get("coverage", ())} == held


async def test_changes_since_an_instant(suite: RunningSuite) -> None:
    server = await make(suite, "fhir")
    async with await reach(suite, server) as client:
        base = server["fhir_base"]
        everybody = await pages(client, f"{base}/Patient?_count=7")
        assert len({row["id"] for row in everybody}) == len(everybody) == 60
        moment = sorted(row["meta"]["lastUpdated"] for row in everybody)[40]
        since = await pages(client, f"{base}/Patient?_lastUpdated=gt{moment}")
        assert len(since) == 19
        first = everybody[0]
        changed = {**first, "name": [{"family": "Changed", "given": ["Synthetic"]}]}
        put = await client.put(f"{base}/Patient/{first['id']}", json=changed, headers={"If-Match": 'W/"1"'})
        assert (put.status_code, put.headers["etag"]) == (200, 'W/"2"')
        since = await pages(client, f"{base}/Patient?_lastUpdated=ge{put.json()['meta']['lastUpdated']}")
        assert [row["name"][0]["family"] for row in since if row["id"] == first["id"]] == ["Changed"]


async def test_writes_of_a_plain_server(suite: RunningSuite) -> None:
    server = await make(suite, "fhir")
    body = {"resourceType": "Appointment", "status": "booked", "identifier": [{"value": "ps-1"}], "participant": [{}]}
    async with await reach(suite, server) as client:
        url = f"{server['fhir_base']}/Appointment"
        made = await client.post(url, json=body, headers={"If-None-Exist": "identifier=ps-1"})
        again = await client.post(url, json=body, headers={"If-None-Exist": "identifier=ps-1"})
        assert (made.status_code, again.status_code) == (201, 200)
        assert made.json() == again.json()
        one = f"{url}/{made.json()['id']}"
        assert made.headers["location"] == f"{one}/_history/1"
        stale = await client.put(one, json=made.json(), headers={"If-Match": 'W/"9"'})
        assert stale.status_code == 412
        patch = [{"op": "replace", "path": "/status", "value": "cancelled"}]
        headers = {"If-Match": 'W/"1"', "content-type": "application/json-patch+json"}
        patched = await client.patch(one, json=patch, headers=headers)
        assert (patched.status_code, patched.json()["status"], patched.json()["meta"]["versionId"]) == (
            200, "cancelled", "2",
        )  # fmt: skip
        assert (await client.delete(one)).status_code == 204
        assert (await client.get(one)).status_code == 410
        for wrong, status in (({"resourceType": "Patient"}, 400), ({**body, "participant": []}, 422), ([1], 400)):
            assert (await client.post(url, json=wrong)).status_code == status
        assert (await client.patch(one, json=patch)).status_code == 410


async def test_writes_of_oracle_health(suite: RunningSuite) -> None:
    server = await make(suite, "cerner")
    async with await reach(suite, server) as client:
        base = server["fhir_base"]
        doctor = (await pages(client, f"{base}/Practitioner?name=e"))[0]["id"]
        window = "date=ge2026-03-02&date=lt2026-04-02"
        row = (await pages(client, f"{base}/Appointment?practitioner={doctor}&{window}"))[0]
        assert row["appointmentType"]["coding"][0]["system"].endswith(f"{server['tenant']}/codeSet/14249")
        url = f"{base}/Appointment/{row['id']}"
        patch = [{"op": "replace", "path": "/status", "value": "cancelled"}]
        assert (await client.patch(url, json=patch)).status_code == 412
        assert (await client.patch(url, json=patch, headers={"If-Match": 'W/"7"'})).status_code == 409
        mixed = [{"op": "add", "path": "/appointmentType/coding/-", "value": {"system": "http://snomed.info/sct"}}]
        assert (await client.patch(url, json=mixed, headers={"If-Match": 'W/"1"'})).status_code == 422
        bad = [{"op": "replace", "path": "/nothing/here", "value": 1}]
        assert (await client.patch(url, json=bad, headers={"If-Match": 'W/"1"'})).status_code == 400
        assert (await client.put(url, json=row, headers={"If-Match": 'W/"1"'})).status_code == 405
        missing = await client.post(f"{base}/Appointment", json={"resourceType": "Appointment", "status": "booked"})
        assert (missing.status_code, missing.json()["issue"][0]["severity"]) == (500, "fatal")
        async with suite.client(Role.OPERATOR) as operator:
            for fault, status in (("record-open", 423), ("dependency-failed", 424)):
                await operator.put(f"{SERVERS}/north/faults/{fault}")
                assert (await client.patch(url, json=patch, headers={"If-Match": 'W/"1"'})).status_code == status
                await operator.delete(f"{SERVERS}/north/faults")
        done = await client.patch(url, json=patch, headers={"If-Match": 'W/"1"'})
        assert (done.status_code, done.json()["status"]) == (200, "cancelled")
        assert (await client.get(url)).json() == done.json()


async def test_scopes_are_kept_to(suite: RunningSuite) -> None:
    server = await make(suite, "fhir", "system/Patient.rs")
    async with await reach(suite, server) as client:
        assert (await client.get(f"{server['fhir_base']}/Patient")).status_code == 200
        refused = await client.get(f"{server['fhir_base']}/Appointment")
        assert (refused.status_code, "insufficient_scope" in refused.headers["www-authenticate"]) == (403, True)
        body = {"resourceType": "Patient", "name": [{"family": "X"}]}
        assert (await client.post(f"{server['fhir_base']}/Patient", json=body)).status_code == 403
        statement = (await client.get(f"{server['fhir_base']}/metadata")).json()
        assert {row["type"] for row in statement["rest"][0]["resource"]} == set(ALL)


async def exported(client: httpx.AsyncClient, server: dict[str, Any], **query: str) -> httpx.Response:
    url = f"{server['fhir_base']}/Group/{server['group_id']}/$export"
    return await client.get(url, params=query, headers={"prefer": "respond-async"})


async def wait_for_export(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    for _ in range(200):
        answer = await client.get(url)
        if answer.status_code == 200:
            return dict(answer.json())
        assert answer.status_code == 202, answer.text
        assert answer.headers["x-progress"].endswith("% complete")
        await asyncio.sleep(0.05)
    raise AssertionError("the export never ended")


@pytest.fixture
def quick_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_SIMULATOR_EXPORT_TAKES_S", "0.2")


@pytest.mark.usefixtures("quick_exports")
async def test_a_plain_server_exports_its_group(tmp_path: Path) -> None:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as suite:
        server = await make(suite, "fhir")
        async with await reach(suite, server) as client:
            started = await exported(client, server, _type="Patient,Appointment,Coverage")
            assert started.status_code == 202, started.text
            status = started.headers["content-location"]
            manifest = await wait_for_export(client, status)
            assert [row["type"] for row in manifest["output"]] == ["Patient", "Appointment", "Coverage"]
            files = {row["type"]: (await client.get(row["url"])).text.splitlines() for row in manifest["output"]}
            assert len(files["Patient"]) == 60
            patient = json.loads(files["Patient"][0])
            assert (patient["resourceType"], "lastUpdated" in patient["meta"]) == ("Patient", True)
            visits = [json.loads(line)["participant"][0]["actor"]["reference"] for line in files["Appointment"]]
            assert set(visits) <= {f"Patient/{json.loads(line)['id']}" for line in files["Patient"]}
            late = await exported(client, server, _type="Patient", _since="2100-01-01T00:00:00Z")
            none = await wait_for_export(client, late.headers["content-location"])
            assert (await client.get(none["output"][0]["url"])).text == ""
            assert (await client.delete(status)).status_code == 202
            assert (await client.get(status)).status_code == 404
            for wrong in ({"_type": "Patient,Slot"}, {"_since": "yesterday"}, {"_since": "2026-01-01T00:00:00"}):
                assert (await exported(client, server, **wrong)).status_code == 400
            unasked = await client.get(f"{server['fhir_base']}/Group/{server['group_id']}/$export")
            assert unasked.status_code == 400
        async with suite.client() as stranger:
            assert (await exported(stranger, server)).status_code == 401


@pytest.mark.usefixtures("quick_exports")
async def test_oracle_health_exports_one_at_a_time_and_sends_readers_on(tmp_path: Path) -> None:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as suite:
        server = await make(suite, "cerner")
        async with await reach(suite, server) as client:
            started = await exported(client, server, _type="Patient")
            throttled = await exported(client, server, _type="Patient")
            assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "600")
            manifest = await wait_for_export(client, started.headers["content-location"])
            sent_on = await client.get(manifest["output"][0]["url"])
            assert sent_on.status_code == 307
            place = sent_on.headers["location"]
            assert (await client.get(place)).status_code == 400, "a store takes no Authorization header"
        async with suite.client() as bare:
            stored = await bare.get(place)
            assert (stored.status_code, len(stored.text.splitlines())) == (200, 60)
            assert (await bare.get(place[:-1] + ("0" if place[-1] != "0" else "1"))).status_code == 403


async def test_an_export_is_of_what_the_scopes_let_be_read(suite: RunningSuite) -> None:
    server = await make(suite, "cerner", "system/Patient.rs", "system/Group.r")
    async with await reach(suite, server) as client:
        assert (await exported(client, server, _type="Appointment")).status_code == 403
        assert (await exported(client, server)).status_code == 202
