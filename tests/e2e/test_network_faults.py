"""Faults of the network between us and a vendor: Test Connection names the stage, the cause and a next step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.suite_process import Suite, embedded_suite
from simulator.adapters.authority import root_of

pytestmark = pytest.mark.e2e

PROXY = "/simulator/v1/proxies/bad"
BUDGET_MS = 10_000


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Trusts the simulator's root from its start on."""
    directory = tmp_path_factory.mktemp("network")
    root = directory / "root.pem"
    root_of(root, datetime.now(UTC))
    environment = {"SSL_CERT_FILE": str(root), "PS_SIMULATOR_AUTHORITY_FILE": str(root)}
    with embedded_suite(directory / "data", demo=False, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def path(suite: Suite) -> str:
    """An integration whose every call goes through the proxy."""
    server = suite.call("POST", "/simulator/v1/servers", {"name": "far", "vendor": "fhir", "patients": 200})
    own = urlsplit(server["fhir_base"])
    proxy = suite.call("POST", "/simulator/v1/proxies", {"name": "bad", "upstream_port": own.port})
    through = f"http://127.0.0.1:{proxy['listen']['port']}"
    scopes = ["system/Patient.rs"]
    suite.call("PUT", "/simulator/v1/clients/far-app", {"secret": "canary-secret", "scopes": scopes})
    made = {"name": "far", "vendor": "fhir", "product": "simulated", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    channel = {"kind": "fhir", "endpoint": through + own.path, "time_zone": "America/Chicago", "credential": "api"}
    suite.call("PUT", f"{path}/channels/fhir", channel | {"settings": {}})
    token_url = through + urlsplit(server["token_url"]).path
    credential = {
        "method": "client_secret_basic", "client_id": "far-app", "token_url": token_url, "scopes": scopes,
        "secret": "canary-secret",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return path


@pytest.fixture(scope="module")
def sealed(suite: Suite, path: str) -> tuple[str, str]:
    """(integration, proxy): the same server behind a proxy that speaks TLS."""
    server = suite.call("GET", "/simulator/v1/servers/far")
    own = urlsplit(server["fhir_base"])
    made = {"name": "sealed", "upstream_port": own.port, "tls": "good"}
    port = suite.call("POST", "/simulator/v1/proxies", made)["listen"]["port"]
    integration = {"name": "sealed", "vendor": "fhir", "product": "simulated", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', integration)['id']}"
    credential = {
        "method": "client_secret_basic", "client_id": "far-app", "scopes": ["system/Patient.rs"],
        "token_url": f"https://127.0.0.1:{port}{urlsplit(server['token_url']).path}", "secret": "canary-secret",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return path, "/simulator/v1/proxies/sealed"


@pytest.mark.parametrize(
    ("certificate", "cause"),
    [
        ("expired", "has expired"),
        ("other-host", "another address"),
        ("no-intermediate", "leaves out an intermediate"),
        ("interception", "tls inspection"),
    ],
)
def test_a_fault_of_tls(suite: Suite, sealed: tuple[str, str], certificate: str, cause: str) -> None:
    path, proxy = sealed
    well = look(suite, path)
    assert well["status"] == "passed", [row for row in well["stages"] if row["status"] == "failed"]
    suite.call("PATCH", proxy, {"tls": certificate})
    try:
        found = look(suite, path)
    finally:
        suite.call("PATCH", proxy, {"tls": "good"})
    assert found["failed_stage"] == "tls", found["likely_cause"]
    assert cause in found["likely_cause"]
    assert found["next_step"]


def look(suite: Suite, path: str) -> dict[str, Any]:
    found = suite.call("POST", f"{path}/credentials/api:test")
    assert found["duration_ms"] <= BUDGET_MS
    return dict(found)


@pytest.mark.parametrize(
    ("listening", "toxic", "stage", "cause"),
    [
        ("closed", None, "tcp", "port is closed"),
        ("dropping", None, "tcp", "firewall drops"),
        ("open", {"type": "reset_peer"}, "http", "port is closed"),
        ("open", {"type": "timeout"}, "http", "firewall drops"),
        ("open", {"type": "latency", "attributes": {"latency": 4000}}, "http", "firewall drops"),
        ("open", {"type": "stall_data", "attributes": {"bytes": 1400}}, "metadata", "large packets are lost"),
    ],
    ids=["B2-closed", "B3-dropping", "reset", "black-hole", "B13-latency", "B15-large"],
)
def test_a_fault_of_the_network(
    suite: Suite, path: str, listening: str, toxic: dict[str, Any] | None, stage: str, cause: str
) -> None:
    well = look(suite, path)
    assert well["status"] == "passed", [row for row in well["stages"] if row["status"] == "failed"]
    suite.call("PATCH", PROXY, {"listening": listening})
    if toxic is not None:
        suite.call("PUT", f"{PROXY}/toxics/one", toxic)
    try:
        found = look(suite, path)
    finally:
        suite.call("DELETE", f"{PROXY}/toxics/one")
        suite.call("PATCH", PROXY, {"listening": "open"})
    assert found["failed_stage"] == stage, found["likely_cause"]
    assert cause in found["likely_cause"]
    assert found["next_step"]


def test_a_name_that_nobody_has(suite: Suite, path: str) -> None:
    credential = suite.call("GET", f"{path}/credentials/api")
    changed = {name: credential[name] for name in ("method", "client_id", "scopes")}
    unknown = {"token_url": "http://pms.simulator.invalid/token", "secret": "canary-secret"}
    suite.call("PUT", f"{path}/credentials/api", changed | unknown, {"If-Match": "*"})
    try:
        found = look(suite, path)
    finally:
        back = {"token_url": credential["token_url"], "secret": "canary-secret"}
        suite.call("PUT", f"{path}/credentials/api", changed | back, {"If-Match": "*"})
    assert (found["failed_stage"], "misspelt" in found["likely_cause"]) == ("dns", True)
