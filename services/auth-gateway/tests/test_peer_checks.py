"""Test Connection and the check of permissions through the HTTP API, against a PMS whose answers a test says.

Each fault is found in its stage, with cause and next step, and nothing secret is in what is shown.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from auth_gateway.core.peer_answers import Reply, parse_smart_configuration
from auth_gateway.module import build
from auth_gateway.use_cases.connection_stages import expected_version, metadata_stage, read_resource
from common.models.access import Role
from common.models.integration import Vendor
from common.testing import TENANT, RunningSuite, make_test_runtime, running
from pms.offers import offers_of

Scripted = tuple[int, dict[str, str], bytes]
FHIR = {"content-type": "application/fhir+json"}


def as_json(status: int, document: Any, **headers: str) -> Scripted:
    return status, {**FHIR, **headers}, json.dumps(document).encode()


@dataclass
class Pms:
    """Answers by path; None: it never answers."""

    url: str = ""
    answers: dict[str, Scripted | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base(self) -> str:
        return f"{self.url}/api/FHIR/R4"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def well(self) -> None:
        """A server that grants and answers everything."""
        base = urlsplit(self.base).path
        bundle = as_json(200, {"resourceType": "Bundle", "type": "searchset", "entry": []})
        metadata = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "software": {"name": "Simulated"}}
        smart = {"token_endpoint": self.token_url, "token_endpoint_auth_methods_supported": ["client_secret_basic"]}
        granted = {"access_token": "canary-token", "expires_in": 300, "scope": "system/Patient.rs"}
        self.answers |= {
            "POST /token": as_json(200, granted),
            f"GET {base}/metadata": as_json(200, metadata),
            f"GET {base}/.well-known/smart-configuration": as_json(200, smart),
            **{f"GET {base}/{name}": bundle for name in ("Patient", "Appointment", "Practitioner", "Location")},
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0
            )
            await reader.readexactly(length)
            method, target, _ = head.split(" ", 2)
            called = f"{method} {urlsplit(target).path}"
            self.asked.append(f"{method} {target}")
            found = self.answers.get(called, (404, {"content-type": "text/html"}, b"<!DOCTYPE html>"))
            if found is None:
                await self.ended.wait()
                return
            status, headers, body = found
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
            lines += [f"content-length: {len(body)}", "connection: close", "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def pms() -> AsyncIterator[Pms]:
    peer = Pms()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    peer.well()
    yield peer
    peer.ended.set()
    server.close()
    await server.wait_closed()


STAGES = ["dns", "tcp", "tls", "http", "clock", "token", "identity", "metadata", "smart-configuration", "read",
          "permissions"]  # fmt: skip
URN = "https://authorization.cerner.com/errors/urn%3Acerner%3Aerror%3Aauthorization-server%3Aoauth2%3Atoken%3A{}/x"
BASE = "/api/FHIR/R4"


def scheduling(*resources: str) -> FastAPI:
    """Sync with schedules of these resources, in two pages."""
    app = FastAPI()

    @app.get("/sync/v1/schedules")
    async def schedules(cursor: str | None = None) -> dict[str, Any]:
        shown = resources[1:] if cursor else resources[:1]
        return {"items": [{"resource": resource} for resource in shown], "next": None if cursor else "more"}

    return app


@pytest.fixture
async def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningSuite]:
    # Only a stage that hangs takes its share of it.
    monkeypatch.setenv("PS_AUTH_TEST_TIMEOUT_S", "3")
    runtime = make_test_runtime(tmp_path, "auth-gateway", peer_apps={"sync": scheduling("patient", "appointment")})
    async with running(runtime, build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        yield up


async def configured(suite: RunningSuite, pms: Any, vendor: str, **credential: Any) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "P", "vendor": vendor})).json()["id"]
        path = f"/auth/v1/integrations/{made}"
        channel = {"kind": "fhir", "endpoint": pms.base, "time_zone": "UTC", "credential": "api"}
        assert (await client.put(f"{path}/channels/fhir", json=channel)).status_code == 200
        body = {"method": "client_secret_basic", "client_id": "app", "token_url": pms.token_url,
                "scopes": ["system/Patient.read"], "secret": "canary-secret", **credential}  # fmt: skip
        assert (await client.put(f"{path}/credentials/api", json=body)).status_code == 200
    return path


async def try_it(suite: RunningSuite, pms: Any, vendor: str = "epic", **credential: Any) -> dict[str, Any]:
    path = await configured(suite, pms, vendor, **credential)
    async with suite.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}/credentials/api:test")
    assert answer.status_code == 200, answer.text
    assert "canary" not in answer.text
    found: dict[str, Any] = answer.json()
    assert [stage["stage"] for stage in found["stages"]] == STAGES
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["stage"]: stage for stage in found["stages"]}


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


async def test_a_peer_that_is_well_passes_every_stage(suite: RunningSuite, pms: Any) -> None:
    found = await try_it(suite, pms)
    stages = by_name(found)
    assert (found["status"], found["failed_stage"]) == ("passed", None)
    assert {name: stage["status"] for name, stage in stages.items() if stage["status"] != "passed"} == {
        "tls": "skipped", "clock": "skipped",
    }  # fmt: skip
    assert stages["metadata"]["evidence"]["fhir_version"] == "4.0.1"
    assert stages["read"]["evidence"]["resource"] == "Patient"
    assert f"GET {BASE}/Patient?_id=practice-studio-probe&_count=1" in pms.asked
    assert found["duration_ms"] <= 10_000


INSUFFICIENT = {"www-authenticate": 'Bearer error="insufficient_scope"'}
FAULTS = {
    "B14 wrong path": (f"GET {BASE}/metadata", (404, {"content-type": "text/html"}, b"<html>"), "metadata",
                       "peer.unreadable", "path or FHIR version"),
    "B11 outage": (f"GET {BASE}/metadata", (503, {}, b""), "metadata", "peer.unavailable", "server is down"),
    "F3 version": (f"GET {BASE}/metadata", (200, FHIR, body({"resourceType": "CapabilityStatement",
                   "fhirVersion": "3.0.2"})), "metadata", "metadata.version-differs", "3.0.2"),
    "A11 permission": (f"GET {BASE}/Patient", (403, INSUFFICIENT, b""), "read", "peer.forbidden", "not enabled"),
    "A12 at the server": (f"GET {BASE}/Patient", (401, {}, b""), "identity", "peer.unauthorized", "disabled"),
    "F5 tenant": ("POST /token", (400, FHIR, body({"error": "invalid_grant",
                  "error_uri": URN.format("invalid-tenant")})),
                  "token", "credential.rejected", "tenant (Millennium domain)"),
    "A12 terminated": ("POST /token", (401, FHIR, body({"error": "invalid_client",
                       "error_uri": URN.format("terminated-client")})), "token", "credential.rejected", "disabled"),
    "B9 limited": ("POST /token", (429, {"retry-after": "7"}, b""), "token", "credential.refresh-failed", None),
    "A11 scope": ("POST /token", (200, FHIR, body({"access_token": "canary-t", "scope": "system/Slot.rs"})),
                  "permissions", "peer.forbidden", "not granted"),
}  # fmt: skip


@pytest.mark.parametrize(("called", "answer", "stage", "code", "said"), FAULTS.values(), ids=FAULTS.keys())
async def test_each_fault_is_found_in_its_stage(
    suite: RunningSuite, pms: Any, called: str, answer: Any, stage: str, code: str, said: str | None
) -> None:
    pms.answers[called] = answer
    found = await try_it(suite, pms)
    assert (found["status"], found["failed_stage"]) == ("failed", stage)
    failing = by_name(found)[stage]
    assert failing["code"] == code
    assert said is None or said in failing["likely_cause"]
    assert failing["next_step"]


async def test_a_disabled_client_is_an_identity_that_failed(suite: RunningSuite, pms: Any) -> None:
    refused = {"error": "invalid_client", "error_uri": URN.format("terminated-client")}
    pms.answers["POST /token"] = (401, FHIR, body(refused))
    stages = by_name(await try_it(suite, pms, "cerner"))
    assert (stages["identity"]["status"], stages["identity"]["likely_cause"]) == (
        "failed", "The PMS has disabled the client.",
    )  # fmt: skip
    assert stages["metadata"]["status"] == "passed"  # the server itself is well
    assert stages["read"]["status"] == "skipped"


async def test_old_scopes_of_a_new_app_are_named(suite: RunningSuite, pms: Any) -> None:
    grant(pms, "system/Patient.rs")
    found = await try_it(suite, pms, "cerner", scopes=["system/Patient.read", "system/Appointment.read"])
    stage = by_name(found)["permissions"]
    assert (stage["status"], stage["evidence"]["missing"]) == ("failed", ["system/Appointment.read"])
    assert "SMART v1" in stage["likely_cause"]
    assert ".rs" in stage["next_step"]


async def test_a_wrong_audience_is_told_by_the_smart_configuration(suite: RunningSuite, pms: Any) -> None:
    pms.answers["POST /token"] = (400, FHIR, b'{"error": "invalid_client"}')
    other = {"token_endpoint": "https://other.example/token"}
    pms.answers[f"GET {BASE}/.well-known/smart-configuration"] = (200, FHIR, body(other))
    stages = by_name(await try_it(suite, pms))
    assert stages["token"]["evidence"]["causes"][0]["code"] == "audience.wrong"
    assert (stages["smart-configuration"]["status"], stages["smart-configuration"]["code"]) == (
        "failed", "smart.token-url-differs",
    )  # fmt: skip


async def test_a_smart_configuration_that_contradicts_does_not_fail_what_works(suite: RunningSuite, pms: Any) -> None:
    smart = {"token_endpoint": pms.token_url, "token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    pms.answers[f"GET {BASE}/.well-known/smart-configuration"] = (200, FHIR, body(smart))
    found = await try_it(suite, pms)
    stage = by_name(found)["smart-configuration"]
    assert (found["status"], stage["status"]) == ("passed", "passed")
    assert "client_secret_basic" in stage["likely_cause"]


async def test_no_smart_configuration_is_no_fault(suite: RunningSuite, pms: Any) -> None:
    del pms.answers[f"GET {BASE}/.well-known/smart-configuration"]
    found = await try_it(suite, pms)
    assert (found["status"], by_name(found)["smart-configuration"]["status"]) == ("passed", "skipped")


@pytest.mark.parametrize(
    ("called", "stage"),
    [("POST /token", "token"), (f"GET {BASE}/metadata", "metadata"), (f"GET {BASE}/Patient", "read")],
)
async def test_a_stage_that_hangs_is_a_time_out_by_its_name(
    suite: RunningSuite, pms: Any, called: str, stage: str
) -> None:
    pms.answers[called] = None
    found = await try_it(suite, pms)
    assert (found["failed_stage"], by_name(found)[stage]["code"]) == (stage, "peer.timeout")


async def test_a_token_endpoint_that_is_away_skips_what_is_behind(suite: RunningSuite, pms: Any) -> None:
    found = await try_it(suite, pms, token_url="http://127.0.0.1:9/token")
    assert found["failed_stage"] == "tcp"
    assert {stage["status"] for stage in found["stages"][6:]} == {"skipped"}


async def test_a_server_of_its_own_that_is_away_is_explained_by_its_network(suite: RunningSuite, pms: Any) -> None:
    token_url = pms.token_url
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        pms.url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        found = await try_it(suite, pms, token_url=token_url)
    metadata = by_name(found)["metadata"]
    assert (found["failed_stage"], metadata["code"]) == ("metadata", "peer.connect")
    assert metadata["evidence"]["network_stage"] == "tcp"
    assert "port is closed" in metadata["likely_cause"]


@pytest.mark.parametrize(
    ("base", "version"),
    [
        ("https://h/api/FHIR/R4", "4.0"), ("https://h/api/FHIR/STU3/", "3.0"), ("https://h/api/FHIR/DSTU2", "1.0"),
        ("https://h/r4/ec2458f2", "4.0"), ("https://h/fhir", "4.0"), ("https://h/r4b", "4.3"),
    ],
)  # fmt: skip
def test_the_version_that_a_base_path_names(base: str, version: str) -> None:
    assert expected_version(base) == version


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"[]", b'"x"', b'{"token_endpoint": 1, "x": [1]}', b"\xff\xfe", b"[" * 9999]
)
def test_any_bytes_are_judged(raw: bytes) -> None:
    smart = parse_smart_configuration(200, raw, 1.0)
    assert (smart.token_endpoint, smart.algorithms) == (None, ())
    assert metadata_stage("https://h/R4", Reply(200, 1.0, "", raw)).status == "failed"


def test_what_is_read_in_a_test() -> None:
    assert read_resource(offers_of(Vendor.EPIC), ["openid", "system/Location.rs", "system/Patient.rs"]) == "Location"
    assert read_resource(offers_of(Vendor.EPIC), ["system/Slot.rs"]) == "Patient"
    assert read_resource(offers_of(Vendor.FILES), []) == "Patient"


async def checked(suite: RunningSuite, path: str, asked: dict[str, Any], status: int = 200) -> dict[str, Any]:
    async with suite.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}/permissions:check", json=asked)
    assert answer.status_code == status, answer.text
    assert "canary" not in answer.text
    found: dict[str, Any] = answer.json()
    return found


def pairs(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["resource"], row["interaction"]) for row in rows]


def grant(pms: Any, scope: str | None) -> None:
    granted = {"access_token": "canary-token", "expires_in": 300, **({"scope": scope} if scope else {})}
    pms.answers["POST /token"] = (200, FHIR, body(granted))


async def test_what_the_schedules_need_is_compared_with_the_token(suite: RunningSuite, pms: Any) -> None:
    grant(pms, "system/Patient.read system/Coverage.read")
    pms.answers[f"GET {BASE}/Appointment"] = (403, INSUFFICIENT, b"")
    path = await configured(suite, pms, "epic")
    found = await checked(suite, path, {})
    assert found["status"] == "failed"
    assert pairs(found["granted"]) == [("Patient", "search")]
    assert set(pairs(found["missing"])) == {("Appointment", "search")}
    assert found["missing_scopes"] == ["system/Appointment.read"]
    assert (found["excess"], found["unknown"]) == (["system/Coverage.read"], [])
    assert {probe["resource"]: probe["result"] for probe in found["probes"]} == {
        "Patient": "granted", "Appointment": "refused",
    }  # fmt: skip
    text = found["request_text"]
    assert text.startswith("To: Epic administrator")
    for part in ("Client id: app", pms.base, "API Appointment (R4): search", "As scopes: system/Appointment.read",
                 "system/Coverage.read", "12 hours"):  # fmt: skip
        assert part in text


async def test_what_is_granted_whole_needs_no_request(suite: RunningSuite, pms: Any) -> None:
    grant(pms, "system/Patient.rs system/Appointment.s")
    found = await checked(suite, await configured(suite, pms, "epic"), {})
    assert (found["status"], found["missing"], found["excess"], found["request_text"]) == ("passed", [], [], "")


async def test_the_caller_may_name_resources_and_do_without_probes(suite: RunningSuite, pms: Any) -> None:
    grant(pms, "system/Appointment.rs")
    path = await configured(suite, pms, "cerner")
    wanted = [
        {"resource": "Appointment", "interactions": ["search", "patch"], "purpose": "reschedule"},
        {"resource": "Schedule", "interactions": ["read"]},
    ]
    found = await checked(suite, path, {"resources": wanted, "probe": False, "credential": "api"})
    assert (pairs(found["missing"]), found["missing_scopes"]) == ([("Appointment", "patch")], ["system/Appointment.u"])
    assert pairs(found["not_offered"]) == [("Schedule", "read")]
    assert found["probes"] == []
    assert not any("_id=" in called for called in pms.asked)
    assert "scope Appointment (R4): update (for: reschedule)" in found["request_text"]


async def test_without_named_scopes_probes_settle_reading_only(suite: RunningSuite, pms: Any) -> None:
    grant(pms, None)
    path = await configured(suite, pms, "cerner", scopes=[])
    wanted = [{"resource": "Patient", "interactions": ["search", "create"]}]
    found = await checked(suite, path, {"resources": wanted})
    assert (found["status"], found["scopes"]) == ("unknown", None)
    # Appointment: the ids of Oracle Health's patients come from there.
    assert pairs(found["granted"]) == [("Patient", "search"), ("Appointment", "search")]
    assert pairs(found["unknown"]) == [("Patient", "create")]


async def test_writing_back_needs_more(suite: RunningSuite, pms: Any) -> None:
    grant(pms, "system/Patient.rs system/Appointment.rs")
    path = await configured(suite, pms, "cerner")
    async with suite.client(Role.TENANT_ADMIN) as client:
        version = (await client.get(path)).headers["etag"]
        changed = await client.patch(path, json={"write_back": "on"}, headers={"If-Match": version})
        assert changed.status_code == 200
    found = await checked(suite, path, {})
    assert set(pairs(found["missing"])) == {
        (resource, interaction) for resource in ("Patient", "Appointment") for interaction in ("create", "patch")
    }


async def test_what_cannot_be_checked_is_said(suite: RunningSuite, pms: Any) -> None:
    path = await configured(suite, pms, "epic")
    missing = {"credential": "other"}
    assert (await checked(suite, path, missing, 404))["code"] == "credential.not-found"
    unknown = path[:-3] + "zzz"
    assert (await checked(suite, unknown, {}, 404))["code"] == "integration.not-found"
    for wrong, pointer in (
        ({"resources": []}, "/resources"),
        ({"resources": [{"resource": "patient"}]}, "/resources/0/resource"),
        ({"resources": [{"resource": "Patient", "interactions": ["delete"]}]}, "/resources/0/interactions/0"),
        ({"probe": "maybe"}, "/probe"),
        ({"more": 1}, "/more"),
    ):
        refused = await checked(suite, path, wrong, 422)
        assert pointer in [row["pointer"] for row in refused["errors"]]
    pms.answers["POST /token"] = (400, FHIR, b'{"error": "invalid_client"}')
    assert (await checked(suite, path, {}, 502))["code"] == "credential.rejected"
    async with suite.client(Role.TENANT_ADMIN) as client:
        bare = (await client.post("/auth/v1/integrations", json={"name": "bare", "vendor": "epic"})).json()["id"]
    assert (await checked(suite, f"/auth/v1/integrations/{bare}", {}, 404))["code"] == "channel.not-found"


async def test_an_integration_without_schedules_is_told_to_name_resources(pms: Any, tmp_path: Path) -> None:
    runtime = make_test_runtime(tmp_path, "auth-gateway", peer_apps={"sync": scheduling()})
    async with running(runtime, build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        path = await configured(up, pms, "epic")
        refused = await checked(up, path, {}, 409)
    assert "name the resources" in refused["detail"]


async def test_without_sync_the_resources_have_to_be_named(pms: Any, tmp_path: Path) -> None:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        path = await configured(up, pms, "epic")
        assert (await checked(up, path, {}, 503))["code"] == "service.unavailable"
        assert (await checked(up, path, {"resources": [{"resource": "Patient"}]}))["status"] in {"passed", "failed"}
