"""The simulated MLLP receiver, without its sockets: bytes in, what to write and when out, and what it got.

Without faults every message is answered AA. It keeps control ids, types, sizes and times of the last messages, never
what they say. A reader of MLLP of its own on purpose: see `core.hl7_feed`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from simulator.core.hl7_faults import TYPES
from simulator.core.hl7_feed import END_BLOCK, START_BLOCK, frame

RECORDS_MAX: Final = 10_000
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
Active = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Reply:
    """Write these bytes after so long, then perhaps close."""

    data: bytes
    delay_s: float = 0.0
    close: bool = False


@dataclass(frozen=True, slots=True)
class Got:
    """A message that came: what its header says, and the answer; nothing of its contents."""

    control_id: str
    message_type: str
    size_bytes: int
    answered: str
    received_at: datetime


@dataclass(slots=True)
class Inbox:
    """What the receiver got since it was last emptied; the oldest records go over the bound, the counts stay."""

    records: deque[Got] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    counters: Counter[str] = field(default_factory=Counter)
    times_seen: Counter[str] = field(default_factory=Counter)

    def note(self, got: Got) -> None:
        """Keep it."""
        if len(self.records) == RECORDS_MAX:
            oldest = self.records[0].control_id
            self.times_seen[oldest] -= 1
            if self.times_seen[oldest] <= 0:
                del self.times_seen[oldest]
        self.counters["messages"] += 1
        self.counters["repeated"] += self.times_seen[got.control_id] > 0
        self.times_seen[got.control_id] += 1
        self.records.append(got)

    def empty(self) -> None:
        """Forget everything."""
        self.records.clear()
        self.counters.clear()
        self.times_seen.clear()


class Reading:
    """Frames out of one connection's bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that are whole now; what stands outside frames is left out."""
        self._buffer += data
        bodies = []
        while (end := self._buffer.find(END_BLOCK)) >= 0:
            _, start, body = bytes(self._buffer[:end]).rpartition(START_BLOCK)
            del self._buffer[: end + len(END_BLOCK)]
            if start:
                bodies.append(body)
        if len(self._buffer) > FRAME_BYTES_MAX:
            self._buffer.clear()
        return bodies


def reply_to(body: bytes, faults: Active, inbox: Inbox, now: datetime) -> Reply | None:
    """Take one message, and say what is to be written; None for nothing."""
    fields = _header(body)
    message_type, control_id = fields[8], fields[9]
    code = _code(body, message_type, faults)
    reply = _reply(_acknowledgment(fields, code, control_id, faults, now), faults)
    kind = "^".join(message_type.split("^")[:2])[:20]
    inbox.note(Got(control_id[:199], kind, len(body), code if reply is not None else "", now))
    return reply


def _header(body: bytes) -> list[str]:
    """MSH's fields by number less one; empty where there are none. Usual or not, MSH-1 is the fourth byte."""
    line = body.partition(b"\r")[0].decode("utf-8", "replace")
    fields = line.split(line[3]) if line.startswith("MSH") and len(line) > 3 else []
    return [*fields, *[""] * 20]


def _code(body: bytes, message_type: str, faults: Active) -> str:
    rejected = faults.get("hl7-application-reject")
    if rejected is not None:
        number = rejected["type_number"]
        if number == 0 or message_type.startswith(TYPES[number - 1]):
            return "AR"
    failed = faults.get("hl7-application-error")
    if failed is not None and _patient_number(body) % failed["every_patients"] == 0:
        return "AE"
    return "AA"


def _patient_number(body: bytes) -> int:
    """The same number for the same PID-3, whatever the message; 0 without one."""
    row = next((row for row in body.split(b"\r") if row.startswith(b"PID|")), b"")
    fields = row.split(b"|")
    if len(fields) < 4:
        return 0
    return int.from_bytes(hashlib.blake2b(fields[3], digest_size=8).digest())


def _acknowledgment(fields: list[str], code: str, control_id: str, faults: Active, now: datetime) -> bytes:
    if "hl7-control-id" in faults:
        control_id = f"X{control_id[1:]}" if not control_id.startswith("X") else f"Y{control_id[1:]}"
    sent = now.strftime("%Y%m%d%H%M%S")
    event = fields[8].split("^")[1] if "^" in fields[8] else ""
    rows = [
        (
            f"MSH|^~\\&|{fields[4]}|{fields[5]}|{fields[2]}|{fields[3]}|{sent}||ACK^{event}^ACK|A{control_id[:19]}|P|"
            f"{fields[11] or '2.5.1'}"
        ),
        f"MSA|{code}|{control_id}",
    ]
    if code != "AA":
        error = "207^Application internal error^HL70357" if code == "AE" else "200^Unsupported message type^HL70357"
        rows.append(f"ERR||{'PID^1^3' if code == 'AE' else 'MSH^1^9'}|{error}|E")
    return "".join(f"{row}\r" for row in rows).encode()


def _reply(acknowledgment: bytes, faults: Active) -> Reply | None:
    if "hl7-no-ack" in faults:
        return None
    delay_s = faults["hl7-slow-ack"]["delay_ms"] / 1000 if "hl7-slow-ack" in faults else 0.0
    if "hl7-ack-not-framed" in faults:
        return Reply(acknowledgment, delay_s)
    if "hl7-closes-mid-frame" in faults:
        return Reply(frame(acknowledgment)[: len(acknowledgment) // 2], delay_s, close=True)
    return Reply(frame(acknowledgment), delay_s)
