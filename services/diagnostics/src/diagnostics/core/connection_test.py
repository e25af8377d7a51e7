"""The verdict of a connection test from its stages, and what each metadata answer means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from common.models.clock import instant_text

FHIR_VERSIONS: Final = frozenset({"4.0.0", "4.0.1", "4.3.0"})
_UNAUTHORIZED: Final = frozenset({401, 403})
_OK: Final = 200
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """One test of one channel: its stages in order, and the first stage that failed."""

    id: str
    tenant: str
    integration_id: str
    channel: str
    status: str
    stages: Sequence[Mapping[str, Any]]
    started_at: datetime
    duration_ms: float

    def as_json(self) -> dict[str, Any]:
        """The test as the API shows it; cause and next step are those of the first failed stage."""
        failed = next((stage for stage in self.stages if stage["status"] == "failed"), None)
        return {
            "id": self.id,
            "integration_id": self.integration_id,
            "channel": self.channel,
            "status": self.status,
            "failed_stage": failed["stage"] if failed else None,
            "likely_cause": failed["likely_cause"] if failed else None,
            "next_step": failed["next_step"] if failed else None,
            "stages": list(self.stages),
            "started_at": instant_text(self.started_at),
            "duration_ms": self.duration_ms,
        }


def verdict(stages: Sequence[Mapping[str, Any]]) -> str:
    """`failed` when any stage failed, else `passed`."""
    return "failed" if any(stage["status"] == "failed" for stage in stages) else "passed"


def metadata_code(status: int, fhir_version: str | None) -> str | None:
    """The error code of a metadata answer, None when it is a FHIR R4 capability statement (FHIR R4 §C.0.0)."""
    if status in _UNAUTHORIZED:
        return "peer.unauthorized" if status == min(_UNAUTHORIZED) else "peer.forbidden"
    if status >= _SERVER_ERROR:
        return "peer.unavailable"
    if status != _OK:
        return "peer.rejected"
    return None if fhir_version in FHIR_VERSIONS else "peer.unreadable"
