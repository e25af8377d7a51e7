"""Each fault of groups A, B and F that a server can have: Test Connection names its stage, its cause and a next step.

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

    def __str__(self) -> str:
        return "-".join((self.fault, *map(str, self.parameters.values())))


EPIC = (
    Case("expired-secret", "token", "expired"),
    Case("wrong-secret", "token", "not what the PMS knows"),
)


@dataclass(frozen=True)
class Connected:
    """An integration of the suite with a server of the simulator behind it."""

    suite: Suite
    server: str
    integration: str

    def test(self) -> dict[str, Any]:
        found = self.suite.call("POST", f"/auth/v1/integrations/{self.integration}/credentials/api:test")
        assert found["duration_ms"] <= BUDGET_MS
        return dict(found)

    def start(self, fault: str, parameters: dict[str, Any]) -> None:
        self.suite.call("PUT", f"{SERVERS}/{self.server}/faults/{fault}", {"parameters": parameters})

    def heal(self) -> None:
        self.suite.call("DELETE", f"{SERVERS}/{self.server}/faults")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with embedded_suite(tmp_path_factory.mktemp("faults") / "data", demo=False) as running:
        yield running


@pytest.fixture(scope="module")
def epic(suite: Suite) -> Connected:
    server = suite.call("POST", SERVERS, {"name": "north", "vendor": "epic", "patients": 40})
    integration = suite.call(
        "POST",
        "/auth/v1/integrations",
        {"name": "North", "vendor": "epic", "product": "Epic (simulated)", "environment": "test"},
    )
    jwks = suite.call("GET", f"/auth/v1/signing-keys")
    path = f"/auth/v1/integrations/{integration['id']}"
    suite.call(
        "PUT", f"{path}/channels/fhir",
        {"kind": "fhir", "endpoint": server["fhir_base"], "time_zone": "America/Chicago", "credential": "api"},
    )  # fmt: skip
    suite.call(
        "PUT", f"{path}/credentials/api",
        {
            "method": "private_key_jwt", "client_id": "north-app", "token_url": server["token_url"],
            "scopes": ["system/Patient.read", "system/Appointment.read"], "algorithm": "RS384",
        },
    )  # fmt: skip
    print(jwks)
    return Connected(suite, "north", integration["id"])


def test_print(epic):
    import json
    r=epic.test(); print(json.dumps(r,indent=1)[:3000])
    assert 0
