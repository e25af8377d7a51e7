"""Each fault of the simulator opens the right alert within one poll and 5 s, and the alert resolves after."""

from __future__ import annotations

import pytest

from e2e.journey import FAULTS, fault_opens_and_resolves, wait_for_patients
from e2e.suite_process import Suite

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "expired-secret"])
def test_a_fault_opens_its_alert(embedded: Suite, fault: str) -> None:
    wait_for_patients(embedded)
    alert = fault_opens_and_resolves(embedded, fault)
    assert alert["rule"] == FAULTS[fault][1]
    assert alert["next_step"]


def test_an_expired_secret_is_found_by_the_token_test(embedded: Suite) -> None:
    alert = fault_opens_and_resolves(embedded, "expired-secret")
    assert alert["rule"] == "failed-authentication"
    assert alert["subject"] == "credential:api"
