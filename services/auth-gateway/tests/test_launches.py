"""SMART launches through the HTTP API: recorded for the right practice, checked, and nothing of a patient kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auth_gateway.module import build
from auth_gateway.use_cases.record_launch import LAUNCHES_PER_MINUTE_MAX
from common.models.access import Role
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

BASE = "https://ehr.example/api/FHIR/R4"
CANARY = "Kanarienvogel77"


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


async def integration(suite: RunningSuite, vendor: str = "epic", base: str = BASE) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": vendor, "vendor": vendor})).json()["id"]
        channel = {"kind": "fhir", "endpoint": base, "time_zone": "UTC"}
        put = await client.put(f"/auth/v1/integrations/{made}/channels/fhir", json=channel)
        assert put.status_code == 200, put.text
    return str(made)


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_launch_is_recorded_for_the_practice_whose_base_it_names(suite: RunningSuite, tmp_path: Path) -> None:
    made = await integration(suite)
    async with suite.client() as browser:
        whole = await browser.get("/auth/v1/launch", params={"iss": BASE + "/", "launch": CANARY})
        bare = await browser.post("/auth/v1/launch", data={"iss": BASE, "patient": CANARY, "user": "$USR_Name$"})
        assert (await browser.get("/auth/v1/launches")).status_code == 401
    assert (whole.status_code, whole.json()["status"], whole.json()["kind"]) == (200, "complete", "ehr")
    assert whole.headers["cache-control"] == "no-store"
    assert [row["code"] for row in bare.json()["findings"]] == ["launch-missing", "placeholder-left"]
    async with suite.client(Role.VIEWER) as viewer:
        listed = (await viewer.get("/auth/v1/launches")).json()["items"]
        first = await viewer.get("/auth/v1/launches", params={"limit": 1})
        second = await viewer.get("/auth/v1/launches", params={"limit": 1, "cursor": first.json()["next"]})
        mine = (await viewer.get("/auth/v1/launches", params={"integration_id": made})).json()["items"]
        bad = await viewer.get("/auth/v1/launches", params={"cursor": "x"})
        assert (await viewer.get("/auth/v1/launches", params={"integration_id": "int_x"})).status_code == 404
    assert [(row["integration_id"], row["parameters"]) for row in listed] == [
        (made, ["iss", "patient", "user"]), (made, ["iss", "launch"]),
    ]  # fmt: skip
    assert [*first.json()["items"], *second.json()["items"]] == listed == mine
    assert (bad.status_code, bad.json()["code"]) == (400, "request.bad-cursor")
    async with suite.client(Role.VIEWER, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get("/auth/v1/launches")).json()["items"] == []
    kept = everything_on_disk(tmp_path)
    assert CANARY.encode() not in kept + str(listed).encode()
    assert b"placeholder-left" in kept


async def test_a_launch_of_nobody_is_refused_and_not_kept(suite: RunningSuite) -> None:
    await integration(suite)
    async with suite.client() as browser:
        for parameters in ({"iss": "https://other.example/R4", "launch": "x"}, {"iss": "ehr"}, {"launch": "x"}, {}):
            refused = await browser.get("/auth/v1/launch", params=parameters)
            assert (refused.status_code, refused.json()["code"]) == (422, "launch.issuer-unknown")
        malformed = await browser.post("/auth/v1/launch", content=b"iss=\xff")
        large = await browser.post("/auth/v1/launch", content=b"iss=" + b"a" * 20_000)
    assert (malformed.status_code, large.status_code) == (400, 413)
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/auth/v1/launches")).json()["items"] == []


async def test_launches_are_bounded_by_the_minute(suite: RunningSuite) -> None:
    await integration(suite)
    async with suite.client() as browser:
        statuses = [
            (await browser.get("/auth/v1/launch", params={"iss": BASE, "launch": "x"})).status_code
            for _ in range(LAUNCHES_PER_MINUTE_MAX + 1)
        ]
    assert statuses == [200] * LAUNCHES_PER_MINUTE_MAX + [429]


async def test_a_pasted_token_response_is_explained_and_not_repeated(suite: RunningSuite) -> None:
    asked = {"vendor": "epic", "scopes": ["launch", "fhirUser"], "aud": BASE, "iss": BASE}
    response = {"access_token": CANARY, "patient": CANARY}
    body = {**asked, "wanted": ["patient", "encounter"], "token_response": response}
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        checked = await admin.post("/auth/v1/launches:check", json=body)
        passed = await admin.post(
            "/auth/v1/launches:check", json={**asked, "scopes": ["launch"], "token_response": response}
        )
        assert checked.status_code == 200
        found = checked.json()
    assert (found["status"], found["present"], found["missing"]) == ("failed", ["patient"], ["encounter"])
    assert [(row["code"], row["about"]) for row in found["findings"]] == [
        ("context-absent", "encounter"), ("openid-missing", "fhirUser"),
    ]  # fmt: skip
    assert (passed.json()["status"], passed.json()["findings"]) == ("passed", [])
    assert CANARY not in checked.text


async def test_messages_and_templates_of_powerchart(suite: RunningSuite) -> None:
    urn = "urn:cerner:error:authorization-server:smart-v1:grant:launch:audience-required"
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        said = [
            (await admin.post("/auth/v1/launches:check", json={"vendor": "cerner", "message": text})).json()
            for text in ("StartOAuthSession.User (99999115) returned a failure", urn, "all is well")
        ]
        template = await admin.post("/auth/v1/launches:check", json={"vendor": "cerner", "template": "https://a?x=1"})
    assert [[row["code"] for row in one["findings"]] for one in said] == [
        ["powerchart-session"], ["launch-audience-required"], [],
    ]  # fmt: skip
    assert [one["message_known"] for one in said] == [True, True, False]
    assert [row["about"] for row in template.json()["findings"]] == ["tenant", "username"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"vendor": "epic"}, ""),
        ({"vendor": "epic", "message": "x", "wanted": ["practitioner"]}, "/wanted"),
        ({"vendor": "nobody", "message": "x"}, "/vendor"),
        ({"vendor": "epic", "token_response": "text"}, "/token_response"),
        ({"vendor": "epic", "message": "x", "more": 1}, "/more"),
    ],
)
async def test_a_wrong_check_is_told_by_field(suite: RunningSuite, body: dict, pointer: str) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        refused = await admin.post("/auth/v1/launches:check", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "request.invalid")
    assert pointer in [row["pointer"] for row in refused.json()["errors"]]
