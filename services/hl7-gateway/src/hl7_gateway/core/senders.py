"""Which channel a message belongs to: decided by its sender alone.

A hl7v2-in channel lists its senders as rows of sending application (MSH-3.1) and sending facility (MSH-4.1); a row may
leave one of them empty. The most specific row wins: both named, then the application, then the facility; a channel
without rows takes any sender. Two equally specific rows of one practice go to the older integration (ids sort by
time). Equally specific rows of two practices go to nobody: a guess would show one practice's patients to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.models.identifier_systems import IdentifierSystem
from common.models.integration import Channel, ChannelKind, Integration

SENDER_UNKNOWN: Final = "hl7.sender-unknown"
SENDER_AMBIGUOUS: Final = "hl7.sender-ambiguous"


@dataclass(frozen=True, slots=True)
class InboundChannel:
    """Where a sender's messages belong."""

    tenant: str
    integration_id: str
    channel: str
    identifier_systems: tuple[IdentifierSystem, ...] = ()


Sender = tuple[str, str]
"""Sending application and facility, casefolded; empty: any."""


@dataclass(frozen=True, slots=True)
class SenderTable:
    """Looked up once per message; built anew when an integration changes."""

    rows: Mapping[Sender, tuple[InboundChannel, ...]] = field(default_factory=dict)
    tenants: frozenset[str] = frozenset()
    systems: Mapping[str, tuple[IdentifierSystem, ...]] = field(default_factory=dict)
    """Identifier systems by integration."""

    def resolve(self, application: str, facility: str) -> InboundChannel | str:
        """The channel, or the error code: `hl7.sender-unknown` or `hl7.sender-ambiguous`."""
        named_application, named_facility = application.casefold(), facility.casefold()
        for sender in (
            (named_application, named_facility),
            (named_application, ""),
            ("", named_facility),
            ("", ""),
        ):
            found = self.rows.get(sender)
            if found is not None:
                return found[0] if len({channel.tenant for channel in found}) == 1 else SENDER_AMBIGUOUS
        return SENDER_UNKNOWN

    @property
    def only_tenant(self) -> str | None:
        """The one practice that listens here, when there is just one: it is told of senders nobody knows."""
        return next(iter(self.tenants)) if len(self.tenants) == 1 else None


def sender_table(integrations: Iterable[Integration]) -> SenderTable:
    """The table of every hl7v2-in channel of integrations that are active or paused."""
    rows: dict[Sender, list[InboundChannel]] = {}
    tenants: set[str] = set()
    known = sorted(integrations, key=lambda one: one.id)
    for integration in known:
        if not integration.listens:
            continue
        for name in sorted(integration.channels):
            channel = integration.channels[name]
            if channel.kind is not ChannelKind.HL7V2_IN:
                continue
            destination = InboundChannel(integration.tenant, integration.id, name, integration.identifier_systems)
            tenants.add(integration.tenant)
            for sender in _senders(channel):
                rows.setdefault(sender, []).append(destination)
    systems = {integration.id: tuple(integration.identifier_systems) for integration in known}
    return SenderTable({sender: tuple(found) for sender, found in rows.items()}, frozenset(tenants), systems)


def _senders(channel: Channel) -> list[Sender]:
    listed = channel.settings.get("senders") or ()
    if not listed:
        return [("", "")]
    # A row that names neither would silently take everybody's messages; only an empty list says that.
    found = [(_name(row, "application"), _name(row, "facility")) for row in listed if isinstance(row, Mapping)]
    return list(dict.fromkeys(sender for sender in found if sender != ("", "")))


def _name(row: Mapping[str, Any], name: str) -> str:
    return str(row.get(name) or "").strip().casefold()
