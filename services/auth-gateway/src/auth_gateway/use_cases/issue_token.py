"""Token exchange (RFC 8693): a service's or the local operator's assertion becomes a short-lived token for one
tenant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from common.models.access import Role
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import ASSERTION_LIFE_S, AUDIENCE

OPERATOR: Final = "operator:local"
OPERATOR_SCOPES: Final = frozenset({Role.TENANT_ADMIN, Role.PLATFORM_OPERATOR})
OPERATOR_LIFE_S_MAX: Final = 366 * 24 * 60 * 60

Verify = Callable[[str, datetime], tuple[str, str]]
"""(assertion, now) → (subject, jti); raises SuiteError `auth.assertion-invalid`."""


class IssuerStore(Protocol):
    """Where tokens are signed and used assertions remembered."""

    async def exists(self, tenant: str) -> bool:
        """Whether there is such a tenant."""

    async def use_assertion(self, jti: str, expires_at: datetime) -> bool:
        """False when it was used before."""

    async def issue(self, claims: dict[str, Any]) -> str:
        """A signed token."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the form of an exchange says."""

    assertion: str
    tenant: str
    scope: str
    lifetime_s: int | None


async def issue_token(
    exchange: Exchange, *, store: IssuerStore, verify: Verify, issuer: str, service_life_s: int, clock: Clock, ids: Ids
) -> dict[str, Any]:
    """The answer of RFC 8693 §2.2.1. Raises SuiteError `auth.assertion-invalid` or `tenant.not-found`."""
    now = clock.now()
    subject, jti = verify(exchange.assertion, now)
    role, life_s = _grant(subject, exchange, service_life_s)
    if not await store.use_assertion(jti, now + timedelta(seconds=2 * ASSERTION_LIFE_S)):
        raise SuiteError("auth.assertion-invalid", "The assertion was used before.")
    if not await store.exists(exchange.tenant):
        raise SuiteError("tenant.not-found")
    issued = int(now.timestamp())
    token = await store.issue(
        {
            "iss": issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": exchange.tenant,
            "roles": [role],
            "iat": issued,
            "exp": issued + life_s,
            "jti": ids.new("jti"),
        }
    )
    return {
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_type": "Bearer",
        "expires_in": life_s,
        "scope": role,
    }


def _grant(subject: str, exchange: Exchange, service_life_s: int) -> tuple[str, int]:
    """(role, life in s) that a subject may have; raises SuiteError `auth.assertion-invalid`."""
    if subject.startswith("service:") and not exchange.scope:
        return Role.SERVICE.value, min(exchange.lifetime_s or service_life_s, service_life_s)
    if subject == OPERATOR and exchange.scope in OPERATOR_SCOPES:
        return exchange.scope, min(exchange.lifetime_s or service_life_s, OPERATOR_LIFE_S_MAX)
    raise SuiteError("auth.assertion-invalid", "The subject may not have this scope.")
