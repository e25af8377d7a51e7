"""Long proofs (`make proof`): many kills in both shapes, with a ledger of what was acknowledged."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from e2e.journey import adt_a08, medical_record_number, send_hl7, wait_for_patients
from e2e.suite_process import Suite, embedded_suite, eventually, separate_suite, wait_until_welcome
from e2e.test_life import newest_name

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.proof,
    # The foreign HL7 client leaves its socket to the garbage collector when the peer dies under it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = 5
SENDERS = 4


def stored_control_ids(suite: Suite) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = suite.call("POST", "/hl7/v1/messages:search", {"limit": 500, **({"cursor": cursor} if cursor else {})})
        found += [row["control_id"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found


def send_while_killed(suite: Suite, process: str, number: str, kill: int, after_s: float) -> set[str]:
    """Several senders at once; the process is killed under them. Which control ids were acknowledged positively."""
    acknowledged: set[str] = set()

    def send(sender: int) -> None:
        for index in range(10_000):
            control_id = f"P{kill}-{sender}-{index:05d}"
            try:
                codes = send_hl7(suite, adt_a08(number, f"Family{control_id}", control_id))
            except (OSError, StopIteration):
                return
            if codes == ["AA"]:
                acknowledged.add(control_id)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
    for thread in threads:
        thread.start()
    threads[0].join(after_s)
    suite.processes[process].kill()
    for thread in threads:
        thread.join()
    return acknowledged


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_of_the_one_process_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with embedded_suite(tmp_path / "data") as suite:
        number = medical_record_number(wait_for_patients(suite)[0])
        acknowledged: set[str] = set()
        for kill in range(KILLS):
            acknowledged |= send_while_killed(suite, "suite", number, kill, chance.uniform(0.2, 2.0))
            suite.processes["suite"].start()
            wait_until_welcome(suite)
        assert_ledger(suite, acknowledged, number)


@pytest.mark.parametrize("process", ["hl7-gateway", "sync"])
def test_kill_9_of_one_service_loses_and_doubles_nothing(
    tmp_path: Path, process: str, postgres_database: str, kafka_bootstrap: str
) -> None:
    with separate_suite(
        tmp_path / "data", database_url=postgres_database, bus_url=f"kafka://{kafka_bootstrap}"
    ) as suite:
        number = medical_record_number(wait_for_patients(suite)[0])
        acknowledged: set[str] = set()
        for kill in range(KILLS):
            if process == "hl7-gateway":
                acknowledged |= send_while_killed(suite, process, number, kill, 1.0)
            else:
                suite.processes[process].kill()
                codes = send_hl7(
                    suite, *(adt_a08(number, f"Family{kill}{index}", f"S{kill}-{index}") for index in range(50))
                )
                assert set(codes) == {"AA"}
                acknowledged |= {f"S{kill}-{index}" for index in range(50)}
            suite.processes[process].start()
            eventually(suite.ready, within_s=60)
        assert_ledger(suite, acknowledged, number)


def assert_ledger(suite: Suite, acknowledged: set[str], number: str) -> None:
    """Every acknowledged message is stored, none twice, and all of them reach the record."""
    # What a killed replica had taken in is catalogued by the next one to hold the lease.
    eventually(lambda: suite.call("POST", "/hl7/v1/messages:search", {"limit": 1})["complete"], within_s=60)
    stored = stored_control_ids(suite)
    assert acknowledged
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert send_hl7(suite, adt_a08(number, "LastOfAll", "LAST", "20271231235959")) == ["AA"]
    eventually(lambda: "LastOfAll" in newest_name(suite, number), within_s=60)
    for service in ("sync", "hl7-gateway", "alerts", "diagnostics"):
        prefix = {"hl7-gateway": "hl7"}.get(service, service)
        assert suite.call("GET", f"/{prefix}/v1/dead-letters")["items"] == []
