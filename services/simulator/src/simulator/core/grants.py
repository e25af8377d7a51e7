"""What persons granted to applications: codes that are used once, refresh tokens that rotate (RFC 6749 §4.1, §6,
RFC 7636). A refresh token that is used twice ends its whole family, as the security profiles ask for (RFC 9700 §4.14).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

CODE_LIFE: Final = timedelta(seconds=60)
GRANTS_MAX: Final = 10_000
OFFLINE: Final = "offline_access"


@dataclass(frozen=True, slots=True)
class Grant:
    """Whom and what for; `context` is what the launch had in context (patient, encounter, …)."""

    client_id: str
    practice: str
    scopes: tuple[str, ...]
    redirect_uri: str
    challenge: str
    context: Mapping[str, str] = field(repr=False)
    ends_at: datetime
    family: str = ""
    used: bool = False


class InvalidGrantError(Exception):
    """The code or refresh token is not, or no more, good for this client."""


class Grants:
    """Codes, refresh tokens and launches of the simulated authorization server; they end with the process."""

    def __init__(self) -> None:
        self._codes: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}
        self._launches: dict[str, tuple[str, Mapping[str, str]]] = {}

    def launch(self, value: str, practice: str, context: Mapping[str, str]) -> None:
        """A launch from the chart, with what is in context."""
        _bounded(self._launches)
        self._launches[value] = (practice, context)

    def launched(self, value: str, practice: str) -> Mapping[str, str] | None:
        """The context of a launch of this practice; a launch is used once."""
        held = self._launches.get(value)
        if held is None or held[0] != practice:
            return None
        return self._launches.pop(value)[1]

    def authorize(self, code: str, grant: Grant) -> None:
        """A person agreed."""
        _bounded(self._codes)
        self._codes[code] = grant

    def exchange(self, code: str, client_id: str, redirect_uri: str, verifier: str, now: datetime) -> Grant:
        """The grant of a code; raises InvalidGrantError. A code is good once, whatever comes of it."""
        grant = self._codes.pop(code, None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("utf-8", "replace")).digest()).rstrip(b"=")
        if (
            grant is None
            or grant.ends_at <= now
            or grant.client_id != client_id
            or grant.redirect_uri != redirect_uri
            or not hmac.compare_digest(proof.decode(), grant.challenge)
        ):
            raise InvalidGrantError
        return grant

    def keep(self, token: str, grant: Grant, family: str) -> None:
        """A refresh token for a grant."""
        _bounded(self._refresh)
        self._refresh[token] = replace(grant, family=family, used=False)

    def refresh(self, token: str, client_id: str, new_token: Callable[[], str]) -> tuple[Grant, str]:
        """(grant, next refresh token); raises InvalidGrantError. One that was used before ends its family."""
        grant = self._refresh.get(token)
        if grant is None or grant.client_id != client_id:
            raise InvalidGrantError
        if grant.used:
            self.end(token)
            raise InvalidGrantError
        self._refresh[token] = replace(grant, used=True)
        following = new_token()
        self.keep(following, grant, grant.family)
        return grant, following

    def end(self, token: str) -> None:
        """End the family of a refresh token."""
        grant = self._refresh.get(token)
        if grant is not None:
            self._refresh = {one: held for one, held in self._refresh.items() if held.family != grant.family}


def _bounded(held: dict[str, object] | dict[str, Grant] | dict[str, tuple[str, Mapping[str, str]]]) -> None:
    while len(held) >= GRANTS_MAX:
        del held[next(iter(held))]
