"""Each fault of groups A, B and F that a vendor's server can have: Test Connection names its stage and its cause.

Run against servers of the Integration Simulator, through public URLs only. What the network does is in
`test_network_faults.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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
    Case("address-refused", "token", "allow-list"),
    Case("rate-limited", "metadata", "limit"),
    Case("quota-used-up", "metadata", "quota"),
    Case("unavailable", "token", "down"),
    Case("slow", "http", "overloaded", {"delay_ms": 4000}),
    Case("wrong-path", "metadata", "path"),
    Case("registration-travels", "token", ""),
    Case("renewal-overdue", "token", "has expired", expires_at="2020-01-01T00:00:00Z"),
    Case("fhir-version", "metadata", "FHIR 3.0.1", {"version": "3.0.1"}),
    Case("fhir-version", "metadata", "FHIR 1.0.2", {"version": "1.0.2"}),
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


@pytest.mark.parametrize("case", EPIC, ids=str)
def test_a_fault_of_epic(epic: Connected, case: Case) -> None:
    epic.put(secret_expires_at=case.expires_at)
    well = epic.test()
    assert well["status"] == "passed", well
    epic.start(case.fault, case.parameters)
    try:
        found = epic.test()
    finally:
        epic.heal()
    assert found["failed_stage"] == case.stage
    assert case.cause in (found["likely_cause"] or "")
    assert found["next_step"]


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
