"""The vendor's register of client applications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

CLIENTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Client:
    """One registered application: its keys (by URL or given) or its secret, its scopes, and its end.

    `owner` is the tenant of the suite that registered it. `last_refusal` is what a real vendor keeps to itself: why the
    last token request failed.
    """

    client_id: str
    owner: str
    jwks_url: str | None
    jwks: Mapping[str, Any] | None = field(repr=False)
    scopes: tuple[str, ...]
    enabled: bool
    expires_at: datetime | None
    registered_at: datetime
    secret: str | None = field(default=None, repr=False)
    redirect_uris: tuple[str, ...] = ()
    last_refusal: str | None = None
    last_refused_at: datetime | None = None
    last_token_at: datetime | None = None


class ClientTakenError(Exception):
    """Another tenant registered this client id."""


class RegisterFullError(Exception):
    """The register holds as many clients as it may."""


class Clients:
    """The register; a client belongs to the tenant that registered it."""

    def __init__(self) -> None:
        self._by_id: dict[str, Client] = {}

    def put(self, client: Client) -> None:
        """Register or change. Raises ClientTakenError, RegisterFullError."""
        present = self._by_id.get(client.client_id)
        if present is not None and present.owner != client.owner:
            raise ClientTakenError
        if present is None and len(self._by_id) >= CLIENTS_MAX:
            raise RegisterFullError
        self._by_id[client.client_id] = client

    def find(self, client_id: str) -> Client | None:
        """The client of an id, whoever owns it: for the token endpoint."""
        return self._by_id.get(client_id)

    def of(self, owner: str, client_id: str) -> Client | None:
        """The client of an id when this tenant owns it."""
        client = self._by_id.get(client_id)
        return client if client is not None and client.owner == owner else None

    def owned(self, owner: str) -> Iterator[Client]:
        """Every client of a tenant, by id."""
        return (self._by_id[key] for key in sorted(self._by_id) if self._by_id[key].owner == owner)

    def remove(self, client: Client) -> None:
        """Take a client off the register."""
        self._by_id.pop(client.client_id, None)

    def note_refusal(self, client_id: str, reason: str, at: datetime) -> None:
        """Remember why a token was refused."""
        client = self._by_id.get(client_id)
        if client is not None:
            self._by_id[client_id] = replace(client, last_refusal=reason, last_refused_at=at)

    def note_token(self, client_id: str, at: datetime) -> None:
        """Remember that a token was given."""
        client = self._by_id.get(client_id)
        if client is not None:
            self._by_id[client_id] = replace(client, last_token_at=at)
