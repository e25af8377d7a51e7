"""Rights for a time: support access that a practice grants, and rights taken in an emergency (break-glass)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.models.access import TENANT_ROLES, Role
from common.models.clock import instant_text
from common.models.errors import SuiteError

SUPPORT_HOURS_MAX: Final = 30 * 24
BREAK_GLASS_MINUTES_MAX: Final = 60
SUPPORT_TOKEN_LIFE: Final = timedelta(minutes=5)
"""A support person asks again this often; what was revoked is refused at once all the same."""
EMERGENCY_ROLES: Final = TENANT_ROLES - {Role.TENANT_ADMIN, Role.AUDITOR}


class Kind(StrEnum):
    """Why somebody has it."""

    SUPPORT = "support"
    BREAK_GLASS = "break-glass"


@dataclass(frozen=True, slots=True)
class Access:
    """One access for a time. `subject`: who has it; `opened_by`: who granted it (break-glass: the same)."""

    id: str
    tenant: str
    kind: Kind
    subject: str
    role: Role
    reason: str
    opened_by: str
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    outcome: str | None = None
    comment: str | None = None

    def open_at(self, now: datetime) -> bool:
        """Whether it may be used."""
        return self.ended_at is None and now < self.expires_at

    def claims(self, now: datetime) -> dict[str, Any]:
        """What a token for it says of whom, with which role, and how long; raises SuiteError `auth.access-ended`."""
        if not self.open_at(now):
            raise SuiteError("auth.access-ended")
        support = self.kind is Kind.SUPPORT
        end = min(self.expires_at, now + SUPPORT_TOKEN_LIFE) if support else self.expires_at
        return {
            "sub": f"support:{self.subject}" if support else self.subject,
            "tenant": self.tenant,
            "roles": [self.role.value],
            "access": self.id,
            "iat": int(now.timestamp()),
            "exp": int(end.timestamp()),
        }

    def as_json(self, now: datetime) -> dict[str, Any]:
        """As the API shows it."""
        instants = {
            "opened_at": self.opened_at,
            "expires_at": self.expires_at,
            "ended_at": self.ended_at,
            "reviewed_at": self.reviewed_at,
        }
        return {
            "id": self.id,
            "tenant": self.tenant,
            "subject": self.subject,
            "role": self.role.value,
            "reason": self.reason,
            "opened_by": self.opened_by,
            "state": "open" if self.open_at(now) else "ended",
            **{name: instant_text(value) if value else None for name, value in instants.items()},
            "reviewed_by": self.reviewed_by,
            "outcome": self.outcome,
            "comment": self.comment,
        }
