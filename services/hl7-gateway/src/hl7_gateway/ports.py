"""What the use cases of the HL7 gateway need from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from common.models.clock import instant_text, parse_instant
from common.models.paging import Page
from common.runtime.authentication import Caller
from common.runtime.leases import Lease
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.delivery import Ending, Write
from hl7_gateway.core.edit import EditRecord
from hl7_gateway.core.message import Header, NewMessage, Receipt, StoredMessage, TakenMessage
from hl7_gateway.core.outbound_message import Attempt, NewOutbound, Outbound
from hl7_gateway.core.outbound_window import Candidate, Read
from hl7_gateway.core.replay import Counted, PageMessage, Replay, Sorted, Step
from hl7_gateway.core.senders import InboundChannel, SenderTable
from hl7_gateway.core.site_profile import SiteProfile


class Keys(Protocol):
    """The keys of one tenant."""

    def seal(self, plaintext: bytes, *, record: str, field: str) -> bytes:
        """Seal bytes for one place."""

    def open(self, sealed: bytes, *, record: str, field: str) -> bytes:
        """Raises SuiteError `keys.cannot-open`."""

    def pseudonym(self, domain: str, value: str) -> str:
        """A stable name for a value that may not be shown."""


class KeySource(Protocol):
    """Where keys come from."""

    async def tenant(self, tenant: str) -> Keys:
        """Raises SuiteError `tenant.not-found` or `keys.unavailable`."""


class Intake(Protocol):
    """Where messages are kept before they are acknowledged; what they say is catalogued afterwards."""

    def save(self, messages: Sequence[TakenMessage]) -> Awaitable[Mapping[str, Receipt]]:
        """Store messages, and what recognises them again, in one durable transaction, which begins with the call.

        Gives, by message id, the receipt of the first for those that are repetitions (of a stored message or of an
        earlier one of the same call): of them nothing is stored. Raises SuiteError `database.unavailable`, then
        nothing may be acknowledged; another error when a message cannot be stored at all.
        """

    async def waiting(self, limit: int) -> Sequence[WaitingMessage]:
        """Stored messages that are not catalogued, the oldest ones, in the order they were stored."""

    async def catalogued(self, sequences: Sequence[int]) -> None:
        """The messages that `waiting` gave last wait no more."""

    async def bodies(self, sequences: Sequence[int]) -> Mapping[int, bytes]:
        """The sealed bodies that are still kept, by sequence."""

    async def erase_bodies(self, sequences: Sequence[int]) -> None:
        """Delete catalogued bodies, whatever their age: their practice is offboarded."""

    async def forget_seen(self, window_s: float) -> int:
        """Delete what recognises messages older than the window, in small transactions; returns how many."""

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        """Delete some of the oldest bodies, in one small transaction; returns how many, 0 when none is left to go.

        Those go that were received more than `kept_s` ago, and while the bodies take more than about `bytes_max` bytes
        (0: no limit) the oldest ones whatever their age. One that waits to be catalogued stays.
        """


class Catalogue(Protocol):
    """Where what stored messages say is kept, to be found by."""

    async def add(self, messages: Sequence[NewMessage]) -> None:
        """Add messages with their events, in one transaction; those that are there already stay as they are."""


class MessageBook(Protocol):
    """What the API reads of the store."""

    async def search(self, tenant: str, wanted: MessageFilter, cursor: str | None, limit: int) -> Page[StoredMessage]:
        """Newest first. Raises SuiteError `request.bad-cursor`."""

    async def get(self, tenant: str, message_id: str) -> StoredMessage:
        """Raises SuiteError `message.not-found`."""

    async def read_body(self, caller: Caller, message_id: str, reason: str) -> tuple[StoredMessage, bytes]:
        """A message with its body; the reading is audited first.

        Raises SuiteError `message.not-found`, or `message.body-deleted` when retention took the body.
        """

    async def read_bodies(self, caller: Caller, message_ids: Sequence[str]) -> Sequence[tuple[StoredMessage, bytes]]:
        """Those of the messages that exist, in the order asked for; audited as one reading of so many.

        Raises SuiteError `request.too-large` when they are too much for one answer.
        """


class WaitingMessage(NamedTuple):
    """A stored message that is not catalogued yet; fields as of `TakenMessage`."""

    sequence: int
    id: str
    tenant: str
    integration_id: str
    channel: str
    peer: str
    received_ms: int
    rejection: str
    sealed_body: bytes
    connection_id: str


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages: every filter that is given must hold."""

    integration_id: str | None = None
    channel: str | None = None
    connection_id: str | None = None
    control_id: str | None = None
    message_type: str | None = None
    trigger_event: str | None = None
    state: str | None = None
    application: str | None = None
    facility: str | None = None
    patient_keys: tuple[str, ...] | None = None
    visit_key: str | None = None
    order_key: str | None = None
    finding_code: str | None = None
    after: datetime | None = None
    before: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """What is given, in JSON form."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in given.items()}

    @classmethod
    def of_json(cls, given: Mapping[str, Any]) -> MessageFilter:
        """The filter again. A name that it does not have is a TypeError: it would find more than was asked for."""
        instants = {name: parse_instant(given[name]) for name in ("after", "before") if name in given}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **lists, **instants})


class Trace(Protocol):
    """One message's way through the gateway."""

    traceparent: str


