"""Each fault of groups A, B and F that a vendor's server can have: Test Connection names its stage and its cause.

Run against servers of the Integration Simulator, through public URLs only. What the network does is in
`test_network_faults.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from e2e.suite_process import Suite, embedded_suite

pytestmark = pytest.mark.e2e

SERVERS = "/simulator/v1/servers"
BUDGET_MS = 10_000


@dataclass(frozen=True)
class Case:
    """A fault, and what Test Connection says: the first stage that fails and words of its likely cause."""

    fault: str
    stage: str
    cause: str
    parameters: dict[str, Any] = field(default_factory=dict)
    expires_at: str | None = None
    """What is recorded about the client's secret."""

    def __str__(self) -> str:
        return "-".join((self.fault, *map(str, self.parameters.values())))


EPIC = (
    Case("expired-secret", "token", "secret or registration has expired"),
    Case("wrong-secret", "token", "knows its secret or key no more", expires_at="2099-01-01T00:00:00Z"),
    Case("clock-skew", "clock", "clock"),
    Case("audience-differs", "token", "not the one that the server's SMART configuration names"),
    Case("assertion-resent", "token", ""),
    Case("scope-missing", "read", "may not search Patient", {"resource": "Patient"}),
    Case("client-disabled", "token", "disabled the client", expires_at="2099-01-01T00:00:00Z"),
    Case("unauthorized", "identity", "disabled"),
    Case("address-refused", "token", "refuses our address"),
    Case("rate-limited", "metadata", "more often than the PMS's limit"),
    Case("quota-used-up", "metadata", "quota"),
    Case("unavailable", "token", "down"),
    Case("slow", "http", "overloaded", {"delay_ms": 4000}),
    Case("wrong-path", "metadata", "path"),
    Case("registration-travels", "token", ""),
    Case("renewal-overdue", "token", "has expired", expires_at="2020-01-01T00:00:00Z"),
    Case("fhir-version", "metadata", "FHIR 3.0.1", {"version": "3.0.1"}),
    Case("fhir-version", "metadata", "FHIR 1.0.2", {"version": "1.0.2"}),
)


CERNER = (
    Case("expired-secret", "token", "The secret is wrong"),
    Case("wrong-secret", "token", "The secret is wrong"),
    Case("clock-skew", "clock", "clock"),
    Case("scope-missing", "read", "may not search Patient", {"resource": "Patient"}),
    Case("client-disabled", "token", "disabled"),
    Case("unauthorized", "identity", "disabled"),
    Case("address-refused", "token", "refuses our address"),
    Case("rate-limited", "metadata", "more often than the PMS's limit"),
    Case("quota-used-up", "metadata", "quota"),
    Case("unavailable", "token", "down"),
    Case("wrong-path", "metadata", "path"),
    Case("fhir-version", "metadata", "FHIR 3.0.1"),
    Case("tenant-not-enabled", "token", "wrong or misspelt"),
    Case("tenant-not-enabled", "token", "not enabled in this tenant", {"urn": "grant:tenant-not-configured"}),
    Case("tenant-not-enabled", "token", "not enabled", {"urn": "grant:unauthorized-client-for-tenant"}),
    Case("scopes-v2-only", "token", "SMART v1 scopes (.read) were asked of a v2 app"),
)
FHIR = (
    Case("wrong-secret", "token", "secret or registration has expired"),
    Case("client-disabled", "token", "secret or registration has expired"),
    Case("scope-missing", "read", "may not search Patient", {"resource": "Patient"}),
    Case("unauthorized", "identity", "disabled"),
    Case("address-refused", "token", "refuses our address"),
    Case("unavailable", "token", "down"),
    Case("fhir-version", "metadata", "FHIR 5.0.0", {"version": "5.0.0"}),
)
UNITY = (
    Case("expired-secret", "token", "service user's name or password is wrong or has expired"),
    Case("wrong-secret", "token", "service user's name or password is wrong"),
    Case("clock-skew", "clock", "clock"),
    Case("client-disabled", "identity", "EHR user"),
    Case("unauthorized", "identity", "idle for too long"),
    Case("address-refused", "token", "refuses our address"),
    Case("rate-limited", "token", "limits how often"),
    Case("unavailable", "token", "down"),
    Case("user-not-authenticated", "identity", "GetUserAuthentication was left out or failed"),
    Case("magic-error", "read", "the text is the server's own"),
    Case("magic-error", "read", "STATUS says Critical", {"kind": "critical-status"}),
    Case("action-unlicensed", "permissions", "GetSchedule", {"action": "GetSchedule"}),
    Case("action-unlicensed", "permissions", "SearchPatients", {"action": "SearchPatients"}),
    Case("other-product", "metadata", "PM answers, the integration says TouchWorks", {"product": "PM"}),
    Case("session-idle", "identity", "idle for too long"),
)


