"""How a listener takes messages: whose they are, what is checked, what counts as a repetition, how it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import hl7v2
from common.models.identifier_systems import IdentifierSystem
from common.models.integration import Integration
from hl7_gateway.core.allowed_peers import Admission
from hl7_gateway.core.connection_configuration import Connection
from hl7_gateway.core.message import Header
from hl7_gateway.core.senders import InboundChannel, SenderTable
from hl7_gateway.core.site_profile import STANDARD, SiteProfile

EVERYBODY: Final = Admission()
ACCEPT_ALWAYS: Final = "AL"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a connection: `address:port`, and the rows that admitted it."""

    address: str
    admission: Admission = EVERYBODY


@dataclass(frozen=True, slots=True)
class Reception:
    """A listener's rules. The defaults are those of the listener that settings describe, which is no connection."""

    connection_id: str = ""
    validate: Literal["before", "after", "off"] = "off"
    duplicate_rule: Literal["sender-control-id-body", "sender-control-id", "off"] = "sender-control-id-body"
    acknowledgment_mode: Literal["original", "enhanced", "auto"] = "auto"
    ordering_key: Literal["patient", "connection", "none"] = "patient"
    encoding: str | None = None
    profile: SiteProfile = STANDARD

    def parse(self, body: bytes) -> hl7v2.Message:
        """The message, in the listener's encoding where its MSH-18 says nothing. Raises hl7v2.ParseError."""
        return hl7v2.parse(body) if self.encoding is None else hl7v2.parse_assuming(body, self.encoding)

    def header(self, header: Header) -> Header:
        """The header as the acknowledgement mode wants it read (HL7 v2.5.1 §2.9: original, enhanced)."""
        if self.acknowledgment_mode == "original":
            return replace(header, accept_condition="", application_condition="")
        silent = not header.accept_condition and not header.application_condition
        if self.acknowledgment_mode == "enhanced" and silent:
            return replace(header, accept_condition=ACCEPT_ALWAYS)
        return header

    def order_key(self, patient_key: str | None, integration_id: str, message_id: str) -> str:
        """What messages must have in common to keep their order."""
        if self.ordering_key == "none":
            return message_id
        if self.ordering_key == "connection" or patient_key is None:
            # Without a patient there is no order to keep but the integration's own.
            return self.connection_id or integration_id
        return patient_key


DEFAULT: Final = Reception()


def reception_of(connection: Connection, profile: SiteProfile = STANDARD) -> Reception:
    """The rules of a configured listener; `profile` is the one that it names."""
    document, listening = connection.configuration, connection.listening
    return Reception(
        connection_id=connection.id,
        validate=listening.validation.when,
        duplicate_rule=listening.duplicate_rule,
        acknowledgment_mode=document.acknowledgment_mode,
        ordering_key=document.ordering_key,
        encoding=document.encoding,
        profile=profile,
    )


def table_of(connection: Connection, integration: Integration | None) -> SenderTable:
    """The senders of a configured listener: whoever is admitted belongs to its integration."""
    if integration is None or not integration.listens:
        return SenderTable({}, frozenset({connection.tenant}))
    systems: tuple[IdentifierSystem, ...] = tuple(integration.identifier_systems)
    channel = InboundChannel(connection.tenant, integration.id, connection.configuration.name, systems)
    return SenderTable({("", ""): (channel,)}, frozenset({connection.tenant}), {integration.id: systems})
