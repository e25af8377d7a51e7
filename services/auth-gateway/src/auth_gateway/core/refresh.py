"""When a token is asked for again, and when asking must wait.

A token is used until a share of its life is over, then one replica asks for the next one; while the provider is away
the
old one is used to its end. A refusal (`invalid_client`, …) stops asking for a while that doubles up to a minute, so
that a
dead credential is not hammered; a person's Test Connection or Refresh Token always asks.

A refresh token that a provider rotates can be lost: it gives out the new one, and we end before it is stored. So a
request with it is noted before it is made. Whoever finds the note of a request that nobody came back from tries the
same token again, at most three times; a provider that answers `invalid_grant` is not asked again at all. Both end in
`reconnect`: a person grants anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from common.models.integration import Vendor

BACKOFF_S_MIN: Final = 1.0
BACKOFF_S_MAX: Final = 60.0
USABLE_MARGIN: Final = timedelta(seconds=5)
UNANSWERED_MAX: Final = 3
"""Requests with one refresh token that nobody came back from."""


@dataclass(frozen=True, slots=True)
class TokenTiming:
    """When tokens are asked for again where a credential says nothing: after `share` of their life, or by vendor
    so many seconds before they end, and how long they are used at most."""

    share: float
    margins_s: Mapping[Vendor, int] = field(default_factory=dict)
    lives_s_max: Mapping[Vendor, int] = field(default_factory=dict)

    def margin_s(self, vendor: Vendor) -> int | None:
        """Seconds before the end; None: by share."""
        return self.margins_s.get(vendor)

    def life_s_max(self, vendor: Vendor) -> int | None:
        """Seconds; None: as the provider says."""
        return self.lives_s_max.get(vendor)


class Decision(StrEnum):
    """What to do with a request for a token."""

    USE = "use"
    REFRESH_IF_FREE = "refresh-if-free"
    REFRESH = "refresh"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TokenState:
    """A credential's token as it stands. `failures` counts in a row; `retry_at` is when asking is allowed again."""

    obtained_at: datetime | None = None
    expires_at: datetime | None = None
    failures: int = 0
    retry_at: datetime | None = None
    error_code: str | None = None
    token_sha256: str | None = field(default=None, repr=False)
    reconnect: bool = False
    """The grant is dead: only a person can mend it."""
    unanswered: int = 0
    """Requests with the refresh token in hand that were begun and not ended."""


def decide(
    state: TokenState,
    now: datetime,
    *,
    share: float,
    jitter: float,
    rejected_sha256: str | None = None,
    margin_s: float | None = None,
) -> Decision:
    """The decision for a caller. `jitter` in [0, 1) moves the moment of refreshing up to a tenth of the life earlier;
    `margin_s` sets it so long before the expiry instead of after a share of the life."""
    waiting = state.reconnect or (state.retry_at is not None and now < state.retry_at)
    usable = state.expires_at is not None and now < state.expires_at - USABLE_MARGIN
    if usable and rejected_sha256 is not None and rejected_sha256 == state.token_sha256:
        return Decision.REFUSE if waiting else Decision.REFRESH
    if not usable:
        return Decision.REFUSE if waiting else Decision.REFRESH
    assert state.expires_at is not None
    assert state.obtained_at is not None
    life = state.expires_at - state.obtained_at
    due = state.obtained_at + life * (share - jitter / 10)
    if margin_s is not None:
        # Never before a tenth of the life: a margin longer than the life would ask for ever.
        due = max(state.expires_at - timedelta(seconds=margin_s) - life * jitter / 10, state.obtained_at + life / 10)
    if now >= due and not waiting:
        return Decision.REFRESH_IF_FREE
    return Decision.USE


def after_failure(
    state: TokenState,
    error_code: str,
    now: datetime,
    *,
    retry_after_s: float | None = None,
    reconnect: bool = False,
) -> TokenState:
    """The state after a failed request: the old token stays, the next attempt waits (for a person, at `reconnect`)."""
    failures = state.failures + 1
    pause_s = max(min(BACKOFF_S_MIN * 2.0 ** (failures - 1), BACKOFF_S_MAX), min(retry_after_s or 0.0, BACKOFF_S_MAX))
    return replace(
        state,
        failures=failures,
        retry_at=now + timedelta(seconds=pause_s),
        error_code=error_code,
        reconnect=reconnect,
        unanswered=0,
    )
