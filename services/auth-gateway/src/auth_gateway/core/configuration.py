"""An integration's configuration: what fits together, and how its state moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from common.models.integration import ChannelKind, IntegrationState, Vendor
from pms.offers import override_findings

# Which channels a vendor's integration may have. HL7 and files are every vendor's; an API is the vendor's own.
CHANNEL_KINDS: Final[dict[Vendor, frozenset[ChannelKind]]] = {
    vendor: frozenset(
        {ChannelKind.HL7V2_IN, ChannelKind.HL7V2_OUT, ChannelKind.FILES_IN, ChannelKind.FILES_OUT}
        | {
            Vendor.EPIC: {ChannelKind.FHIR},
            Vendor.CERNER: {ChannelKind.FHIR},
            Vendor.FHIR: {ChannelKind.FHIR},
            Vendor.UNITY: {ChannelKind.UNITY, ChannelKind.FHIR},
            Vendor.HL7V2: set(),
            Vendor.FILES: set(),
        }[vendor]
    )
    for vendor in Vendor
}
_NEEDS_URL: Final = frozenset({ChannelKind.FHIR, ChannelKind.UNITY})


class Step(StrEnum):
    """What moves an integration's state."""

    PAUSE = "pause"
    RESUME = "resume"


STATES: Final[dict[IntegrationState, dict[Step, IntegrationState]]] = {
    IntegrationState.DRAFT: {Step.RESUME: IntegrationState.ACTIVE},
    IntegrationState.ACTIVE: {Step.PAUSE: IntegrationState.PAUSED, Step.RESUME: IntegrationState.ACTIVE},
    IntegrationState.PAUSED: {Step.PAUSE: IntegrationState.PAUSED, Step.RESUME: IntegrationState.ACTIVE},
}


@dataclass(frozen=True, slots=True)
class Document:
    """An integration as auth-gateway keeps it: `body` is what the API shows without id, tenant, version and times."""

    id: str
    tenant: str
    version: int
    created_at: datetime
    updated_at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The integration as the API shows it."""
        return {
            "id": self.id,
            "tenant": self.tenant,
            **self.body,
            "version": self.version,
            "created_at": instant_text(self.created_at),
            "updated_at": instant_text(self.updated_at),
        }

    def changed(self, now: datetime, **body: Any) -> Document:
        """The next version with some parts replaced."""
        return replace(self, version=self.version + 1, updated_at=now, body={**self.body, **body})


def moved(document: Document, step: Step) -> IntegrationState:
    """The state after a step; raises SuiteError `request.conflict` for a step the state does not know."""
    state = IntegrationState(document.body["state"])
    after = STATES[state].get(step)
    if after is None:
        raise SuiteError("request.conflict", f"A {state} integration cannot {step}.")
    return after


def check_channel(vendor: Vendor, channel: Mapping[str, Any]) -> None:
    """Raises SuiteError `request.invalid` naming the field when a channel does not fit its vendor, or is not usable."""
    fields = list(_channel_findings(vendor, channel))
    if fields:
        raise SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)


def check_overrides(vendor: Vendor, overrides: Sequence[Mapping[str, Any]]) -> None:
    """Raises SuiteError `request.invalid` naming every part that does not fit what the vendor's systems offer."""
    found = override_findings(vendor, overrides)
    if found:
        fields = [replace(one, pointer=f"/capability_overrides{one.pointer}") for one in found]
        raise SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)


def _channel_findings(vendor: Vendor, channel: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    kind = ChannelKind(channel["kind"])
    if kind not in CHANNEL_KINDS[vendor]:
        offered = ", ".join(sorted(CHANNEL_KINDS[vendor]))
        found.append(
            FieldError("/kind", "unsupported", f"A {vendor} integration has channels of these kinds: {offered}.")
        )
    if kind in _NEEDS_URL and not usable_url(channel["endpoint"]):
        found.append(FieldError("/endpoint", "url", "Expected an http or https URL without user, query or fragment."))
    if channel["time_zone"] not in available_timezones():
        found.append(FieldError("/time_zone", "time_zone", "Expected an IANA time zone, e.g. America/Chicago."))
    return found


def usable_url(url: str) -> bool:
    """Whether it is an http(s) URL with a host and nothing that does not belong in an endpoint."""
    if any(character.isspace() or ord(character) < 32 for character in url):
        return False
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and port_ok
        and not (parts.username or parts.password or parts.query or parts.fragment)
    )
