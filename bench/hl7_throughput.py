"""Acknowledged durable HL7 messages a second: the gateway beside the bare listener and python-hl7's server, in turn."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.report import figure

ROOT: Final = Path(__file__).resolve().parents[1]
GATEWAY: Final = ROOT / "services/hl7-gateway/tests/gateway_process.py"
CONNECTIONS: Final = (1, 8, 64)
SECONDS: Final = 5.0
ROUNDS: Final = 2
GOAL: Final = 0.7
P99_MS_GOAL: Final = 40.0


def hl7_throughput(folder: Path) -> Iterator[dict[str, object]]:
    """Each server is up for the whole run; the rounds alternate between them, the better one of each counts."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(_server(name, folder)) for name in ("bare", "python-hl7", "gateway")}
        for connections in CONNECTIONS:
            measured = {
                name: max((_load(port, connections) for _ in range(ROUNDS)), key=lambda one: one["per_second"])
                for name, port in ports.items()
            }
            yield from _figures(connections, measured)


def _figures(connections: int, measured: dict[str, dict[str, float]]) -> Iterator[dict[str, object]]:
    ours = measured["gateway"]
    at = f"{connections} connections, 1.5 KB ADT, SQLite synchronous=FULL, {SECONDS:g} s, best of {ROUNDS}"
    yield figure(f"HL7 acknowledged, {connections} connections", ours["per_second"], "messages/s", at)
    for peer, goal in (("bare", GOAL), ("python-hl7", 10.0)):
        ratio = ours["per_second"] / measured[peer]["per_second"]
        how = f"{at}; {peer} {measured[peer]['per_second']:.0f}/s in the same run"
        yield figure(f"HL7 acknowledged against {peer}, {connections} connections", ratio, "×", how, at_least=goal)
    yield figure(f"HL7 p99, {connections} connections", ours["p99_ms"], "ms", at, goal=P99_MS_GOAL)
    yield figure(f"HL7 refused, {connections} connections", ours["refused"], "messages", at, goal=0.0)


def _load(port: int, connections: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.mllp_load", str(port), str(connections), str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


@contextlib.contextmanager
def _server(name: str, folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    data = folder / name
    data.mkdir()
    command = [sys.executable, "-m", "bench.mllp_floor", name, str(port), str(data)]
    if name == "gateway":
        command = [sys.executable, str(GATEWAY), str(data), str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} did not start")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)
