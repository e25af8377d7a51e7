"""An exchange as the history keeps it: from the event's data, nothing added, nothing but metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.models.clock import instant_text, parse_instant


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """One API call, HL7 exchange or file: when, with whom, how it ended, how long, how large. No contents."""

    id: str
    tenant: str
    integration_id: str
    channel: str
    kind: str
    direction: str
    operation: str
    endpoint: str
    method: str
    status: int | None
    outcome: str
    error_code: str | None
    duration_ms: float
    request_bytes: int
    response_bytes: int
    clock_offset_ms: int | None
    retry_after_s: float | None
    started_at: datetime
    module: str
    trace_id: str

    def as_json(self) -> dict[str, Any]:
        """The exchange as the API shows it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "tenant"}
        return {**shown, "started_at": instant_text(self.started_at)}


@dataclass(frozen=True, slots=True)
class ExchangeFilter:
    """Which exchanges; None means any."""

    integration_id: str | None = None
    kind: str | None = None
    outcome: str | None = None
    operation: str | None = None
    after: datetime | None = None
    before: datetime | None = None


def exchange_of(tenant: str, data: Mapping[str, Any]) -> ExchangeRow:
    """The row of a `ps.exchange.recorded` event; raises KeyError or ValueError when a field is missing."""
    return ExchangeRow(
        id=data["exchange_id"],
        tenant=tenant,
        integration_id=data["integration_id"],
        channel=data["channel"],
        kind=data["kind"],
        direction=data["direction"],
        operation=data["operation"],
        endpoint=data["endpoint"],
        method=data.get("method") or "",
        status=data.get("status"),
        outcome=data["outcome"],
        error_code=data.get("error_code"),
        duration_ms=float(data["duration_ms"]),
        request_bytes=int(data.get("request_bytes") or 0),
        response_bytes=int(data.get("response_bytes") or 0),
        clock_offset_ms=data.get("clock_offset_ms"),
        retry_after_s=data.get("retry_after_s"),
        started_at=parse_instant(data["started_at"]),
        module=data.get("module") or "",
        trace_id=data.get("trace_id") or "",
    )
