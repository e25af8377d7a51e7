"""What to give a vendor or a firewall team: from where we connect, to which hosts and ports, and who connects to us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from common.models.integration import ChannelKind

_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """One way through a firewall; `direction` as seen from us."""

    direction: str
    host: str
    port: int | None
    protocol: str
    purpose: str


def ways(channels: Mapping[str, Mapping[str, Any]], urls: Iterable[tuple[str, str]]) -> Sequence[Way]:
    """Every way that an integration needs; `urls`: purpose and URL of what its credentials connect to."""
    found: set[Way] = set()
    for name, channel in channels.items():
        kind, endpoint = ChannelKind(channel["kind"]), channel["endpoint"]
        if kind is ChannelKind.HL7V2_IN:
            found.add(Way("in", "", None, "MLLP over TCP or TLS", f"channel {name}: HL7 v2 comes in"))
        elif kind is ChannelKind.HL7V2_OUT:
            host, _, port = endpoint.rpartition(":")
            number = int(port) if port.isdigit() else None
            found.add(Way("out", host.strip("[]"), number, "MLLP over TCP or TLS", f"channel {name}: HL7 v2 goes out"))
        elif endpoint:
            found.add(_of_url(endpoint, f"channel {name}"))
    found.update(_of_url(url, purpose) for purpose, url in urls if url)
    return sorted(found, key=lambda way: (way.direction, way.host, way.port or 0, way.purpose))


def _of_url(url: str, purpose: str) -> Way:
    parts = urlsplit(url)
    return Way("out", parts.hostname or "", parts.port or _PORTS.get(parts.scheme), parts.scheme.upper(), purpose)


def sheet_text(name: str, egress: Sequence[str], needed: Sequence[Way]) -> str:
    """The sheet as plain text."""
    lines = [
        f"Network sheet: {name}",
        "",
        "We connect from: " + (", ".join(egress) or "ask the operator (PS_AUTH_EGRESS_ADDRESSES is not set)"),
        "",
        "Please allow:",
    ]
    for way in needed:
        port = way.port if way.port is not None else "the port of the connection"
        where = f"from us to {way.host}, port {port}" if way.direction == "out" else f"from your sender to us, {port}"
        lines.append(f"- {where}, {way.protocol} ({way.purpose})")
    return "\n".join(lines if needed else [*lines, "- nothing yet: the integration has no channels"]) + "\n"
