"""The read copy of an integration: what auth-gateway owns and every other service reads (no secrets)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from common.models.identifier_systems import IdentifierSystem


class Vendor(StrEnum):
    """The vendors whose ways `libs/pms` knows."""

    EPIC = "epic"
    CERNER = "cerner"
    UNITY = "unity"
    FHIR = "fhir"
    HL7V2 = "hl7v2"
    FILES = "files"


class Environment(StrEnum):
    """Where an integration belongs; promoted, never edited twice."""

    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class IntegrationState(StrEnum):
    """`paused` stops pulls and writes; nothing is lost."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"


class WriteBack(StrEnum):
    """Whether changes go back to the PMS: not at all, listed only, or for real."""

    OFF = "off"
    SHADOW = "shadow"
    ON = "on"


class ChannelKind(StrEnum):
    """How a channel speaks."""

    FHIR = "fhir"
    UNITY = "unity"
    HL7V2_IN = "hl7v2-in"
    HL7V2_OUT = "hl7v2-out"
    FILES_IN = "files-in"
    FILES_OUT = "files-out"


@dataclass(frozen=True, slots=True)
class Channel:
    """One way in or out. `time_zone` is the facility's IANA zone, for times that come without an offset.

    `settings` by kind: hl7v2-in {"senders": [{"application", "facility"}]} (empty: any sender of the listener).
    """

    name: str
    kind: ChannelKind
    endpoint: str
    time_zone: str
    credential: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Integration:
    """One PMS system of one practice."""

    id: str
    tenant: str
    name: str
    vendor: Vendor
    product: str
    environment: Environment
    state: IntegrationState
    write_back: WriteBack
    version: int
    identifier_systems: tuple[IdentifierSystem, ...] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)
    capability_overrides: tuple[Mapping[str, Any], ...] = ()
    """What this installation offers other than its vendor's others (`pms.offers`)."""

    @property
    def listens(self) -> bool:
        """Whether messages are taken: a paused integration still does, since pausing loses nothing."""
        return self.state in {IntegrationState.ACTIVE, IntegrationState.PAUSED}

    def channel_of(self, kind: ChannelKind) -> Channel | None:
        """The first channel of a kind, by name."""
        return next((self.channels[name] for name in sorted(self.channels) if self.channels[name].kind is kind), None)


def integration_from_json(document: Mapping[str, Any]) -> Integration:
    """The read copy from auth-gateway's JSON; raises KeyError or ValueError when it is not one."""
    return Integration(
        id=document["id"],
        tenant=document["tenant"],
        name=document["name"],
        vendor=Vendor(document["vendor"]),
        product=document["product"],
        environment=Environment(document["environment"]),
        state=IntegrationState(document["state"]),
        write_back=WriteBack(document["write_back"]),
        version=document["version"],
        identifier_systems=tuple(
            IdentifierSystem(row["assigning_authority"], row["system"], row.get("identifier_type", ""))
            for row in document["identifier_systems"]
        ),
        channels={
            name: Channel(
                name=name,
                kind=ChannelKind(channel["kind"]),
                endpoint=channel["endpoint"],
                time_zone=channel["time_zone"],
                credential=channel.get("credential"),
                settings=channel.get("settings") or {},
            )
            for name, channel in document["channels"].items()
        },
        capability_overrides=tuple(document.get("capability_overrides", ())),
    )
