"""Thousands of idle MLLP connections: what they cost in memory, and what a busy one notices."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from bench.hl7_servers import gateway, load
from bench.report import figure

IDLE: Final = 5_000
SECONDS: Final = 5.0
P99_MS_GOAL: Final = 1_000.0
GROWTH_MB_GOAL: Final = 100.0
SPARE_FILES: Final = 500


def hl7_idle_connections(folder: Path) -> Iterator[dict[str, object]]:
    """The load runs before as well, so that what the messages themselves take is not counted."""
    _allow_files(IDLE + SPARE_FILES)
    with gateway(folder, "idle", PS_HL7_CONNECTIONS_MAX=str(IDLE + 100)) as server, contextlib.ExitStack() as stack:
        process = psutil.Process(server.pid)
        load(server.port, 1, SECONDS)
        before = process.memory_info().rss
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        seen = load(server.port, 1, SECONDS)
        growth = (process.memory_info().rss - before) / 1e6
    how = f"beside {IDLE} idle connections: one connection sends a 1.5 KB ADT after the other, {SECONDS:g} s"
    yield figure("HL7 p99 beside idle connections", seen["p99_ms"], "ms", how, goal=P99_MS_GOAL)
    yield figure("HL7 RSS growth by idle connections", growth, "MB", f"{IDLE} connections", goal=GROWTH_MB_GOAL)


def _allow_files(count: int) -> None:
    """For this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard > 0 else count, hard))
