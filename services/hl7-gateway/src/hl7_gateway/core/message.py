"""A received message: what its header says, and what is stored of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

import hl7v2
from common.models.identifier_systems import IdentifierSystem, system_of

TEXT_CHARACTERS_MAX: Final = 199
"""Of what is kept beside the body: the longest that HL7 v2.8.2 allows MSH-10 (chapter 2, §2.14.9.10)."""
FIELD_MISSING: Final = "hl7.field-missing"

# MSH-9.1 and MSH-9.2 are three characters (HL7 tables 0076 and 0003); they go into events and exchange records, where
# nothing may stand that only claims to be a message type.
_CODE: Final = re.compile(r"[A-Z0-9]{3}")
_VERSION: Final = re.compile(r"[0-9](\.[0-9]{1,2}){0,3}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_UNSTORABLE: Final = dict.fromkeys((*range(32), 127), "�")


class MessageState(StrEnum):
    """What the store holds a message as."""

    RECEIVED = "received"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Header:
    """MSH as far as it is needed to receive a message; absent fields are empty."""

    application: str
    facility: str
    timestamp: str
    control_id: str
    message_type: str
    trigger_event: str
    version: str
    accept_condition: str
    application_condition: str

    @property
    def operation(self) -> str:
        """`ADT^A08`, for exchange records."""
        return f"{self.message_type}^{self.trigger_event}" if self.trigger_event else self.message_type


def read_header(message: hl7v2.Message) -> Header:
    """The header; texts are cut to 199 characters and hold no control characters, what is no code is empty."""
    message_type, trigger_event, _ = message.type
    return Header(
        application=_text(message["MSH-3.1"]),
        facility=_text(message["MSH-4.1"]),
        timestamp=_text(message["MSH-7.1"]),
        control_id=_text(message.control_id),
        message_type=message_type if _CODE.fullmatch(message_type) else "",
        trigger_event=trigger_event if _CODE.fullmatch(trigger_event) else "",
        version=version if _VERSION.fullmatch(version := message["MSH-12.1"]) else "",
        accept_condition=_text(message["MSH-15"]),
        application_condition=_text(message["MSH-16"]),
    )


def _text(value: str) -> str:
    if len(value) > TEXT_CHARACTERS_MAX:
        value = value[:TEXT_CHARACTERS_MAX]
    if value.isprintable():
        return value
    return value.translate(_UNSTORABLE).encode("utf-8", "replace").decode()


def patient_name(message: hl7v2.Message, systems: Sequence[IdentifierSystem]) -> str | None:
    """`<system or assigning authority>|<id>` of the first repetition of PID-3, None when it holds no id.

    This is what the patient's pseudonym is made of; it is never stored or logged itself.
    """
    number = message["PID-3.1"]
    if not number:
        return None
    namespace = message["PID-3.4.1"]
    system = system_of(systems, namespace, message["PID-3.4.2"], message["PID-3.4.3"], message["PID-3.5"])
    return patient_text(system or namespace, number)


def patient_text(system: str, number: str) -> str:
    """The text a patient's pseudonym is made of (domain `patient`)."""
    return f"{system}|{number}"


def acknowledgment_id(message_id: str) -> str:
    """MSH-10 of our acknowledgement: the last 20 characters of the message's id (20 is the most before v2.7).

    It follows from the message, so that a repeated message gets the same acknowledgement, byte for byte.
    """
    return message_id[-20:]


def instant_of(milliseconds: int) -> datetime:
    """The instant of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds_of(instant: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (instant - _EPOCH) // _MILLISECOND


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is remembered of a message in order to answer it again as the first time."""

    message_id: str
    received_at: datetime


class TakenMessage(NamedTuple):
    """A message as it is stored before it is acknowledged: nothing that its bytes say themselves.

    `received_ms` is milliseconds since 1970; `rejection` the error code of a message that is stored and rejected, else
    empty; `sealed_body` is sealed for (id, "body").
    """

    id: str
    tenant: str
    integration_id: str
    channel: str
    peer: str
    received_ms: int
    rejection: str
    sealed_body: bytes
    duplicate_key: bytes
    connection_id: str = ""

    @property
    def state(self) -> MessageState:
        """What the message is stored as."""
        return MessageState.REJECTED if self.rejection else MessageState.RECEIVED


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A stored message, read, on its way into the catalogue. `sequence` is its body's place in the intake."""

    id: str
    sequence: int
    tenant: str
    integration_id: str
    channel: str
    peer: str
    header: Header
    patient_key: str | None
    received_at: datetime
    state: MessageState
    acknowledgment_code: str
    size_bytes: int
    findings: tuple[Any, ...]
    traceparent: str
    connection_id: str = ""
    order_key: str = ""
    rejection: str = ""
    keys: tuple[tuple[str, str], ...] = ()
    """(`KeyKind`, pseudonym) of the numbers it names."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the store, without its body."""

    id: str
    tenant: str
    integration_id: str
    channel: str
    connection_id: str
    peer: str
    application: str
    facility: str
    control_id: str
    message_type: str
    trigger_event: str
    version: str
    patient_key: str | None
    received_at: datetime
    state: MessageState
    acknowledgment_code: str
    size_bytes: int
    findings: tuple[Any, ...]
