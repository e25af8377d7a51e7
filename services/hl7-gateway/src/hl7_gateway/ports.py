"""What the use cases of the HL7 gateway need from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from common.models.paging import Page
from common.runtime.authentication import Caller
from hl7_gateway.core.message import Header, NewMessage, Receipt, StoredMessage, TakenMessage
from hl7_gateway.core.senders import InboundChannel, SenderTable


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

    async def forget_seen(self, window_s: float) -> int:
        """Delete what recognises messages older than the window, in small transactions; returns how many."""


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
        """A message with its body; the reading is audited first. Raises SuiteError `message.not-found`."""

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


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages: every filter that is given must hold."""

    integration_id: str | None = None
    channel: str | None = None
    control_id: str | None = None
    message_type: str | None = None
    trigger_event: str | None = None
    state: str | None = None
    patient_keys: tuple[str, ...] | None = None
    after: datetime | None = None
    before: datetime | None = None


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