class Journal(Protocol):
    """Traces, exchange records and counts of messages; never fails, never blocks."""

    def begin(self, header: Header, at: datetime) -> Trace:
        """A span in the trace that both ends derive from the header (MSH-3, MSH-4, MSH-7, MSH-10)."""

    def end(self, trace: Trace | None, exchange: HeldExchange) -> None:
        """The message was answered."""

    def answered(self, message_id: str, how: Answered) -> None:
        """Keep how a stored message was answered until its exchange is told."""

    def answer_of(self, message_id: str) -> Answered | None:
        """How it was answered, told once; None when that is not known (it was stored before this process began)."""


@dataclass(frozen=True, slots=True)
class HeldExchange:
    """One message and its acknowledgement, without contents; `codes` are MSA-1 of the acknowledgements sent."""

    tenant: str
    channel: InboundChannel | None
    header: Header | None
    started_at: datetime
    duration_ms: float
    codes: tuple[str, ...]
    error_code: str | None
    request_bytes: int
    response_bytes: int


class Answered(NamedTuple):
    """How a message was answered: milliseconds since its last byte, MSA-1 of the acknowledgements, their size."""

    duration_ms: float
    codes: tuple[str, ...]
    response_bytes: int


class Senders(Protocol):
    """The channels that messages may belong to."""

    def table(self) -> SenderTable:
        """As of now."""

    def settled(self) -> bool:
        """Whether every channel that was announced is known; else an unknown sender may be one we will know soon."""


class Listener(Protocol):
    """What the API tells of a listener."""

    def state(self) -> Mapping[str, Any]:
        """Address, state, open connections and counters."""


@dataclass(frozen=True, slots=True)
class ConnectionVersion:
    """What a connection was from `changed_at` on."""

    version: int
    state: str
    configuration: Mapping[str, Any]
    tls_facts: Mapping[str, Any]
    author: str
    reason: str
    changed_at: datetime


class ConnectionBook(Protocol):
    """Connections; every change is one transaction with its version and its audit entry."""

    async def add(self, caller: Caller, connection: Connection, material: TlsMaterial) -> None:
        """Raises SuiteError `connection.name-taken` or `connection.port-taken`."""

    async def get(self, tenant: str, connection_id: str) -> Connection:
        """Raises SuiteError `connection.not-found`."""

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Connection]:
        """By time of creation. Raises SuiteError `request.bad-cursor`."""

    async def save(
        self, caller: Caller, before: Connection, after: Connection, material: TlsMaterial | None, action: str
    ) -> None:
        """Replace `before` by `after`; `material` None keeps what is sealed.

        Raises SuiteError `request.version-changed` when somebody was quicker, `connection.name-taken`,
        `connection.port-taken`.
        """

    async def remove(self, caller: Caller, connection: Connection, reason: str) -> None:
        """Raises SuiteError `request.version-changed` or `connection.has-messages`; its history stays."""

    async def material(self, connection: Connection) -> TlsMaterial:
        """Its PEM texts, unsealed."""

    async def versions(
        self, tenant: str, connection_id: str, cursor: str | None, limit: int
    ) -> Page[ConnectionVersion]:
        """Newest first. Raises SuiteError `connection.not-found` or `request.bad-cursor`."""


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """What a profile was from `changed_at` on."""

    version: int
    text: str
    document: Mapping[str, Any]
    author: str
    reason: str
    changed_at: datetime


class ProfileBook(Protocol):
    """Site profiles; every change is one transaction with its version and its audit entry."""

    async def add(self, caller: Caller, profile: SiteProfile) -> SiteProfile:
        """As it was stored: the versions of one that was removed go on. Raises SuiteError `profile.name-taken`."""

    async def find(self, tenant: str, name: str) -> SiteProfile:
        """A stored or a built-in one. Raises SuiteError `profile.not-found`."""

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[SiteProfile]:
        """By name, built-in ones, too. Raises SuiteError `request.bad-cursor`."""

    async def save(self, caller: Caller, before: SiteProfile, after: SiteProfile) -> None:
        """Raises SuiteError `request.version-changed` when somebody was quicker."""

    async def remove(self, caller: Caller, profile: SiteProfile, reason: str) -> None:
        """Raises SuiteError `request.version-changed`, or `profile.in-use` naming the connections."""

    async def used_by(self, tenant: str, name: str) -> Sequence[tuple[str, str]]:
        """Ids and names of the listeners that name it."""

    async def versions(self, tenant: str, name: str, cursor: str | None, limit: int) -> Page[ProfileVersion]:
        """Newest first. Raises SuiteError `profile.not-found` or `request.bad-cursor`."""


