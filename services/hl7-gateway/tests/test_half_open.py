"""A peer whose network is gone, for real: in a network of its own, whose loopback is switched off."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "half_open_run.py"
WAIT_S = 120.0
ALONE = ["unshare", "--user", "--map-root-user", "--net"]

pytestmark = pytest.mark.e2e


def test_a_peer_that_vanishes_is_found_by_the_probes_and_counted() -> None:
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a network of its own needs the right to make one")
    ran = subprocess.run([*ALONE, sys.executable, str(PROGRAM)], check=True, capture_output=True, timeout=WAIT_S)
    counters = json.loads(ran.stdout)
    told = [counters[name] for name in ("frames", "connections_keep_alive_failed", "connections_reset")]
    assert told == [1, 1, 0]
