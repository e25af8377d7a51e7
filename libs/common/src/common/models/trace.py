"""Trace context where the carrier has no room for it.

An MLLP frame has no headers. Both ends therefore derive the trace id (W3C Trace Context, 16 bytes) from what the
message itself says (MSH-3, MSH-4, MSH-7, MSH-10), so that sender and receiver, and a message sent again, meet in one
trace without a byte of the message being touched.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def mllp_trace_id(application: str, facility: str, timestamp: str, control_id: str) -> str:
    """The trace id (32 hex digits) of an HL7 message from MSH-3, MSH-4, MSH-7 and MSH-10."""
    text = f"{application}\x1f{facility}\x1f{timestamp}\x1f{control_id}"
    return hashlib.sha256(b"mllp\x00" + text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def traceparent(trace_id: str, span_id: str, *, sampled: bool = True) -> str:
    """The `traceparent` header of a trace and span id."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def parse_traceparent(text: str) -> tuple[str, str, bool] | None:
    """(trace id, span id, sampled), None when the text is no valid version-00 traceparent."""
    match = _TRACEPARENT.fullmatch(text)
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return None
    return match[1], match[2], bool(int(match[3], 16) & 1)
