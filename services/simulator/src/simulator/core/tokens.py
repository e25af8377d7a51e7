"""Opaque access tokens of the simulated authorization server."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

TOKENS_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token stands for: the client, the practice whose endpoint gave it, the scopes, the end of its life."""

    client_id: str
    practice: str
    scopes: tuple[str, ...]
    expires_at: datetime


@dataclass(slots=True)
class Tokens:
    """The tokens given out. `life_s` is the life of a new one."""

    life_s: int
    _by_text: dict[str, AccessToken] = field(default_factory=dict, repr=False)

    def issue(
        self,
        text: str,
        client_id: str,
        practice: str,
        scopes: tuple[str, ...],
        now: datetime,
        *,
        life_s: int | None = None,
    ) -> AccessToken:
        """Remember a new token; what has expired is forgotten, and the oldest when there are too many.

        `life_s`: its life where it is not the one of all.
        """
        if len(self._by_text) >= TOKENS_MAX:
            self._by_text = {key: token for key, token in self._by_text.items() if token.expires_at > now}
            while len(self._by_text) >= TOKENS_MAX:
                del self._by_text[next(iter(self._by_text))]
        token = AccessToken(client_id, practice, scopes, now + timedelta(seconds=life_s or self.life_s))
        self._by_text[text] = token
        return token

    def find(self, text: str, now: datetime) -> AccessToken | None:
        """The token of a text while it lives."""
        token = self._by_text.get(text)
        return token if token is not None and now < token.expires_at else None

    def revoke_client(self, client_id: str) -> None:
        """End every token of a client."""
        self._by_text = {key: token for key, token in self._by_text.items() if token.client_id != client_id}
