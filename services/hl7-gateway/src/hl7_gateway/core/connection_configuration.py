"""A connection's configuration: the document, and which documents make sense.

The document is strict: a name it does not know, a number written as text, a value out of range are refused with the
place they stand at, so that a misspelt setting never means "the default". What one field alone cannot tell (a sender
with the listener's settings, a certificate without its key) is found by `findings`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from hl7v2 import charset

PEM_CHARACTERS_MAX: Final = 65_536
STANDARD_PROFILE: Final = "standard"
"""The profile that is always there: what the standard itself says."""

_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True)

Pem = Annotated[str, Field(max_length=PEM_CHARACTERS_MAX)]


class Tls(BaseModel):
    """`tls`: the server shows a certificate; `mutual`: the client does too."""

    model_config = _STRICT

    mode: Literal["off", "tls", "mutual"] = "off"
    certificate_pem: Pem | None = Field(
        default=None, description="our certificate, its chain behind it; sealed; left out: kept; empty: removed"
    )
    private_key_pem: SecretStr | None = Field(
        default=None,
        max_length=PEM_CHARACTERS_MAX,
        description="its private key, unencrypted PEM; sealed, never shown; left out: kept; empty: removed",
    )
    ca_pem: Pem | None = Field(
        default=None,
        description="who may have issued the other side's certificate; left out: kept; empty: removed "
        "(a sender then trusts this system's authorities)",
    )
    server_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="sender: the name the receiver's certificate is for"
    )


class AllowedPeer(BaseModel):
    """Who may connect (everything given must hold), and as which sender it may then speak."""

    model_config = _STRICT

    network: str | None = Field(default=None, max_length=50, description="address or network, e.g. 10.1.0.0/16")
    certificate_subject: str | None = Field(
        default=None, min_length=1, max_length=500, description="mutual TLS: the common name of its certificate"
    )
    certificate_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="mutual TLS: the fingerprint of its certificate"
    )
    application: str = Field(default="", max_length=227, description="MSH-3 it must send with; empty: any")
    facility: str = Field(default="", max_length=227, description="MSH-4 it must send with; empty: any")


class Validation(BaseModel):
    """When received messages are validated: before the acknowledgement (AE or AR with ERR), after it, or not."""

    model_config = _STRICT

    when: Literal["before", "after", "off"] = "off"
    profile: str = Field(default=STANDARD_PROFILE, min_length=1, max_length=100)


class Listening(BaseModel):
    """What only a listener has."""

    model_config = _STRICT

    allowed_peers: list[AllowedPeer] = Field(
        default_factory=list, max_length=500, description="empty: whoever reaches the port"
    )
    connections_max: int = Field(default=1000, ge=1, le=100_000)
    connections_per_peer_max: int = Field(default=100, ge=1, le=100_000, description="open at once from one address")
    frame_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="first byte to last byte of a message")
    validation: Validation = Field(default_factory=Validation)
    duplicate_rule: Literal["sender-control-id-body", "sender-control-id", "off"] = Field(
        default="sender-control-id-body", description="what makes a message the repetition of another"
    )


class Policy(BaseModel):
    """What becomes of a message that was not accepted. `retry` parks it once the retries are used up."""

    model_config = _STRICT

    action: Literal["retry", "park", "drop"]
    retries: int | None = Field(default=None, ge=0, le=10_000, description="retry: how often; null: without end")


class Backoff(BaseModel):
    """Pauses between tries: doubled each time, with jitter."""

    model_config = _STRICT

    first_ms: int = Field(default=1_000, ge=10, le=600_000)
    max_ms: int = Field(default=60_000, ge=10, le=3_600_000)


class Sending(BaseModel):
    """What only a sender has."""

    model_config = _STRICT

    destination: str = Field(
        default="hl7-out", pattern="^[a-z][a-z0-9-]{0,62}$", description="what events and exchanges call it (channel)"
    )
    connect_timeout_ms: int = Field(default=5_000, ge=50, le=60_000)
    ack_timeout_ms: int = Field(default=30_000, ge=50, le=600_000, description="message sent to acknowledgement read")
    in_flight_max: int = Field(
        default=1, ge=1, le=64, description="messages that wait for their acknowledgement; never two of one key"
    )
    backoff: Backoff = Field(default_factory=Backoff)
    on_error: Policy = Field(default_factory=lambda: Policy(action="retry", retries=3), description="AE or CE")
    on_reject: Policy = Field(default_factory=lambda: Policy(action="park"), description="AR or CR")
    on_no_answer: Policy = Field(
        default_factory=lambda: Policy(action="retry"), description="time-out, closed before the acknowledgement"
    )
    parked_holds_key: bool = Field(
        default=True, description="later messages of a parked message's key wait until it is retried or discarded"
    )
    queue_messages_max: int = Field(default=1_000_000, ge=1, le=100_000_000, description="one more is refused")


class ConnectionDocument(BaseModel):
    """One connection as people configure it (HL7 > Connections)."""

    model_config = _STRICT

    name: str = Field(min_length=1, max_length=200, description="how people call it; unique in the practice")
    direction: Literal["listener", "sender"]
    integration_id: str = Field(max_length=40, description="the PMS system it belongs to")
    host: str = Field(
        min_length=1, max_length=253, description="listener: the address it listens on; sender: where it connects to"
    )
    port: int = Field(ge=1, le=65535)
    tls: Tls = Field(default_factory=Tls)
    keep_alive: bool = Field(default=True, description="TCP keep-alive, so that a dead peer is noticed")
    idle_timeout_s: float = Field(
        default=3600.0, gt=0, le=7 * 24 * 3600, description="closed when nothing came so long"
    )
    encoding: str | None = Field(
        default=None,
        max_length=40,
        description="a value of MSH-18. listener: what a message is in that does not say; sender: what messages are "
        "written in; null: as they are",
    )
    acknowledgment_mode: Literal["original", "enhanced", "auto"] = Field(
        default="auto", description="auto: as MSH-15 and MSH-16 of each message say"
    )
    ordering_key: Literal["patient", "connection", "none"] = Field(
        default="patient", description="messages of one key keep their order"
    )
    frame_bytes_max: int = Field(default=16 * 1024 * 1024, ge=1024, le=1024**3)
    listening: Listening | None = Field(default=None, description="listener only; left out: the defaults")
    sending: Sending | None = Field(default=None, description="sender only; left out: the defaults")

    def completed(self) -> ConnectionDocument:
        """With the section of its direction, and without what is sealed."""
        mine = {"listener": ("listening", Listening), "sender": ("sending", Sending)}[self.direction]
        sealed = {"certificate_pem": None, "private_key_pem": None, "ca_pem": None}
        filled = {mine[0]: getattr(self, mine[0]) or mine[1]()}
        return self.model_copy(update={**filled, "tls": self.tls.model_copy(update=sealed)})

    def as_json(self) -> dict[str, Any]:
        """What is stored and shown: everything but what is sealed."""
        return self.model_dump(
            mode="json", exclude={"tls": {"certificate_pem", "private_key_pem", "ca_pem"}}, exclude_none=False
        )


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The PEM texts of a connection, unsealed."""

    certificate_pem: str = ""
    private_key_pem: str = field(default="", repr=False)
    ca_pem: str = ""


