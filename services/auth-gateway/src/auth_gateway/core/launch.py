"""A SMART launch as it is kept: names and findings, never a value that the EHR sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common.models.clock import instant_text
from common.models.integration import Vendor


@dataclass(frozen=True, slots=True)
class LaunchTarget:
    """An integration that a FHIR base belongs to."""

    tenant: str
    integration_id: str
    vendor: Vendor


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch as it is kept."""

    id: str
    tenant: str
    integration_id: str
    kind: str
    parameters: Sequence[str]
    launched_at: datetime
    findings: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """The launch as the API lists it."""
        return {
            "id": self.id,
            "integration_id": self.integration_id,
            "kind": self.kind,
            "parameters": list(self.parameters),
            "findings": list(self.findings),
            "launched_at": instant_text(self.launched_at),
        }
