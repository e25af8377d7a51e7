"""The simulator through its URLs: who may do what, and the whole way from registration to patients."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from common.models.access import Role
from common.runtime.runtime import Runtime
from common.testing import OTHER_TENANT, RunningSuite, make_test_runtime, running
from simulator.access import ACCESS
from simulator.core.hl7_feed import frame
from simulator.module import build

EPIC = "/simulator/v1/epic/demo"
FHIR = f"{EPIC}/api/FHIR/R4"
TOKEN_URL = f"http://suite.test{EPIC}/oauth2/token"
FHIR_JSON = {"Accept": "application/fhir+json"}
KEY = ECKey.generate_key("P-384", {"kid": "k1", "use": "sig", "alg": "ES384"})
JWKS = {"keys": [KEY.as_dict(private=False)]}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return make_test_runtime(tmp_path, "simulator")


@pytest.fixture
async def suite(runtime: Runtime) -> AsyncIterator[RunningSuite]:
    async with running(runtime, build) as up:
        yield up


def assertion(runtime: Runtime, jti: str = "one") -> str:
    now = int(runtime.clock.now().timestamp())
    claims = {"iss": "app", "sub": "app", "aud": TOKEN_URL, "iat": now, "exp": now + 240, "jti": jti}
    return jwt.encode({"alg": "ES384", "kid": "k1"}, claims, KEY, algorithms=["ES384"])


async def ask_token(suite: RunningSuite, jti: str = "one") -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion(suite.runtime, jti),
    }
    async with suite.client() as vendor:
        return await vendor.post(TOKEN_URL, data=form)


async def register(suite: RunningSuite) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        response = await admin.put("/simulator/v1/clients/app", json={"jwks": JWKS})
        assert response.status_code == 200, response.text


async def vendor_client(suite: RunningSuite) -> httpx.AsyncClient:
    await register(suite)
    token = (await ask_token(suite)).json()["access_token"]
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(suite.host.app),
        base_url="http://suite.test",
        headers={"Authorization": f"Bearer {token}", **FHIR_JSON},
    )


async def test_from_registration_to_every_patient(suite: RunningSuite) -> None:
    async with suite.client(Role.VIEWER) as viewer:
        overview = (await viewer.get("/simulator/v1")).json()["practices"][0]
        assert overview["fhir_base"] == f"http://suite.test{FHIR}"
        assert overview["token_url"] == TOKEN_URL
        assert overview["patients"] == 200
        known: set[str] = set()
        cursor: str | None = ""
        while cursor is not None:
            page = (
                await viewer.get(
                    "/simulator/v1/patients", params={"limit": 90} | ({"cursor": cursor} if cursor else {})
                )
            ).json()
            known |= {row["external_id"] for row in page["items"]}
            cursor = page["next"]
    assert len(known) == 200
    today = suite.runtime.clock.now().date()
    url: str | None = f"{FHIR}/Appointment?date=ge{today - timedelta(7)}&date=le{today + timedelta(28)}&_count=50"
    references: set[str] = set()
    async with await vendor_client(suite) as vendor:
        while url is not None:
            bundle = (await vendor.get(url)).json()
            for entry in bundle["entry"]:
                actors = [row["actor"]["reference"] for row in entry["resource"]["participant"]]
                references |= {actor.split("/")[1] for actor in actors if actor.startswith("Patient/")}
            url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        assert references == known
        some = sorted(known)[:50]
        found = (await vendor.get(f"{FHIR}/Patient", params={"_id": ",".join(some)})).json()
        assert sorted(entry["resource"]["id"] for entry in found["entry"]) == some


@pytest.mark.parametrize("row", [row for row in ACCESS if row.roles], ids=lambda row: f"{row.method} {row.path or '/'}")
async def test_every_route_asks_for_its_roles(suite: RunningSuite, row) -> None:
    path = "/simulator/v1" + row.path.format(client_id="app", name="slow", fault="slow", toxic="late")
    async with suite.client() as nobody:
        assert (await nobody.request(row.method, path)).status_code == 401
    for role in Role:
        async with suite.client(role) as caller:
            response = await caller.request(row.method, path, json={} if row.method in {"PUT", "POST"} else None)
        allowed = role in row.roles or role is Role.TENANT_ADMIN
        assert (response.status_code != 403) == allowed, role


async def test_registrations_belong_to_their_tenant(suite: RunningSuite) -> None:
    await register(suite)
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as other:
        assert (await other.get("/simulator/v1/clients/app")).status_code == 404
        assert (await other.delete("/simulator/v1/clients/app")).status_code == 404
        assert (await other.put("/simulator/v1/clients/app", json={"jwks": JWKS})).status_code == 409
        assert (await other.get("/simulator/v1/clients")).json()["items"] == []
    async with suite.client(Role.TENANT_ADMIN) as admin:
        assert (await admin.get("/simulator/v1/clients/app")).json()["jwks_kids"] == ["k1"]
        assert (await admin.delete("/simulator/v1/clients/app")).status_code == 204
        assert (await admin.get("/simulator/v1/clients/app")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jwks": JWKS, "jwks_url": "http://keys.test"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks": {"keys": "none"}},
        {"jwks": {"keys": [KEY.as_dict(private=True)]}},
        {"jwks": JWKS, "expires_at": "2026-01-01T00:00:00"},
        {"jwks": JWKS, "other": 1},
    ],
)
async def test_registrations_that_cannot_be(suite: RunningSuite, body: dict) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        response = await admin.put("/simulator/v1/clients/app", json=body)
        assert response.status_code == 422
        assert response.json()["code"] == "request.invalid"
        assert (await admin.get("/simulator/v1/clients")).json()["items"] == []


async def test_a_refused_token_says_nothing_to_the_client_and_all_to_the_operator(suite: RunningSuite) -> None:
    await register(suite)
    assert (await ask_token(suite)).status_code == 200
    replay = await ask_token(suite)
    assert (replay.status_code, replay.content) == (400, b'{"error":"invalid_client","error_description":null}')
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/simulator/v1/clients/app")).json()["last_refusal"] == "replayed"


async def test_what_a_vendor_answers_to_strangers(suite: RunningSuite) -> None:
    async with suite.client() as vendor:
        refused = await vendor.get(f"{FHIR}/Patient/x", headers=FHIR_JSON)
        assert (refused.status_code, refused.content) == (401, b"")
        assert "invalid_token" in refused.headers["www-authenticate"]
        for path in (f"{EPIC}/wrong", f"{FHIR}/Nothing", "/simulator/v1/epic/nowhere/api/FHIR/R4/metadata"):
            missing = await vendor.get(path)
            assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html")
        statement = await vendor.get(f"{FHIR}/metadata", headers=FHIR_JSON)
        assert statement.json()["implementation"]["url"] == f"http://suite.test{FHIR}"
        assert (await vendor.get(f"{FHIR}/metadata")).headers["content-type"].startswith("application/fhir+xml")
        smart = await vendor.get(f"{FHIR}/.well-known/smart-configuration")
        assert smart.json()["token_endpoint"] == TOKEN_URL


async def test_a_search_may_be_posted(suite: RunningSuite) -> None:
    async with await vendor_client(suite) as vendor:
        response = await vendor.post(f"{FHIR}/Appointment/_search", data={"date": "ge2026-03-01", "_count": "5"})
        assert response.status_code == 200
        assert response.json()["resourceType"] == "Bundle"


async def test_faults_are_switched_on_and_off(suite: RunningSuite) -> None:
    async with suite.client(Role.OPERATOR) as operator, await vendor_client(suite) as vendor:
        url = f"{FHIR}/Appointment?date=2026-03-04"
        assert (await vendor.get(url)).status_code == 200
        limited = {"parameters": {"retry_after_s": 7}, "ends_after_s": 60}
        started = await operator.put("/simulator/v1/faults/rate-limited", json=limited)
        assert started.json()["parameters"] == {"retry_after_s": 7}
        answer = await vendor.get(url)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        active = {row["name"] for row in (await operator.get("/simulator/v1/faults")).json()["items"] if row["active"]}
        assert active == {"rate-limited"}
        assert (await operator.delete("/simulator/v1/faults/rate-limited")).status_code == 204
        assert (await vendor.get(url)).status_code == 200
        for name, status in (("unauthorized", 401), ("unavailable", 503)):
            await operator.put(f"/simulator/v1/faults/{name}")
            assert (await vendor.get(url)).status_code == status
            await operator.delete(f"/simulator/v1/faults/{name}")
        await operator.put("/simulator/v1/faults/expired-secret", json={})
        assert (await ask_token(suite, "two")).status_code == 400
        assert (await vendor.get(url)).status_code == 200, "a token that was given goes on"


async def test_a_skewed_clock_is_seen_in_date_and_refuses_assertions(suite: RunningSuite) -> None:
    await register(suite)
    async with suite.client(Role.OPERATOR) as operator, suite.client() as vendor:
        await operator.put("/simulator/v1/faults/clock-skew", json={"parameters": {"offset_s": 900}})
        response = await vendor.get(f"{FHIR}/metadata", headers=FHIR_JSON)
        assert len(response.headers.get_list("date")) == 1
        offset = parsedate_to_datetime(response.headers["date"]) - suite.runtime.clock.now()
        assert abs(offset - timedelta(seconds=900)) < timedelta(seconds=5)
        assert (await ask_token(suite)).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nothing", {}, 404),
        ("slow", {"parameters": {"delay_ms": 99_999_999}}, 422),
        ("slow", {"parameters": {"other": 1}}, 422),
        ("slow", {"parameters": "x"}, 422),
        ("slow", {"ends_after_s": -1}, 422),
    ],
)
async def test_faults_that_cannot_be(suite: RunningSuite, path: str, body: dict, status: int) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        assert (await operator.put(f"/simulator/v1/faults/{path}", json=body)).status_code == status


async def test_an_hl7_message_reaches_a_listener_and_the_chart(suite: RunningSuite) -> None:
    seen: list[bytes] = []

    async def listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.readuntil(b"\x1c\r")
        seen.append(message)
        control_id = message.split(b"|")[9]
        writer.write(frame(b"MSH|^~\\&|PS|PS|EPIC|DEMO|20260304||ACK|1|P|2.5.1\rMSA|AA|" + control_id + b"\r"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, suite.client(Role.OPERATOR) as operator, await vendor_client(suite) as vendor:
        patient = (await operator.get("/simulator/v1/patients?limit=1")).json()["items"][0]
        order = {
            "kind": "ADT^A08",
            "patient": patient["external_id"],
            "port": port,
            "changes": {"family": "Żółć", "phone": None},
        }
        sent = (await operator.post("/simulator/v1/hl7:send", json=order)).json()
        assert (sent["acknowledgment_code"], sent["matched"]) == ("AA", True)
        assert len(sent["control_id"]) <= 20
        assert "Żółć".encode() in seen[0]
        resource = (await vendor.get(f"{FHIR}/Patient/{patient['external_id']}")).json()
        assert resource["name"][0]["family"] == "Żółć"
        start = (suite.runtime.clock.now() + timedelta(days=3)).strftime("%Y-%m-%dT15:00:00Z")
        booking = {"kind": "SIU^S12", "patient": patient["external_id"], "port": port, "start": start}
        sent = (await operator.post("/simulator/v1/hl7:send", json=booking)).json()
        found = (await vendor.get(f"{FHIR}/Appointment/{sent['appointment_id']}")).json()
        assert found["start"] == start


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"patient": "nobody"}, 404, "simulator.not-found"),
        ({"kind": "ADT^A99"}, 422, "request.invalid"),
        ({"changes": {"family": None}}, 422, "request.invalid"),
        ({"changes": {"mrn": "1"}}, 422, "request.invalid"),
        ({"start": "2026-03-10T15:00:00Z"}, 422, "request.invalid"),
        ({"host": "10.1.2.3"}, 422, "peer.address-refused"),
        ({"practice": "nowhere"}, 404, "simulator.not-found"),
        ({"port": 0}, 422, "request.invalid"),
    ],
)
async def test_messages_that_cannot_be_sent(suite: RunningSuite, changes: dict, status: int, code: str) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        patient = (await operator.get("/simulator/v1/patients?limit=1")).json()["items"][0]["external_id"]
        response = await operator.post(
            "/simulator/v1/hl7:send", json={"kind": "ADT^A08", "patient": patient, **changes}
        )
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize("cursor", ["broken", "WyJhIl0"])
async def test_a_foreign_cursor_is_refused(suite: RunningSuite, cursor: str) -> None:
    async with suite.client(Role.VIEWER) as viewer:
        response = await viewer.get("/simulator/v1/patients", params={"cursor": cursor})
    assert response.json()["code"] == "request.bad-cursor"