class TlsInspector(Protocol):
    """Reads PEM texts."""

    def inspect(self, material: TlsMaterial, *, below: str) -> Mapping[str, Any]:
        """What may be shown of them. Raises SuiteError `request.invalid` naming the text that cannot be used."""


class PortProbe(Protocol):
    """Whether this machine lets us listen."""

    def check(self, host: str, port: int) -> None:
        """Raises SuiteError `connection.port-in-use` or `connection.port-unusable`."""


@dataclass(frozen=True, slots=True)
class OutboundFilter:
    """Which outbound messages: every filter that is given must hold."""

    connection_id: str | None = None
    integration_id: str | None = None
    control_id: str | None = None
    message_type: str | None = None
    trigger_event: str | None = None
    state: str | None = None
    error_code: str | None = None
    patient_keys: tuple[str, ...] | None = None
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """Where a sender stands: its link as its owner saw it last, its queue, and what it counted since it was made.

    `owned`: a replica works the queue now. `parked` and `held` are counted up to a bound.
    """

    owned: bool
    link: Mapping[str, Any] | None
    depth: int
    parked: int
    held: int
    oldest_queued_at: datetime | None
    oldest_age_s: float | None
    counters: Mapping[str, int]


class OutboundBook(Protocol):
    """The queues, as the API sees them; every change is audited."""

    async def enqueue(self, connection: Connection, messages: Sequence[NewOutbound]) -> None:
        """Put messages at the end of a queue, all or none.

        Raises SuiteError `connection.not-found`, `connection.not-sending` or `connection.queue-full`.
        """

    async def search(self, tenant: str, wanted: OutboundFilter, cursor: str | None, limit: int) -> Page[Outbound]:
        """Newest first. Raises SuiteError `request.bad-cursor`."""

    async def get(self, tenant: str, message_id: str) -> tuple[Outbound, Sequence[Attempt]]:
        """Raises SuiteError `outbound.not-found`."""

    async def retry(self, caller: Caller, message_id: str, reason: str) -> Outbound:
        """Queue a parked message again at its old place. Raises SuiteError `request.conflict`, `outbound.not-found`."""

    async def discard(self, caller: Caller, message_id: str, reason: str) -> Outbound:
        """Take a message out of its queue for good. Raises SuiteError `request.conflict`, `outbound.not-found`."""

    async def retry_parked(self, caller: Caller, connection: Connection, reason: str, limit: int) -> int:
        """Queue a connection's parked messages again, the oldest first; how many."""

    async def live(self, connection: Connection) -> Live:
        """Where it stands."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What tells an owner, on whatever replica, that its queue changed."""

    queued: int
    revision: int


class OutboundQueue(Protocol):
    """One sender's queue, for its owner. Writing raises SuiteError `lease.lost` once another one owns it."""

    async def recover(self, lease: Lease, connection: Connection) -> None:
        """What an owner before left in flight is queued again."""

    async def read(self, connection: Connection, read: Read) -> Sequence[Candidate]:
        """Queued messages, in order."""

    async def write(
        self, lease: Lease, connection: Connection, write: Write, counted: Mapping[str, int]
    ) -> Mapping[str, bytes]:
        """Store how tries ended and which begin, with their events, in one transaction; the bodies of those begun.

        Not begun, and not in the answer: what is no longer queued, and what an earlier message of its key is before.
        The same write may be repeated. Raises SuiteError `database.unavailable` or `keys.unavailable`.
        """

    async def signals(self, connection: Connection) -> Signals:
        """As of now."""

    async def note_link(self, connection: Connection, state: str, code: str | None) -> None:
        """Keep what the API shows of the link."""


class PeerLink(Protocol):
    """A connection to a receiver."""

    def send(self, data: bytes) -> None:
        """Hand bytes to the system; never waits, never fails (a connection that is gone is told by `receive`)."""

    async def receive(self) -> bytes | Ending:
        """The next bytes, or how the connection ended."""

    def close(self) -> None:
        """End it now."""


