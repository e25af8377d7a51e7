"""Pausing an integration over HTTP: a run that goes on stops within five seconds, and goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from e2e.journey import the_integration, wait_for_patients
from e2e.suite_process import embedded_suite, eventually

pytestmark = pytest.mark.e2e
STOPS_WITHIN_S = 5.0


def test_a_run_stops_at_a_pause_and_goes_on_afterwards(tmp_path: Path) -> None:
    with embedded_suite(tmp_path / "data") as suite:
        before = len(wait_for_patients(suite))
        integration = the_integration(suite)["id"]
        suite.call("PUT", "/simulator/v1/faults/slow", {"parameters": {"delay_ms": 1000}})
        asked = {"integration_id": integration, "resource": "appointment", "mode": "full"}
        # A schedule's run may hold the lease: then this one is asked for again.
        run = eventually(lambda: suite.request("POST", "/sync/v1/runs", asked).json().get("id"), within_s=60)

        def state() -> str:
            return str(suite.call("GET", f"/sync/v1/runs/{run}")["state"])

        eventually(lambda: state() == "running", within_s=60)
        began = time.monotonic()
        suite.call("POST", f"/auth/v1/integrations/{integration}:pause")
        eventually(lambda: state() == "paused", within_s=STOPS_WITHIN_S)
        assert time.monotonic() - began <= STOPS_WITHIN_S
        suite.call("DELETE", "/simulator/v1/faults/slow")
        suite.call("POST", f"/auth/v1/integrations/{integration}:resume")
        eventually(lambda: state() == "finished", within_s=60)
        assert len(wait_for_patients(suite)) == before
