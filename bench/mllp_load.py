"""Senders that wait for each acknowledgement: `python -m bench.mllp_load <port> <connections> <seconds>`.

Prints one JSON object: acknowledged messages a second, p50 and p99 in ms, and how many answers were no acceptance.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from typing import Final, cast

import uvloop

START, END = b"\x0b", b"\x1c\r"
MESSAGE_BYTES: Final = 1_500
_CONTROL_ID: Final = "@control-id@"


def adt_message() -> bytes:
    """A synthetic ADT^A08 of about 1.5 KB with `@control-id@` in the place of MSH-10."""
    segments = [
        f"MSH|^~\\&|EPIC|CLINIC|PS|HERE|20260301093000||ADT^A08^ADT_A01|{_CONTROL_ID}|P|2.5.1|||||USA|UNICODE UTF-8",
        "EVN|A08|20260301093000",
        "PID|1||4711^^^EPIC^MR||TEST^SYNTHETIC^A||19700101|F|||1 MAIN ST^^SPRINGFIELD^IL^62701",
    ]
    while len("\r".join(segments)) < MESSAGE_BYTES - 90:
        number = len(segments) - 2
        segments.append(f"NK1|{number}|TEST^RELATIVE^{number}|SPO|2 MAIN ST^^SPRINGFIELD^IL^62701|5551234")
    segments.append("PV1|1|O|CLINIC^1^1")
    return ("\r".join(segments) + "\r").encode()


class Sender(asyncio.Protocol):
    """One connection: the next message once the last one is answered."""

    def __init__(self, name: str, until: float) -> None:
        before, after = adt_message().split(_CONTROL_ID.encode())
        self.latencies_ms: list[float] = []
        self.refused = 0
        self.ended = asyncio.Event()
        self._before, self._after = START + before + name.encode(), after + END
        self._until = until
        self._number = 0
        self._answer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(END):
            return
        now = time.perf_counter()
        self.latencies_ms.append((now - self._sent_at) * 1000)
        self.refused += b"MSA|AA" not in self._answer
        self._answer = b""
        if now < self._until:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def _send(self) -> None:
        assert self._transport is not None
        self._number += 1
        self._sent_at = time.perf_counter()
        self._transport.write(b"%b-%d%b" % (self._before, self._number, self._after))


def _itself(sender: Sender) -> Sender:
    return sender


async def load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """See the module's text."""
    loop = asyncio.get_running_loop()
    run, began = str(time.time_ns()), time.perf_counter()
    senders = [Sender(f"{run}-{number}", began + seconds) for number in range(connections)]
    for sender in senders:
        await loop.create_connection(partial(_itself, sender), "127.0.0.1", port)
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(sender.ended.wait() for sender in senders))
    took = time.perf_counter() - began
    latencies = sorted(latency for sender in senders for latency in sender.latencies_ms)
    return {
        "per_second": len(latencies) / took,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "refused": sum(sender.refused for sender in senders),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(load(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