@dataclass(frozen=True)
class Connected:
    """An integration of the suite with a server of the simulator behind it."""

    suite: Suite
    server: str
    path: str
    credential: dict[str, Any]

    def test(self) -> dict[str, Any]:
        found = self.suite.call("POST", f"{self.path}/credentials/api:test")
        assert found["duration_ms"] <= BUDGET_MS
        return dict(found)

    def start(self, fault: str, parameters: dict[str, Any]) -> None:
        self.suite.call("PUT", f"{SERVERS}/{self.server}/faults/{fault}", {"parameters": parameters})

    def put(self, **changed: Any) -> None:
        """The credential, changed; what it had of tokens is gone."""
        self.suite.call("PUT", f"{self.path}/credentials/api", self.credential | changed, {"If-Match": "*"})

    def heal(self) -> None:
        self.suite.call("DELETE", f"{SERVERS}/{self.server}/faults")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with embedded_suite(tmp_path_factory.mktemp("faults") / "data", demo=False) as running:
        yield running


def connect_epic(suite: Suite, name: str, environment: str, client_id: str) -> Connected:
    server = suite.call("POST", SERVERS, {"name": name, "vendor": "epic", "patients": 40})
    jwks_url = suite.call("GET", f"/auth/v1/signing-keys?environment={environment}")["jwks_urls"][environment]
    suite.call("PUT", f"/simulator/v1/clients/{client_id}", {"jwks_url": jwks_url})
    made = {"name": name, "vendor": "epic", "product": "Epic (simulated)", "environment": environment}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    channel = {"kind": "fhir", "endpoint": server["fhir_base"], "time_zone": "America/Chicago", "credential": "api"}
    suite.call("PUT", f"{path}/channels/fhir", channel | {"settings": {}})
    credential = {
        "method": "private_key_jwt", "client_id": client_id, "token_url": server["token_url"],
        "scopes": ["system/Patient.read", "system/Appointment.read"], "algorithm": "RS384",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return Connected(suite, name, path, credential)


@pytest.fixture(scope="module")
def epic(suite: Suite) -> Connected:
    return connect_epic(suite, "north", "test", "north-app")


@pytest.fixture(scope="module")
def unity(suite: Suite) -> Connected:
    accounts = {
        "service_username": "svc", "service_password": "canary-service", "application": "App.Test", "user": "jdoe",
        "user_password": "canary-user", "product": "TouchWorks",
    }  # fmt: skip
    made = {"name": "touchworks", "vendor": "unity", "patients": 40, "unity": accounts}
    server = suite.call("POST", SERVERS, made)
    made = {"name": "Unity", "vendor": "unity", "product": "TouchWorks", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    credential = {
        "method": "unity", "client_id": "App.Test", "token_url": server["unity_base"], "username": "svc",
        "secret": "canary-service", "user_name": "jdoe", "user_secret": "canary-user",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return Connected(suite, "touchworks", path, credential)


def connect_by_secret(suite: Suite, vendor: str, client_id: str) -> Connected:
    server = suite.call("POST", SERVERS, {"name": vendor, "vendor": vendor, "patients": 40})
    scopes = ["system/Patient.read", "system/Appointment.read"]
    suite.call("PUT", f"/simulator/v1/clients/{client_id}", {"secret": "canary-%secret", "scopes": scopes})
    made = {"name": vendor, "vendor": vendor, "product": "simulated", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    channel = {"kind": "fhir", "endpoint": server["fhir_base"], "time_zone": "America/Chicago", "credential": "api"}
    suite.call("PUT", f"{path}/channels/fhir", channel | {"settings": {}})
    credential = {
        "method": "client_secret_basic", "client_id": client_id, "token_url": server["token_url"], "scopes": scopes,
        "secret": "canary-%secret",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return Connected(suite, vendor, path, credential)


@pytest.fixture(scope="module")
def cerner(suite: Suite) -> Connected:
    return connect_by_secret(suite, "cerner", "cerner-app")


@pytest.fixture(scope="module")
def fhir(suite: Suite) -> Connected:
    return connect_by_secret(suite, "fhir", "fhir-app")


@pytest.mark.parametrize("case", CERNER, ids=str)
def test_a_fault_of_oracle_health(cerner: Connected, case: Case) -> None:
    assert named(case, under(cerner, case))


@pytest.mark.parametrize("case", FHIR, ids=str)
def test_a_fault_of_a_plain_server(fhir: Connected, case: Case) -> None:
    assert named(case, under(fhir, case))


@pytest.mark.parametrize("case", UNITY, ids=str)
def test_a_fault_of_unity(unity: Connected, case: Case) -> None:
    assert named(case, under(unity, case))


@pytest.mark.parametrize("case", EPIC, ids=str)
def test_a_fault_of_epic(epic: Connected, case: Case) -> None:
    epic.put(secret_expires_at=case.expires_at)
    assert named(case, under(epic, case))


def under(peer: Connected, case: Case) -> dict[str, Any]:
    """What Test Connection says while a fault is on; all is well before."""
    well = peer.test()
    assert well["status"] == "passed", [row for row in well["stages"] if row["status"] == "failed"]
    peer.start(case.fault, case.parameters)
    try:
        found = peer.test()
    finally:
        peer.heal()
    assert "canary" not in str(found)
    return found


def named(case: Case, found: dict[str, Any]) -> bool:
    """Whether a test names a fault's stage and cause, and what to do."""
    assert (found["failed_stage"], found["likely_cause"]) != (None, None), case
    assert found["failed_stage"] == case.stage, found["likely_cause"]
    assert case.cause in (found["likely_cause"] or "")
    return bool(found["next_step"])


def test_a_vendor_that_never_read_our_keys(suite: Suite) -> None:
    development = connect_epic(suite, "west", "development", "west-app")
    development.start("keys-unread", {})
    found = development.test()
    assert (found["failed_stage"], "Nobody has read our key set" in found["likely_cause"]) == ("token", True), found
    development.heal()
    assert development.test()["status"] == "passed"
    development.start("keys-unread", {})
    assert "Nobody has read" not in development.test()["likely_cause"], "it has been read meanwhile"


def test_a_client_of_the_sandbox_in_production(epic: Connected, suite: Suite) -> None:
    epic.put()
    assert epic.test()["status"] == "passed"
    production = connect_epic(suite, "east", "production", "east-app")
    production.put(client_id=epic.credential["client_id"])
    production.start("other-environment", {})
    found = production.test()
    assert (found["failed_stage"], "serves test" in found["likely_cause"]) == ("token", True), found


@pytest.fixture(scope="module")
def granted(suite: Suite) -> Connected:
    """An Epic-like server at which a person granted access in the browser."""
    server = suite.call("POST", SERVERS, {"name": "granted", "vendor": "epic", "patients": 40})
    made = {"name": "granted", "vendor": "epic", "product": "Epic (simulated)", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    channel = {"kind": "fhir", "endpoint": server["fhir_base"], "time_zone": "America/Chicago", "credential": "api"}
    suite.call("PUT", f"{path}/channels/fhir", channel | {"settings": {}})
    credential = {
        "method": "client_secret_basic", "grant": "authorization_code", "client_id": "granted-app",
        "secret": "canary-secret", "token_url": server["token_url"],
        "authorize_url": server["token_url"].replace("/token", "/authorize"), "audience": server["fhir_base"],
        "scopes": ["user/Patient.read", "offline_access"],
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return Connected(suite, "granted", path, credential)


def connect_in_a_browser(peer: Connected) -> None:
    begun = peer.suite.call("POST", f"{peer.path}/credentials/api:authorize")
    client = {"secret": "canary-secret", "redirect_uris": [begun["redirect_uri"]], "scopes": peer.credential["scopes"]}
    peer.suite.call("PUT", "/simulator/v1/clients/granted-app", client)
    page = httpx.get(begun["authorize_url"], follow_redirects=True, trust_env=False)
    assert "Connected" in page.text, page.text


@pytest.mark.parametrize("fault", ["refresh-token-revoked", "refresh-token-raced"])
def test_a_refresh_token_that_is_of_no_use_any_more(granted: Connected, fault: str) -> None:
    connect_in_a_browser(granted)
    assert granted.test()["status"] == "passed"
    granted.start(fault, {})
    found = granted.test()
    assert (found["failed_stage"], "used by somebody else first" in found["likely_cause"]) == ("token", True), found
    assert ":authorize" in found["next_step"]
    granted.heal()
    again = granted.test()
    assert again["failed_stage"] == "token", "nothing is asked again until a person has connected it"
    connect_in_a_browser(granted)
    assert granted.test()["status"] == "passed"