def material_after(tls: Tls, kept: TlsMaterial) -> TlsMaterial:
    """What a connection has after a change: a text that is left out is kept, an empty one removed."""
    if tls.mode == "off":
        return TlsMaterial()
    key = kept.private_key_pem if tls.private_key_pem is None else tls.private_key_pem.get_secret_value()
    return TlsMaterial(
        kept.certificate_pem if tls.certificate_pem is None else tls.certificate_pem,
        key,
        kept.ca_pem if tls.ca_pem is None else tls.ca_pem,
    )


def findings(document: ConnectionDocument, material: TlsMaterial, profiles: frozenset[str]) -> list[FieldError]:
    """What is wrong with a document beyond single fields; `profiles` are the names of those that can be used."""
    found = [*_host(document), *_sections(document), *_tls(document, material)]
    if document.encoding is not None and charset.codec_of(document.encoding) is None:
        found.append(FieldError("/encoding", "unknown", "Expected a value of HL7 table 0211, e.g. UNICODE UTF-8."))
    if document.listening is not None:
        found += _listening(document, document.listening, profiles)
    if document.sending is not None:
        found += _sending(document, document.sending)
    return found


def check(document: ConnectionDocument, material: TlsMaterial, profiles: frozenset[str], *, below: str = "") -> None:
    """Raises SuiteError `request.invalid` naming every field that is wrong; `below` is where the document stands."""
    found = findings(document, material, profiles)
    if found:
        fields = [FieldError(f"{below}{one.pointer}", one.code, one.detail) for one in found]
        raise SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)


def _host(document: ConnectionDocument) -> Iterator[FieldError]:
    if document.direction == "listener":
        if not _is_address(document.host):
            yield FieldError("/host", "address", "A listener needs an IP address of this machine; 0.0.0.0 is all.")
    elif not _is_address(document.host) and not _HOST.fullmatch(document.host):
        yield FieldError("/host", "host", "Expected a host name or an IP address.")


def _sections(document: ConnectionDocument) -> Iterator[FieldError]:
    other = "sending" if document.direction == "listener" else "listening"
    if getattr(document, other) is not None:
        yield FieldError(f"/{other}", "not-used", f"A {document.direction} has no such settings.")