class Connector(Protocol):
    """Connects to receivers, by addresses that the operator allows."""

    async def connect(self, connection: Connection, material: TlsMaterial) -> PeerLink:
        """Raises SuiteError `peer.dns`, `peer.address-refused`, `peer.connect`, `peer.tls` or `peer.timeout`."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One try to deliver, for the exchange history."""

    connection: Connection
    operation: str
    started_at: datetime
    duration_ms: float
    error_code: str | None
    request_bytes: int


class DeliveryJournal(Protocol):
    """Exchange records of what is sent; never fails, never blocks."""

    def tried(self, delivered: Delivered) -> None:
        """One try ended."""


class Trial(Protocol):
    """One try to reach a receiver, stage by stage; each gives what it saw, or raises SuiteError `peer.…`."""

    async def resolve(self) -> dict[str, Any]:
        """The allowed addresses of the host."""

    async def connect(self) -> dict[str, Any]:
        """The port of the first address that takes us."""

    async def secure(self) -> dict[str, Any]:
        """The TLS handshake."""

    @property
    def link(self) -> PeerLink:
        """Once connected, and secured where it has to be."""

    def close(self) -> None:
        """End whatever there is."""


class ReplayBook(Protocol):
    """Replays, as the API sees them; every change is audited."""

    async def counted(self, tenant: str, wanted: MessageFilter) -> Counted:
        """What fits a filter now."""

    async def tell_again(self, caller: Caller, message: StoredMessage, key: str, replay_id: str, reason: str) -> str:
        """Publish one message again under its partition key; the event's id.

        Raises SuiteError `message.body-deleted`: nobody could read what it is told of.
        """

    async def add(self, caller: Caller, replay: Replay, not_ended_max: int) -> None:
        """Start a replay. Raises SuiteError `replay.too-many` when so many of the tenant's are not ended."""

    async def get(self, tenant: str, replay_id: str) -> Replay:
        """Raises SuiteError `replay.not-found`."""

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Replay]:
        """Newest first. Raises SuiteError `request.bad-cursor`."""

    async def move(self, caller: Caller, replay_id: str, step: Step, reason: str) -> Replay:
        """Pause, resume or cancel. Raises SuiteError `replay.not-found` or `request.conflict`."""


class ReplayQueue(Protocol):
    """Running replays, for their owner. Writing raises SuiteError `lease.lost` once another one owns them."""

    async def running(self, limit: int) -> Sequence[Replay]:
        """The oldest ones."""

    async def page(self, replay: Replay, limit: int) -> Sequence[PageMessage]:
        """The next messages behind its cursor, oldest first, of a bounded size."""

    async def hand_over(
        self, lease: Lease, replay: Replay, page: Sequence[PageMessage], found: Sorted, to: HandedTo, took_ms: int
    ) -> bool:
        """A page to its target and the cursor behind it, in one transaction; False when it no longer runs so.

        Raises SuiteError as `OutboundBook.enqueue`.
        """

    async def wait(self, lease: Lease, replay: Replay, code: str) -> None:
        """Note why nothing goes on for now."""

    async def end(self, lease: Lease, replay: Replay, step: Step, code: str | None) -> None:
        """It finished or failed; nothing when it no longer runs."""


@dataclass(frozen=True, slots=True)
class HandedTo:
    """What a page becomes: keys of events, by message id, or messages of a sender's queue."""

    keys: Mapping[str, str] = field(default_factory=dict)
    connection: Connection | None = None
    messages: Sequence[NewOutbound] = ()


class EditBook(Protocol):
    """What people made of messages; every edit is audited with its reason, in the transaction of its effect."""

    async def read_outbound(self, caller: Caller, message_id: str, reason: str) -> tuple[Outbound, bytes]:
        """An outbound message with its body; the reading is audited. Raises SuiteError `outbound.not-found`."""

    async def note(self, caller: Caller, record: EditRecord) -> None:
        """An edit that is about to be taken in as a received message."""

    async def enqueue(self, caller: Caller, record: EditRecord, connection: Connection, message: NewOutbound) -> None:
        """An edited message into a queue. Raises SuiteError as `OutboundBook.enqueue`."""

    async def replace_parked(
        self, caller: Caller, record: EditRecord, connection: Connection, message: NewOutbound
    ) -> None:
        """In the place of the parked message it was made of, which is discarded.

        Raises SuiteError `request.conflict` when that is not parked, `outbound.not-found`, and as `enqueue`.
        """

    async def of(self, tenant: str, message_id: str) -> tuple[EditRecord | None, Sequence[EditRecord]]:
        """The edit that made this message, and the edits it was the source of, the oldest first."""


OrderKeys = Callable[[Collection[StoredMessage]], Awaitable[Mapping[str, str]]]
"""The partition keys of messages, by id: what their connection's rule makes of them."""
