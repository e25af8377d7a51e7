"""`make bench`: starts the suite as a user would and prints one JSON line per figure.

{"figure": …, "value": …, "unit": …, "goal": …, "met": …, "how": …}; a figure without a goal says so with null. Times
depend on
the machine: compare figures of one run, not of two machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e.journey import PATIENTS, wait_for_patients
from e2e.suite_process import Suite, embedded_suite

from bench.auth_broker import auth_broker
from bench.hl7_frame import figures as frame_figures
from bench.hl7_idle_connections import hl7_idle_connections
from bench.hl7_parsing import figures as parsing_figures
from bench.hl7_search import hl7_search
from bench.hl7_throughput import hl7_throughput
from bench.hl7_validation import figures as validation_figures
from bench.report import figure
from bench.simulator_pages import simulator_pages
from bench.sync_mapping import figures as mapping_figures
from bench.sync_matching import figures as matching_figures

IDLE_S = 20.0
READS = 2_000
FLOOR_PATH = "/livez"
READ_PATH = "/auth/v1/integrations"


def latencies_ms(client: httpx.Client, url: str, count: int) -> list[float]:
    """Durations of requests one after the other on one kept connection, after a warm-up."""
    measured = []
    for index in range(count + 50):
        began = time.perf_counter()
        response = client.get(url)
        if index >= 50:
            measured.append((time.perf_counter() - began) * 1000)
        response.raise_for_status()
    return sorted(measured)


def percentile(ordered: Sequence[float], share: float) -> float:
    """A percentile of ordered values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def start_up(folder: Path) -> Iterator[dict[str, object]]:
    """Seconds until /readyz answers 200: first start (keys and databases are made), and a second one."""
    for name in ("first start", "second start"):
        began = time.perf_counter()
        with embedded_suite(folder / "start", demo=False):
            seconds = time.perf_counter() - began
        yield figure(
            f"start-up, {name}", seconds, "s", "python -m suite until ready and the token is written", goal=10.0
        )


def resident_megabytes(suite: Suite) -> float:
    """Resident memory of the suite's process in MB (10^6 bytes)."""
    return float(psutil.Process(suite.processes["suite"].pid).memory_info().rss) / 1e6


def memory_and_reads(folder: Path) -> Iterator[dict[str, object]]:
    """Memory of the whole suite with its demonstration polling, CPU while idle, and the latency of a read."""
    with embedded_suite(folder / "demo") as suite:
        wait_for_patients(suite)
        process = psutil.Process(suite.processes["suite"].pid)
        process.cpu_percent()
        time.sleep(IDLE_S)
        yield figure(
            "RSS idle",
            resident_megabytes(suite),
            "MB",
            f"all services, simulator and {PATIENTS} patients, {IDLE_S:g} s after the first synchronisation",
            goal=300.0,
        )
        yield figure(
            "CPU idle",
            process.cpu_percent(),
            "% of one core",
            f"the demonstration polls every 5 s, mean of {IDLE_S:g} s",
        )
        headers = {"authorization": f"Bearer {suite.token}"}
        with httpx.Client(headers=headers, trust_env=False) as client:
            floor = latencies_ms(client, suite.urls["auth-gateway"] + FLOOR_PATH, READS)
            read = latencies_ms(client, suite.urls["auth-gateway"] + READ_PATH, READS)
        how = f"GET {READ_PATH}, one connection, {READS} requests, while the demonstration polls"
        yield figure("read p50", percentile(read, 0.5), "ms", how)
        yield figure("read p99", percentile(read, 0.99), "ms", how)
        ratio = statistics.median(read) / statistics.median(floor)
        yield figure(
            "read p50 against the floor",
            ratio,
            "×",
            f"the floor is GET {FLOOR_PATH} of the same run: no token, no database",
        )


def hl7_parsing(_: Path) -> Iterator[dict[str, object]]:
    """How fast HL7 messages are read."""
    return parsing_figures()


def hl7_validation(_: Path) -> Iterator[dict[str, object]]:
    """Validation beside splitting the bytes, and beside hl7apy where it is installed."""
    yield from validation_figures()


def sync_mapping(_: Path) -> Iterator[dict[str, object]]:
    """How fast records are mapped by their rows."""
    return mapping_figures()


def sync_matching(_: Path) -> Iterator[dict[str, object]]:
    """Which record of one file is which of another."""
    return matching_figures()


FIGURES = {
    "start-up": start_up,
    "memory-and-reads": memory_and_reads,
    "auth-broker": auth_broker,
    "simulator-pages": simulator_pages,
    "hl7-throughput": hl7_throughput,
    "hl7-idle-connections": hl7_idle_connections,
    "hl7-search": hl7_search,
    "hl7-frame": frame_figures,
    "hl7-parsing": hl7_parsing,
    "hl7-validation": hl7_validation,
    "sync-mapping": sync_mapping,
    "sync-matching": sync_matching,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 when a goal was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", choices=[*FIGURES, []], help="which figures; all by default")
    chosen = parser.parse_args(arguments).groups or list(FIGURES)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            for line in FIGURES[name](Path(folder)):
                missed = missed or line["met"] is False
                print(json.dumps(line, ensure_ascii=False), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
