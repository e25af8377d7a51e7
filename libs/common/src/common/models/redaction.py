"""What may leave in a log, a span, an error or an event header: only what is on a list.

A deny-list forgets; this is an allow-list. A field that is not named here is dropped, and a value is kept only in the
shape its row allows (an id of ours, a code, a number, a fixed word), so that a patient's name can not ride along in a
field that usually holds something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+@{}\[\]\-]{0,119}")
_ROUTE: Final = re.compile(r"(/[a-z0-9_.:{}\-]*)+|unmatched")
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-z]{26}")

Scalar = str | int | float | bool

# name → pattern a text value must match whole; numbers and booleans pass too, but not as an id of ours: a number there
# would be somebody else's
ALLOWED: Final[dict[str, re.Pattern[str]]] = {
    **dict.fromkeys(
        (
            "tenant", "integration_id", "run_id", "message_id", "record_id", "alert_id", "exchange_id", "event_id",
            "webhook_id", "delivery_id", "dead_letter_id", "request_id", "replica", "schedule_id",
            "connection_id", "replay_id",
        ),
        _ID,
    ),
    **dict.fromkeys(
        (
            "service", "operation", "method", "status", "code", "fault", "retry", "channel", "credential",
            "kind", "direction", "mode", "resource", "state", "rule", "topic", "partition", "offset", "consumer",
            "generation", "count", "bytes", "duration_ms", "attempt", "version", "stage", "port", "error_type",
            "message_type", "trigger_event", "acknowledgment_code", "delay_ms", "signal", "fencing", "event_type",
            "pages", "records", "limit", "url_scheme", "dialect", "lane", "size_bytes", "tolerated", "setting",
            "clock_offset_ms", "dropped", "outcome", "environment",
        ),
        _CODE,
    ),
    "route": _ROUTE,
}  # fmt: skip


def project(fields: Mapping[str, object]) -> dict[str, Scalar]:
    """The fields that may leave: listed names, with numbers, booleans, or texts of the listed shape."""
    kept: dict[str, Scalar] = {}
    for name, value in fields.items():
        pattern = ALLOWED.get(name)
        if pattern is None:
            continue
        if isinstance(value, str):
            if pattern.fullmatch(value):
                kept[name] = value
        elif isinstance(value, (bool, int, float)) and pattern is not _ID and math.isfinite(value):
            kept[name] = value
    return kept
