"""Start, stop, start again, die: what a person at a terminal does to a suite."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from e2e.journey import adt_a08, medical_record_number, send_hl7, wait_for_patients
from e2e.suite_process import Suite, embedded_suite, eventually, wait_until_welcome

pytestmark = [
    pytest.mark.e2e,
    # The foreign HL7 client leaves its socket to the garbage collector when the peer dies under it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def start_and_fail(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "suite", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def assert_one_line(failed: subprocess.CompletedProcess[str], code: str, *named: str) -> None:
    assert failed.returncode == 1
    lines = failed.stderr.strip().splitlines()
    assert len(lines) == 1, failed.stderr
    assert lines[0].startswith(f"{code}:")
    assert all(word in lines[0] for word in named), lines[0]


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_line(start_and_fail("--port", port, "--data", str(tmp_path)), "start.port-in-use", port, "PORT=")
        assert_one_line(
            start_and_fail("--port", "0", "--mllp-port", port, "--data", str(tmp_path)),
            "start.port-in-use",
            port,
            "MLLP_PORT=",
        )


def test_an_unusable_directory_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    assert_one_line(
        start_and_fail("--port", "0", "--data", str(file)), "start.directory-unwritable", str(file), "DATA="
    )


def test_a_bad_setting_is_one_line(tmp_path: Path) -> None:
    assert_one_line(start_and_fail("--port", "66x61", "--data", str(tmp_path)), "start.bad-setting", "PS_PORT")
    failed = start_and_fail("--port", "0", "--data", str(tmp_path), PS_DATABASE_URL="mysql://somewhere")
    assert_one_line(failed, "start.bad-setting", "PS_DATABASE_URL", "postgresql+asyncpg")


def test_an_empty_suite_starts_stops_and_keeps_its_token(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with embedded_suite(data, demo=False) as suite:
        token = suite.token
        assert stat.S_IMODE((data / "admin-token").stat().st_mode) == 0o600
        assert suite.call("GET", "/auth/v1/integrations")["items"] == []
        assert suite.call("GET", "/auth/v1/me")["roles"]
        assert suite.processes["suite"].stop() == 0
    with embedded_suite(data, demo=False) as suite:
        assert suite.token == token
        assert suite.call("GET", "/auth/v1/me")["tenant"]


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A ledger of acknowledged control ids against the store, over three kills."""
    acknowledged: set[str] = set()
    with embedded_suite(tmp_path / "data") as suite:
        number = medical_record_number(wait_for_patients(suite)[0])
        for kill in range(3):
            acknowledged |= send_until_killed(suite, number, kill)
            suite.processes["suite"].start()
            wait_until_welcome(suite)
        assert len(acknowledged) >= 3

        def stored() -> set[str]:
            found: set[str] = set()
            cursor = None
            while True:
                page = suite.call(
                    "POST", "/hl7/v1/messages:search", {"limit": 500, **({"cursor": cursor} if cursor else {})}
                )
                found |= {row["control_id"] for row in page["items"]}
                cursor = page["next"]
                if cursor is None:
                    return found

        eventually(lambda: acknowledged <= stored(), within_s=20)
        last = max(acknowledged)
        eventually(lambda: f"Family{last}" in newest_name(suite, number), within_s=20)


def send_until_killed(suite: Suite, number: str, kill: int) -> set[str]:
    """Send until the process dies under our hands; which control ids were acknowledged positively."""
    acknowledged: set[str] = set()
    for index in range(1000):
        control_id = f"K{kill}-{index:04d}"
        if index == 25 + 10 * kill:
            suite.processes["suite"].kill()
        try:
            codes = send_hl7(suite, adt_a08(number, f"Family{control_id}", control_id, f"202611231015{index % 60:02d}"))
        except (OSError, httpx.TransportError):
            break
        if codes == ["AA"]:
            acknowledged.add(control_id)
    return acknowledged


def newest_name(suite: Suite, number: str) -> str:
    page = suite.call("POST", "/sync/v1/records/patient:search", {"identifier": {"value": number}, "limit": 5})
    return str(page["items"])