def _tls(document: ConnectionDocument, material: TlsMaterial) -> Iterator[FieldError]:
    tls, listener = document.tls, document.direction == "listener"
    if tls.mode == "off":
        for name in ("certificate_pem", "private_key_pem", "ca_pem", "server_name"):
            if getattr(tls, name) is not None:
                yield FieldError(f"/tls/{name}", "not-used", "TLS is off.")
        return
    if listener and tls.server_name is not None:
        yield FieldError("/tls/server_name", "not-used", "Only a sender checks a server's name.")
    needs_own = listener or tls.mode == "mutual"
    for name in ("certificate_pem", "private_key_pem"):
        if needs_own and not getattr(material, name):
            yield FieldError(f"/tls/{name}", "missing", f"TLS {tls.mode} of a {document.direction} needs it.")
    if bool(material.certificate_pem) != bool(material.private_key_pem) and not needs_own:
        yield FieldError("/tls", "half", "A certificate and its private key come together.")
    if listener and tls.mode == "mutual" and not material.ca_pem:
        yield FieldError(
            "/tls/ca_pem", "missing", "Mutual TLS of a listener needs who issued its clients' certificates."
        )


def _listening(document: ConnectionDocument, listening: Listening, profiles: frozenset[str]) -> Iterator[FieldError]:
    if listening.validation.profile not in profiles:
        known = ", ".join(sorted(profiles))
        detail = f"Store it first (POST /hl7/v1/profiles), or use a built-in one: {known}."
        yield FieldError("/listening/validation/profile", "unknown", detail)
    for index, peer in enumerate(listening.allowed_peers):
        place = f"/listening/allowed_peers/{index}"
        if peer.network is not None and not _is_network(peer.network):
            yield FieldError(f"{place}/network", "network", "Expected an address or a network, e.g. 10.1.0.0/16.")
        by_certificate = peer.certificate_subject is not None or peer.certificate_sha256 is not None
        if peer.network is None and not by_certificate:
            yield FieldError(place, "empty", "Name a network, a certificate, or both.")
        if by_certificate and document.tls.mode != "mutual":
            yield FieldError(place, "not-used", "A certificate is only seen with tls.mode mutual.")


def _sending(document: ConnectionDocument, sending: Sending) -> Iterator[FieldError]:
    if sending.backoff.max_ms < sending.backoff.first_ms:
        yield FieldError("/sending/backoff/max_ms", "too-small", "It is less than first_ms.")
    for name in ("on_error", "on_reject", "on_no_answer"):
        policy: Policy = getattr(sending, name)
        if policy.action != "retry" and policy.retries is not None:
            yield FieldError(f"/sending/{name}/retries", "not-used", f"Nothing is retried with {policy.action}.")
    if document.ordering_key == "connection" and sending.in_flight_max > 1:
        yield FieldError(
            "/sending/in_flight_max", "contradiction", "With ordering_key connection only one can be in flight."
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


class ConnectionState(StrEnum):
    """`paused`: a sender keeps taking messages into its queue; `disabled`: it takes none."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Step(StrEnum):
    """What moves a connection's state."""

    PAUSE = "pause"
    RESUME = "resume"
    DISABLE = "disable"


STATES: Final[dict[ConnectionState, dict[Step, ConnectionState]]] = {
    ConnectionState.ACTIVE: {
        Step.PAUSE: ConnectionState.PAUSED,
        Step.RESUME: ConnectionState.ACTIVE,
        Step.DISABLE: ConnectionState.DISABLED,
    },
    ConnectionState.PAUSED: {
        Step.PAUSE: ConnectionState.PAUSED,
        Step.RESUME: ConnectionState.ACTIVE,
        Step.DISABLE: ConnectionState.DISABLED,
    },
    ConnectionState.DISABLED: {
        Step.RESUME: ConnectionState.ACTIVE,
        Step.DISABLE: ConnectionState.DISABLED,
    },
}


def moved(state: ConnectionState, step: Step) -> ConnectionState:
    """The state after a step; raises SuiteError `request.conflict` for a step the state does not know."""
    after = STATES[state].get(step)
    if after is None:
        raise SuiteError("request.conflict", f"A {state} connection cannot {step}.")
    return after


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it is kept. `tls_facts` is what may be shown of its certificates."""

    id: str
    tenant: str
    state: ConnectionState
    version: int
    configuration: ConnectionDocument
    tls_facts: dict[str, Any]
    author: str
    reason: str
    created_at: datetime
    updated_at: datetime

    @property
    def sending(self) -> Sending:
        """A sender's settings."""
        return self.configuration.sending or Sending()

    @property
    def listening(self) -> Listening:
        """A listener's settings."""
        return self.configuration.listening or Listening()

    @property
    def endpoint(self) -> str:
        """How exchanges name it: `mllp://host:port`."""
        host = self.configuration.host
        return f"mllp://{f'[{host}]' if ':' in host else host}:{self.configuration.port}"

    def as_json(self) -> dict[str, Any]:
        """The connection as the API shows it."""
        return {
            "id": self.id,
            "state": self.state.value,
            "version": self.version,
            "configuration": self.configuration.as_json(),
            "tls_facts": self.tls_facts,
            "author": self.author,
            "reason": self.reason,
            "created_at": instant_text(self.created_at),
            "updated_at": instant_text(self.updated_at),
        }
