"""A peer that is gone without a word, for real: `unshare --net python half_open_run.py`.

The network is this process's own; its loopback is switched off under an open connection. Prints the listener's
counters once the connection has ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

import uvloop

from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemClock, SystemIds
from conftest import FakeJournal, FakeSenders, _integration, _message
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.mllp_listener import ListenerLimits, MllpListener
from hl7_gateway.core.connection import Limits
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.receive_message import ReceiveMessage

GET_FLAGS, SET_FLAGS = 0x8913, 0x8914
UP: Final = 1
WAIT_S: Final = 30.0
END: Final = b"\x1c\r"


def switch(on: bool) -> None:
    """The loopback of this process's network (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        row = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, GET_FLAGS, row))[1]
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | UP if on else flags & ~UP))


def hasten(listener: MllpListener) -> None:
    """The same probes, in seconds instead of minutes."""
    for protocol in listener.open:
        assert protocol._transport is not None
        endpoint = protocol._transport.get_extra_info("socket")
        assert endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)
        for option, value in (*options, (socket.TCP_USER_TIMEOUT, 2000)):
            endpoint.setsockopt(socket.IPPROTO_TCP, option, value)


async def run() -> None:
    """See the module's text."""
    clock = SystemClock()
    committer = Committer(
        MemoryIntake(), StaticKeyRing(), clock, batch_messages_max=10, waiting_bytes_max=1 << 20, store_timeout_s=4.0
    )
    receiver = ReceiveMessage(FakeSenders(_integration()), committer, FakeJournal(), clock, SystemIds())
    limits = ListenerLimits(10, 64, Limits(1 << 20, 60.0, 60.0))
    listener = MllpListener("127.0.0.1", 0, receiver, clock, limits)
    committing = asyncio.create_task(committer.run())
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"\x0b" + _message("1") + END)
    async with asyncio.timeout(WAIT_S):
        assert b"MSA|AA|1" in await reader.readuntil(END)
        hasten(listener)
        switch(on=False)
        while listener.open:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.05)
    writer.transport.abort()
    await listener.stop(1.0)
    committer.stop()
    await committing
    sys.stdout.write(json.dumps(asdict(listener.counters)))


if __name__ == "__main__":
    switch(on=True)
    uvloop.run(run())
