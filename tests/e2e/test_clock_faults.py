"""Whose clock is wrong (A3, A4): told by what several peers say, each behind an address of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.suite_process import Suite, embedded_suite

pytestmark = pytest.mark.e2e

PEERS = 4
OFFSET_S = 900


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Peers of other tests would have their say: a suite of its own."""
    with embedded_suite(tmp_path_factory.mktemp("clocks"), demo=False) as running:
        yield running


def connect(suite: Suite, name: str) -> str:
    """An integration with a server behind a port of its own; its path."""
    server = suite.call("POST", "/simulator/v1/servers", {"name": name, "vendor": "fhir", "patients": 5})
    own = urlsplit(server["fhir_base"])
    proxy = suite.call("POST", "/simulator/v1/proxies", {"name": name, "upstream_port": own.port})
    through = f"http://127.0.0.1:{proxy['listen']['port']}"
    made = {"name": name, "vendor": "fhir", "product": "simulated", "environment": "test"}
    path = f"/auth/v1/integrations/{suite.call('POST', '/auth/v1/integrations', made)['id']}"
    channel = {"kind": "fhir", "endpoint": through + own.path, "time_zone": "America/Chicago", "credential": "api"}
    suite.call("PUT", f"{path}/channels/fhir", channel | {"settings": {}})
    credential = {
        "method": "client_secret_basic", "client_id": "clock-app", "scopes": ["system/Patient.rs"],
        "token_url": through + urlsplit(server["token_url"]).path, "secret": "canary-secret",
    }  # fmt: skip
    suite.call("PUT", f"{path}/credentials/api", credential)
    return path


def look(suite: Suite, path: str) -> dict[str, Any]:
    return dict(suite.call("POST", f"{path}/credentials/api:test"))


def test_ours_is_wrong_when_every_peer_says_so_and_theirs_when_the_others_do_not(suite: Suite) -> None:
    suite.call("PUT", "/simulator/v1/clients/clock-app", {"secret": "canary-secret", "scopes": ["system/Patient.rs"]})
    paths = {name: connect(suite, name) for name in (f"clock-{number}" for number in range(PEERS))}
    for name in paths:
        suite.call("PUT", f"/simulator/v1/servers/{name}/faults/our-clock", {"parameters": {"offset_s": OFFSET_S}})
    found = [look(suite, path) for path in paths.values()]
    assert [one["failed_stage"] for one in found] == ["clock"] * PEERS
    first, last = found[0], found[-1]
    assert "Our clock is wrong" not in first["likely_cause"], "one peer alone says nothing of ours"
    assert "Our clock is wrong" in last["likely_cause"], last["likely_cause"]
    assert last["next_step"]

    for name in paths:
        suite.call("DELETE", f"/simulator/v1/servers/{name}/faults/our-clock")
    assert [look(suite, path)["status"] for path in paths.values()] == ["passed"] * PEERS
    alone = f"clock-{PEERS - 1}"
    suite.call("PUT", f"/simulator/v1/servers/{alone}/faults/clock-skew", {"parameters": {"offset_s": OFFSET_S}})
    theirs = look(suite, paths[alone])
    assert theirs["failed_stage"] == "clock"
    assert "The peer's clock is wrong" in theirs["likely_cause"], theirs["likely_cause"]
