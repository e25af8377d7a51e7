"""Grants of persons, launches, PowerChart templates and MPages over the simulated vendors' wire."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from common.models.access import Role
from common.models.integration import Vendor
from common.testing import RunningSuite, make_test_runtime, running
from pms.ccl import MPageStatus, parse_mpage
from pms.smart_launch import Asked, Kind, check_template, check_token
from simulator.module import build

SERVERS = "/simulator/v1/servers"
SECRET, BACK, VERIFIER = "canary-secret", "https://app.example/back", "v" * 43
SCOPES = ("launch", "offline_access", "patient/Patient.read")


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as up:
        yield up


async def make(suite: RunningSuite, vendor: str) -> dict[str, Any]:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        made = await admin.post(SERVERS, json={"name": "north", "vendor": vendor, "patients": 20})
        body = {"secret": SECRET, "redirect_uris": [BACK], "scopes": list(SCOPES)}
        assert (await admin.put("/simulator/v1/clients/app", json=body)).status_code == 200
        return dict(made.json())


async def fault(suite: RunningSuite, name: str, **parameters: str) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        put = await operator.put(f"{SERVERS}/north/faults/{name}", json={"parameters": parameters})
        assert put.status_code == 200, put.text


async def launched(suite: RunningSuite, **changed: str) -> tuple[httpx.Response, dict[str, Any]]:
    """(the authorization's answer, the server) after a launch with a patient and an encounter."""
    server = await make(suite, "epic")
    async with suite.client(Role.OPERATOR) as operator:
        context = {"launch_url": "https://app.example/launch", "patient": "p-1", "encounter": "e-1"}
        opened = (await operator.post(f"{SERVERS}/north/launches", json=context)).json()
    given = {name: values[0] for name, values in parse_qs(urlsplit(opened["url"]).query).items()}
    assert given["iss"] == server["fhir_base"]
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "client_id": "app", "redirect_uri": BACK, "scope": " ".join(SCOPES), "state": "s",
        "aud": given["iss"], "launch": given["launch"], "code_challenge": challenge, "code_challenge_method": "S256",
        **changed,
    }  # fmt: skip
    async with suite.client() as browser:
        url = server["token_url"].replace("/token", "/authorize")
        return await browser.get(url, params=asked, follow_redirects=False), server


async def exchange(suite: RunningSuite, server: dict[str, Any], **form: str) -> httpx.Response:
    async with suite.client() as client:
        return await client.post(server["token_url"], data=form, auth=("app", SECRET))


async def code_of(suite: RunningSuite) -> tuple[str, dict[str, Any]]:
    answer, server = await launched(suite)
    assert answer.status_code == 302, answer.text
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert back["state"] == ["s"]
    return back["code"][0], server


async def test_a_launch_from_the_chart_with_refreshes(suite: RunningSuite) -> None:
    code, server = await code_of(suite)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    token = await exchange(suite, server, **form)
    assert (token.json()["patient"], token.json()["encounter"]) == ("p-1", "e-1")
    again = await exchange(suite, server, **form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant"), "a code is good once"
    first = token.json()["refresh_token"]
    second = await exchange(suite, server, grant_type="refresh_token", refresh_token=first)
    assert second.json()["refresh_token"] != first
    twice = await exchange(suite, server, grant_type="refresh_token", refresh_token=first)
    assert twice.json()["error"] == "invalid_grant"
    family = await exchange(suite, server, grant_type="refresh_token", refresh_token=second.json()["refresh_token"])
    assert family.json()["error"] == "invalid_grant", "the family has ended"


@pytest.mark.parametrize("name", ["refresh-token-revoked", "refresh-token-raced"])
async def test_refresh_tokens_under_a_fault(suite: RunningSuite, name: str) -> None:
    code, server = await code_of(suite)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    held = (await exchange(suite, server, **form)).json()["refresh_token"]
    await fault(suite, name)
    refused = await exchange(suite, server, grant_type="refresh_token", refresh_token=held)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("missing", ["patient", "encounter"])
async def test_a_launch_without_its_context(suite: RunningSuite, missing: str) -> None:
    code, server = await code_of(suite)
    await fault(suite, "launch-context-missing", context=missing)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    token = (await exchange(suite, server, **form)).json()
    assert missing not in token
    asked = Asked(kind=Kind.EHR, scopes=SCOPES, aud=server["fhir_base"], iss=server["fhir_base"], wanted=(missing,))
    report = check_token(Vendor.EPIC, asked, json.dumps(token).encode())
    assert missing in str(report)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"redirect_uri": "https://other.example"}, 400), ({"client_id": "stranger"}, 400),
        ({"response_type": "token"}, 302), ({"code_challenge_method": "plain"}, 302), ({"launch": "unknown"}, 302),
        ({"aud": ""}, 302),
    ],
)  # fmt: skip
async def test_authorizations_that_are_refused(suite: RunningSuite, changed: dict[str, str], status: int) -> None:
    answer, _ = await launched(suite, **changed)
    assert answer.status_code == status
    if status == 302:
        assert "error=invalid_request" in answer.headers["location"]


@pytest.mark.parametrize("form", [{"code_verifier": "w" * 43}, {"redirect_uri": "https://app.example/x"}])
async def test_a_code_in_other_hands(suite: RunningSuite, form: dict[str, str]) -> None:
    code, server = await code_of(suite)
    good = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    assert (await exchange(suite, server, **(good | form))).json()["error"] == "invalid_grant"


async def test_powerchart_templates_and_mpages(suite: RunningSuite) -> None:
    server = await make(suite, "cerner")
    page = server["fhir_base"].split("/r4/")[0] + "/mpage/ps_list"
    async with suite.client(Role.OPERATOR) as operator:
        template = f"{SERVERS}/north/launch-template"
        assert check_template((await operator.get(template)).json()["template"]) == []
        assert parse_mpage((await operator.get(page)).content).status is MPageStatus.SUCCESS
        for lacks in ("tenant", "username"):
            await fault(suite, "launch-template", lacks=lacks)
            (finding,) = check_template((await operator.get(template)).json()["template"])
            assert lacks in str(finding)
        for message in ("E-6", "W-44", "E-151"):
            await fault(suite, "ccl-error", message=message)
            answer = await operator.get(page)
            found = parse_mpage(answer.content)
            assert (answer.status_code, found.status) == (200, MPageStatus.FAILED)
            assert [one.number for one in found.messages] == [int(message.partition("-")[2])]
        wrong = await operator.post(f"{SERVERS}/north/launches", json={"launch_url": "https://app.example"})
        assert wrong.status_code == 409
