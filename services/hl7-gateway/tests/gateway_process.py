"""A gateway as a process of its own, to be killed: `python gateway_process.py <data> <port>`.

It is the module as the host runs it, on SQLite with the real store, relay and bus; only auth-gateway and the tenant's
keys are stood in for. With VALIDATED_PORT in its environment it has a second listener there, which validates whole
messages before it acknowledges them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

import uvloop

from common.runtime.host import settle_heap
from common.testing import make_test_runtime, running
from conftest import announce, peer, wait_for_the_integration
from hl7_gateway.module import build
from infrastructure.hl7_listening import Listening


async def run(data: Path) -> None:
    runtime = make_test_runtime(data, "hl7-gateway", peer_apps={"auth-gateway": peer()}, log_level="ERROR")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(runtime, build) as up:
        await announce(runtime)
        await wait_for_the_integration(runtime)
        if port := os.environ.get("VALIDATED_PORT"):
            await Listening(up, None, int(port)).create(listening={"validation": {"when": "before"}})
        settle_heap()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    os.environ["PS_HL7_LISTEN_PORT"] = sys.argv[2]
    uvloop.run(run(Path(sys.argv[1])))
