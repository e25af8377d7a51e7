"""Change records: what is to be changed at an integration, why, how it was tried, and how it went (Change Management of
the guide)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.integration import IntegrationState


class ChangeState(StrEnum):
    """Where a change stands."""

    PLANNED = "planned"
    APPLIED = "applied"
    VERIFIED = "verified"
    ROLLED_BACK = "rolled-back"
    WITHDRAWN = "withdrawn"


class ChangeStep(StrEnum):
    """What moves it."""

    APPLY = "apply"
    VERIFY = "verify"
    ROLL_BACK = "roll-back"
    WITHDRAW = "withdraw"


STATES: Final[Mapping[ChangeState, Mapping[ChangeStep, ChangeState]]] = {
    ChangeState.PLANNED: {
        ChangeStep.APPLY: ChangeState.APPLIED,
        ChangeStep.WITHDRAW: ChangeState.WITHDRAWN,
    },
    ChangeState.APPLIED: {
        ChangeStep.VERIFY: ChangeState.VERIFIED,
        ChangeStep.ROLL_BACK: ChangeState.ROLLED_BACK,
    },
    ChangeState.VERIFIED: {ChangeStep.ROLL_BACK: ChangeState.ROLLED_BACK},
    ChangeState.ROLLED_BACK: {},
    ChangeState.WITHDRAWN: {},
}


@dataclass(frozen=True, slots=True)
class Why:
    """What a caller says of a change: a sentence, and the change record that it belongs to."""

    reason: str | None = None
    change_id: str | None = None


_OPEN_TO_CHANGES: Final = frozenset({ChangeState.PLANNED, ChangeState.APPLIED})


def wants_change_record(body: Mapping[str, Any]) -> bool:
    """Whether the configuration with this body may be changed only under a change record. A draft is nobody's yet."""
    return bool(body.get("change_record_required")) and body["state"] != IntegrationState.DRAFT


def check_record(record: ChangeRecord | None, integration_id: str) -> None:
    """Raises SuiteError `change.required` when a change of the integration is not covered by the record."""
    if record is None:
        raise SuiteError("change.required")
    if record.integration_id != integration_id:
        raise SuiteError("change.required", "The change record is another system's.")
    if record.state not in _OPEN_TO_CHANGES:
        raise SuiteError("change.required", f"The change record is {record.state}.")


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """One change. `body`: what people wrote; `steps`: who moved it, when, with which result and at which version of the
    integration's configuration."""

    id: str
    tenant: str
    integration_id: str
    state: ChangeState
    version: int
    created_at: datetime
    updated_at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "integration_id": self.integration_id,
            "state": self.state.value,
            **self.body,
            "version": self.version,
            "created_at": instant_text(self.created_at),
            "updated_at": instant_text(self.updated_at),
        }

    def changed(self, now: datetime, parts: Mapping[str, Any]) -> ChangeRecord:
        """With other words; raises SuiteError `request.conflict` once it is over."""
        if not STATES[self.state]:
            raise SuiteError("request.conflict", f"A {self.state} change is over.")
        return replace(self, version=self.version + 1, updated_at=now, body={**self.body, **parts})

    def moved(self, step: ChangeStep, now: datetime, *, by: str, result: str, at_version: int) -> ChangeRecord:
        """After a step; raises SuiteError `request.conflict` for one that its state does not know."""
        following = STATES[self.state].get(step)
        if following is None:
            raise SuiteError("request.conflict", f"A {self.state} change cannot {step}.")
        entry: dict[str, Any] = {"step": step.value, "by": by, "at": instant_text(now), "result": result}
        entry |= {"configuration_version": at_version}
        steps = [*self.body.get("steps", ()), entry]
        body = {**self.body, "steps": steps}
        return replace(self, state=following, version=self.version + 1, updated_at=now, body=body)
