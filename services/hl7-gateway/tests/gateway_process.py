"""A gateway as a process of its own, to be killed: `python gateway_process.py <data> <port>`.

It is the module as the host runs it, on SQLite with the real store, relay and bus; only auth-gateway and the tenant's
keys are stood in for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import uvloop

from common.runtime.host import Host, settle_heap
from common.testing import make_test_runtime
from conftest import announce, peer, wait_for_the_integration
from hl7_gateway.module import build


async def run(data: Path) -> None:
    runtime = make_test_runtime(data, "hl7-gateway", peer_apps={"auth-gateway": peer()}, log_level="ERROR")
    module = build(runtime)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Host(runtime, [module]).running():
        await announce(runtime)
        await wait_for_the_integration(runtime)
        settle_heap()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    os.environ["PS_HL7_LISTEN_PORT"] = sys.argv[2]
    uvloop.run(run(Path(sys.argv[1])))
