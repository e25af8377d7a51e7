"""Acknowledged durable HL7 messages a second: the gateway beside the bare listener and python-hl7's server, in turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.hl7_servers import Server, durable_postgres, floor, gateway, load, validating_gateway
from bench.report import figure

CONNECTIONS: Final = (1, 8, 64)
SECONDS: Final = 5.0
ROUNDS: Final = 2
GOAL: Final = 0.7
P99_MS_GOAL: Final = 40.0
VALIDATING: Final = "SQLite, validating"
VALIDATED_GOAL: Final = 3.0
SYNCS_GOAL: Final = 0.1
TRACED: Final = "fsync,fdatasync,sync_file_range"
ATTACHED_S: Final = 1.0


def hl7_throughput(folder: Path) -> Iterator[dict[str, object]]:
    """Each server is up for the whole run; the rounds alternate between them, the better one of each counts."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(floor(name, folder)) for name in ("bare", "python-hl7")}
        servers["SQLite"] = stack.enter_context(gateway(folder, "sqlite"))
        servers[VALIDATING] = stack.enter_context(validating_gateway(folder))
        url = stack.enter_context(durable_postgres(folder))
        if url is not None:
            servers["PostgreSQL"] = stack.enter_context(gateway(folder, "postgresql", PS_DATABASE_URL=url))
        for connections in CONNECTIONS:
            rounds = [{name: _alone(servers, name, connections) for name in servers} for _ in range(ROUNDS)]
            measured = {name: max((one[name] for one in rounds), key=lambda one: one["per_second"]) for name in servers}
            for store in ("SQLite", "PostgreSQL"):
                if store in measured:
                    yield from _figures(store, connections, measured)
            yield _validated(connections, measured)
        yield from _syncs(servers["SQLite"])


def _alone(servers: Mapping[str, Server], name: str, connections: int) -> dict[str, float]:
    """A load on one server while the others stand still: what they still have to catalogue is not to disturb it."""
    others = [server.pid for other, server in servers.items() if other != name]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        return load(servers[name].port, connections, SECONDS)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def _figures(store: str, connections: int, measured: dict[str, dict[str, float]]) -> Iterator[dict[str, object]]:
    ours = measured[store]
    durable = {"SQLite": "SQLite synchronous=FULL", "PostgreSQL": "PostgreSQL fsync=on"}[store]
    at = f"{connections} connections, 1.5 KB ADT, {durable}, {SECONDS:g} s, best of {ROUNDS}"
    name = f"{store}, {connections} connections"
    yield figure(f"HL7 acknowledged, {name}", ours["per_second"], "messages/s", at)
    for peer, goal in (("bare", GOAL), ("python-hl7", 10.0)):
        ratio = ours["per_second"] / measured[peer]["per_second"]
        how = f"{at}; {peer} {measured[peer]['per_second']:.0f}/s in the same run"
        yield figure(f"HL7 acknowledged against {peer}, {name}", ratio, "×", how, at_least=goal)
    yield figure(f"HL7 p99, {name}", ours["p99_ms"], "ms", at, goal=P99_MS_GOAL)
    yield figure(f"HL7 refused, {name}", ours["refused"], "messages", at, goal=0.0)


def _validated(connections: int, measured: dict[str, dict[str, float]]) -> dict[str, object]:
    ours, peer = measured[VALIDATING]["per_second"], measured["python-hl7"]["per_second"]
    how = f"{connections} connections, the whole message validated first; {ours:.0f}/s, python-hl7 {peer:.0f}/s"
    name = f"HL7 acknowledged after full validation against python-hl7, {connections} connections"
    return figure(name, ours / peer, "×", how, at_least=VALIDATED_GOAL)


def _syncs(server: Server) -> Iterator[dict[str, object]]:
    """Syncs of the whole process, catalogue and events included, while 64 connections send."""
    program = shutil.which("strace")
    if program is None:
        return
    connections = CONNECTIONS[-1]
    with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") as found:
        options = [program, "--quiet=all", "-f", "-e", f"trace={TRACED}", "-o", found.name, "-p", str(server.pid)]
        tracing = subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(ATTACHED_S)
            seen = load(server.port, connections, SECONDS)
        finally:
            tracing.terminate()
            tracing.wait(timeout=10)
        syncs = sum("sync" in line and "resumed" not in line for line in found)
    messages = seen["per_second"] * SECONDS
    at = (
        f"{connections} connections, {SECONDS:g} s, {syncs} syncs of the process for {messages:.0f} messages, by strace"
    )
    yield figure("HL7 syncs per message", syncs / messages, "syncs", at, goal=SYNCS_GOAL)
