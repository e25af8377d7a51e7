"""Who may connect to a listener, and as which sender: the rows of `allowed_peers`.

A peer is admitted when one row holds for it (its address inside the network, its certificate the one named); with no
rows everybody is. What it may then send under is what the rows say that held: MSH-3 and MSH-4 compare without regard
to case, an empty one stands for any.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from hl7_gateway.core.connection_configuration import AllowedPeer


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is looked at of a client's certificate: its common name, and SHA-256 of its DER form in hexadecimal."""

    subject: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Admission:
    """The rows that held; empty: there are none at all, everybody is admitted."""

    rows: tuple[AllowedPeer, ...] = ()

    def may_send_as(self, application: str, facility: str) -> bool:
        """Whether a message with these MSH-3 and MSH-4 may come from the peer."""
        return not self.rows or any(
            _fits(row.application, application) and _fits(row.facility, facility) for row in self.rows
        )


def admission(rows: Sequence[AllowedPeer], address: str, certificate: Certificate | None) -> Admission | None:
    """None when the peer is not admitted. `address` as the socket says it, without its port."""
    if not rows:
        return Admission()
    held = tuple(row for row in rows if _holds(row, address, certificate))
    return Admission(held) if held else None


def _holds(row: AllowedPeer, address: str, certificate: Certificate | None) -> bool:
    if row.network is not None and not _inside(address, row.network):
        return False
    if row.certificate_subject is None and row.certificate_sha256 is None:
        return True
    if certificate is None:
        return False
    named = row.certificate_subject is None or row.certificate_subject == certificate.subject
    return named and (row.certificate_sha256 is None or row.certificate_sha256 == certificate.sha256)


def _inside(address: str, network: str) -> bool:
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped  # a socket for both families shows IPv4 peers so
    return peer in ipaddress.ip_network(network, strict=False)


def _fits(expected: str, found: str) -> bool:
    return not expected or expected.casefold() == found.casefold()
