"""Senders whose messages belonged to nobody: who they are, and what to add so that they do (HL7 > Connections)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

SENDERS_MAX: Final = 500


@dataclass(slots=True)
class Unmatched:
    """One sender, as its MSH-3 and MSH-4 name it, from one address (without the port)."""

    tenant: str
    connection_id: str
    application: str
    facility: str
    address: str
    code: str
    count: int
    first_at: datetime
    last_at: datetime


class UnmatchedSenders:
    """Those of this process since it started; of more than 500 the longest silent are forgotten."""

    def __init__(self, senders_max: int = SENDERS_MAX) -> None:
        self._senders_max = senders_max
        self._rows: dict[tuple[str, str, str, str, str], Unmatched] = {}

    def note(
        self, tenant: str, connection_id: str, application: str, facility: str, peer: str, code: str, at: datetime
    ) -> None:
        """A message of it was refused."""
        address = peer.rpartition(":")[0]
        key = (tenant, connection_id, application, facility, address)
        row = self._rows.pop(key, None)
        if row is None:
            row = Unmatched(tenant, connection_id, application, facility, address, code, 0, at, at)
            if len(self._rows) >= self._senders_max:
                del self._rows[next(iter(self._rows))]
        row.count, row.code, row.last_at = row.count + 1, code, at
        self._rows[key] = row

    def of(self, tenant: str) -> list[Unmatched]:
        """A practice's, the latest first."""
        return [row for row in reversed(self._rows.values()) if row.tenant == tenant]
