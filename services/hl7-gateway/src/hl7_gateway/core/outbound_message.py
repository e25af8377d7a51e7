"""A message on its way out: what it must have, what the connection makes of it, and how the store keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import hl7v2
from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.identifier_systems import IdentifierSystem
from hl7_gateway.core.connection_configuration import ConnectionDocument
from hl7_gateway.core.delivery import State
from hl7_gateway.core.message import Header, patient_name, read_header
from hl7v2 import charset, mllp

NO_PATIENT_KEY: Final = "-"
"""The order key of messages without a patient: they keep their order among themselves."""
CONNECTION_KEY: Final = "*"
_ACCEPT_ALWAYS: Final = ("AL", "AL")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message as it will be sent. `patient` is what its pseudonym is made of, None without one."""

    body: bytes
    header: Header
    patient: str | None


def prepare(
    body: bytes, configuration: ConnectionDocument, systems: Sequence[IdentifierSystem], *, number: int
) -> Prepared:
    """The message as the connection sends it; `number` counts the messages of a request from 1.

    Raises SuiteError `hl7.unparsable`, `hl7.field-missing`, `hl7.frame-too-large`, `hl7.frame-bytes-inside` or
    `hl7.encoding-impossible`, naming the number and never the contents.
    """
    which = f"Message {number}"
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError as error:
        raise SuiteError("hl7.unparsable", f"{which}: {error.code}.") from error
    if not message.control_id:
        raise SuiteError("hl7.field-missing", f"{which}: MSH-10 is empty; its acknowledgement could not be told apart.")
    _set_modes(message, configuration)
    sent = _encoded(message, configuration.encoding, which)
    if len(sent) > configuration.frame_bytes_max:
        raise SuiteError("hl7.frame-too-large", f"{which}: {len(sent)} bytes, {configuration.frame_bytes_max} allowed.")
    if mllp.START in sent or mllp.END in sent:
        raise SuiteError("hl7.frame-bytes-inside", f"{which}.")
    return Prepared(sent, read_header(message), patient_name(message, systems))


def with_modes(body: bytes, configuration: ConnectionDocument) -> bytes:
    """A message of ours with the connection's acknowledgement mode in MSH-15 and MSH-16."""
    message = hl7v2.parse(body)
    _set_modes(message, configuration)
    return bytes(message)


def _set_modes(message: hl7v2.Message, configuration: ConnectionDocument) -> None:
    mode = configuration.acknowledgment_mode
    if mode == "original":
        for path in ("MSH-15", "MSH-16"):
            if message[path]:
                message.set(path, "")
    elif mode == "enhanced" and not (message["MSH-15"] or message["MSH-16"]):
        for path, condition in zip(("MSH-15", "MSH-16"), _ACCEPT_ALWAYS, strict=True):
            message.set(path, condition)


def _encoded(message: hl7v2.Message, encoding: str | None, which: str) -> bytes:
    """The message in the connection's character set; untouched where it is in it already."""
    codec = None if encoding is None else charset.codec_of(encoding)
    if encoding is None or codec is None or message.codec == codec:
        return bytes(message)
    try:
        text = bytes(message).decode(message.codec)
        header = hl7v2.parse(text.removeprefix("\ufeff").encode())
        header.set("MSH-18", encoding)
        return bytes(header).decode().encode(codec)
    except (UnicodeError, ValueError) as error:
        raise SuiteError("hl7.encoding-impossible", f"{which}: from {message.codec} to {codec}.") from error


def order_key(ordering: str, message_id: str, patient_key: str | None) -> str:
    """The key whose messages keep their order, by the connection's `ordering_key`."""
    if ordering == "connection":
        return CONNECTION_KEY
    return message_id if ordering == "none" else patient_key or NO_PATIENT_KEY


@dataclass(frozen=True, slots=True)
class NewOutbound:
    """A message on its way into a queue. `sealed_body` is sealed for (id, "outbound")."""

    id: str
    order_key: str
    patient_key: str | None
    control_id: str
    message_type: str
    trigger_event: str
    size_bytes: int
    sealed_body: bytes
    traceparent: str


@dataclass(frozen=True, slots=True)
class Outbound:
    """A message of a queue, without its body."""

    id: str
    sequence: int
    connection_id: str
    integration_id: str
    control_id: str
    message_type: str
    trigger_event: str
    patient_key: str | None
    size_bytes: int
    state: State
    attempts: int
    not_before: datetime | None
    acknowledgment_code: str | None
    error_code: str | None
    queued_at: datetime
    settled_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The message as the API shows it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "sequence"}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in shown.items()}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, and how it ended."""

    number: int
    began_at: datetime
    ended_at: datetime
    outcome: str
    acknowledgment_code: str | None
    error_code: str | None

    def as_json(self) -> dict[str, Any]:
        """The attempt as the API shows it."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in shown.items()}
