"""Who may do what: roles, and one row per route. The rows are data, and every route is tested against every role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """The roles a bearer token may carry in its `roles` claim."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    INTEGRATION_ADMIN = "integration-admin"
    DATA_STEWARD = "data-steward"
    PHI_REVIEWER = "phi-reviewer"
    AUDITOR = "auditor"
    TENANT_ADMIN = "tenant-admin"
    SERVICE = "service"
    PLATFORM_OPERATOR = "platform-operator"


# What a tenant's administrator holds: every role inside the tenant, but not the service's or the platform's own.
TENANT_ROLES: Final = frozenset(Role) - {Role.SERVICE, Role.PLATFORM_OPERATOR}

# States and metadata, no patient: everyone of the tenant, and services.
READ_STATE: Final = frozenset(
    {
        Role.VIEWER,
        Role.OPERATOR,
        Role.INTEGRATION_ADMIN,
        Role.DATA_STEWARD,
        Role.AUDITOR,
        Role.TENANT_ADMIN,
        Role.SERVICE,
    }
)
OPERATE: Final = frozenset({Role.OPERATOR, Role.INTEGRATION_ADMIN, Role.TENANT_ADMIN})
CONFIGURE: Final = frozenset({Role.INTEGRATION_ADMIN, Role.TENANT_ADMIN})
READ_RECORDS: Final = frozenset({Role.DATA_STEWARD, Role.PHI_REVIEWER, Role.TENANT_ADMIN, Role.SERVICE})
AUDIT: Final = frozenset({Role.AUDITOR, Role.TENANT_ADMIN})
SERVICES: Final = frozenset({Role.SERVICE})
PLATFORM: Final = frozenset({Role.PLATFORM_OPERATOR})
ANY_ROLE: Final = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Access:
    """One route and who may call it.

    `roles` empty means the route needs no bearer token of ours; `reason` then says why (a public key set, a stream
    opened by ticket, a vendor's own authentication).
    """

    method: str
    path: str
    roles: frozenset[Role]
    reason: str = ""
    while_away: bool = False
    """Also for people of a practice that is suspended or offboarded."""

    def __post_init__(self) -> None:
        if not self.roles and not self.reason:
            raise ValueError(f"{self.method} {self.path}: a route open to all needs a reason")


def expand(roles: Iterable[str]) -> frozenset[Role]:
    """The roles a token's claim stands for: tenant-admin holds every role of its tenant; unknown names are dropped."""
    known = {Role(name) for name in roles if name in set(Role)}
    if Role.TENANT_ADMIN in known:
        return frozenset(known | TENANT_ROLES)
    return frozenset(known)
