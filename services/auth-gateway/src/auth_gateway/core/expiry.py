"""What of a credential comes to an end, when, and when that is announced.

Rows of `KINDS` say where a date comes from: what a person stated goes first, then what can be read (a certificate's
notAfter, RFC 5280 §4.1.2.5), then what is counted from an instant that is known (a password of 90 days from the day it
was entered). A kind whose date nobody knows is listed without one: it is the one that surprises.

An end is announced 30, 14, 7 and 1 days ahead, each once. One that is entered late is announced once, with the nearest
of the marks it has passed, not with all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cryptography import x509

NOTICE_DAYS: Final = (30, 14, 7, 1)
_UNITY_SERVICE_DAYS: Final = 182  # "credentials expire every 6 months": Allscripts' developer programme
_UNITY_USER_DAYS: Final = 90


class Source(StrEnum):
    """Where a date comes from."""

    STATED = "stated"
    CERTIFICATE = "certificate"
    COUNTED = "counted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person recorded about one kind of a credential: the date itself, or how many days it lives."""

    expires_at: datetime | None = None
    life_days: int | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """What of a credential the watch looks at; no secret. `options`: what its method needs besides (certificate)."""

    tenant: str
    integration_id: str
    name: str
    method: str
    vendor: str
    secret_expires_at: datetime | None
    secret_changed_at: datetime | None
    token_obtained_at: datetime | None
    grant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """The last notice given of one end."""

    expires_at: datetime
    days: int


@dataclass(frozen=True, slots=True)
class WatchedCredential:
    """A credential with what persons recorded of it and the notices given, by kind."""

    watched: Watched
    stated: Mapping[str, Statement] = field(default_factory=dict)
    notices: Mapping[str, Notice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that ends. `applies`: to which credentials; `read` and `counted_from`: where its date comes from."""

    name: str
    title: str
    next_step: str
    applies: Callable[[Watched], bool]
    read: Callable[[Watched], datetime | None] | None = None
    read_source: Source = Source.STATED
    counted_from: Callable[[Watched], datetime | None] | None = None
    life_days: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """One end: of which kind, when (None: nobody knows), and from where that is known."""

    kind: Kind
    expires_at: datetime | None
    source: Source

    def days_left(self, now: datetime) -> int | None:
        """Whole days, rounded down: 0 on the last day, negative after it."""
        return None if self.expires_at is None else (self.expires_at - now) // timedelta(days=1)


def certificate_end(pem: object) -> datetime | None:
    """The earliest notAfter of the certificates in a PEM text; None when there is none that can be read."""
    if not isinstance(pem, str):
        return None
    try:
        return min(found.not_valid_after_utc for found in x509.load_pem_x509_certificates(pem.encode()))
    except ValueError:
        return None


def _method_of(*names: str) -> Callable[[Watched], bool]:
    return lambda watched: watched.method in names


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "client-secret", "Client secret or password", "Ask the vendor for a new secret and put it in.",
            _method_of("client_secret_basic", "client_secret_post", "api_key", "http_basic", "sftp_password"),
            read=lambda watched: watched.secret_expires_at,
        ),
        Kind(
            "certificate", "Certificate", "Have a new certificate issued, give it to the vendor, then put it in.",
            lambda watched: bool(watched.options.get("certificate")),
            read=lambda watched: certificate_end(watched.options.get("certificate")), read_source=Source.CERTIFICATE,
        ),
        Kind(
            "epic-app", "Epic app credentials", "Renew the app's credentials in Epic's developer portal.",
            lambda watched: watched.vendor == "epic" and watched.method == "private_key_jwt",
            read=lambda watched: watched.secret_expires_at,
        ),
        Kind(
            "unity-service", "Unity service password (6 months)",
            "Renew the service account at Allscripts, then put its password in.",
            _method_of("unity"), read=lambda watched: watched.secret_expires_at,
            counted_from=lambda watched: watched.secret_changed_at, life_days=_UNITY_SERVICE_DAYS,
        ),
        Kind(
            "unity-user", "Unity user password (90 days)",
            "Have the user's password changed in the EHR, then put it in.",
            _method_of("unity"),
            counted_from=lambda watched: watched.secret_changed_at, life_days=_UNITY_USER_DAYS,
        ),
        Kind(
            "refresh-token", "Refresh token that lies idle", "Use the credential, or authorize it again.",
            lambda watched: watched.grant == "authorization_code",
            counted_from=lambda watched: watched.token_obtained_at,
        ),
    )
}  # fmt: skip


def ends_of(watched: Watched, stated: Mapping[str, Statement]) -> Iterator[End]:
    """The ends of a credential, one per kind that applies to it or that a person recorded."""
    for kind in KINDS.values():
        statement = stated.get(kind.name)
        if statement is not None or kind.applies(watched):
            yield _end(kind, watched, statement or Statement())


def _end(kind: Kind, watched: Watched, statement: Statement) -> End:
    if statement.expires_at is not None:
        return End(kind, statement.expires_at, Source.STATED)
    read = kind.read(watched) if kind.read is not None else None
    if read is not None:
        return End(kind, read.astimezone(UTC), kind.read_source)
    start = kind.counted_from(watched) if kind.counted_from is not None else None
    days = statement.life_days or kind.life_days
    if start is not None and days is not None:
        return End(kind, start + timedelta(days=days), Source.COUNTED)
    return End(kind, None, Source.UNKNOWN)


def notice_due(expires_at: datetime | None, noticed_days: int | None, now: datetime) -> int | None:
    """The mark in days to announce now, None when there is nothing new to say.

    `noticed_days` is the mark announced last for this end. A secret that has ended already counts as the last mark.
    """
    if expires_at is None:
        return None
    passed = [days for days in NOTICE_DAYS if now >= expires_at - timedelta(days=days)]
    if not passed or (noticed_days is not None and min(passed) >= noticed_days):
        return None
    return min(passed)
