"""Unity's sessions: a token for the service user, a user of the EHR logged in with it, and its end by idling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

SESSIONS_MAX: Final = 10_000
IDLE_LIFE_S_DEFAULT: Final = 20 * 60


@dataclass(frozen=True, slots=True)
class UnitySession:
    """What a token stands for. `user` empty: GetUserAuthentication has not succeeded yet."""

    last_used_at: datetime
    user: str = ""


@dataclass(slots=True)
class UnitySessions:
    """The sessions of one server; one that idled for `idle_life_s` has ended."""

    idle_life_s: int = IDLE_LIFE_S_DEFAULT
    _by_token: dict[str, UnitySession] = field(default_factory=dict, repr=False)

    def open(self, token: str, now: datetime) -> None:
        """Begin a session; the one opened first is given up over the bound."""
        while len(self._by_token) >= SESSIONS_MAX:
            del self._by_token[next(iter(self._by_token))]
        self._by_token[token] = UnitySession(now)

    def use(self, token: str, now: datetime) -> UnitySession | None:
        """The session of a token, its idle time begun anew; None when it idled out, was retired or never was."""
        session = self._by_token.get(token)
        if session is None:
            return None
        if now - session.last_used_at >= timedelta(seconds=self.idle_life_s):
            del self._by_token[token]
            return None
        used = self._by_token[token] = replace(session, last_used_at=now)
        return used

    def log_in(self, token: str, user: str) -> None:
        """The EHR user of a session that is open."""
        self._by_token[token] = replace(self._by_token[token], user=user)

    def retire(self, token: str) -> bool:
        """End a session; whether there was one."""
        return self._by_token.pop(token, None) is not None

    def __len__(self) -> int:
        return len(self._by_token)
