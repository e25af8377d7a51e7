"""What a peer's certificate says, also of one that our TLS refused: names, dates, issuer, and who stands in between.

RFC 5280: subjectAltName §4.2.1.6, Authority Information Access §4.2.2.1 (an URL from which the intermediate can be
had), validity §4.1.2.5. Names of a certificate are public; they are shown, bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from common.models.clock import instant_text

NAMES_MAX: Final = 20
_CHARACTERS_MAX: Final = 200
# Words in the issuer of a certificate that a proxy, a firewall or a virus scanner has made on the way.
PROXIES: Final[tuple[str, ...]] = (
    "zscaler", "netskope", "blue coat", "bluecoat", "fortinet", "fortigate", "palo alto", "sophos", "forcepoint",
    "websense", "umbrella", "mcafee", "trellix", "skyhigh", "barracuda", "check point", "checkpoint", "watchguard",
    "sonicwall", "iboss", "squid", "mitmproxy", "charles proxy", "fiddler", "burp", "kaspersky", "avast", "avg ",
    "bitdefender", "eset ssl", "untangle", "smoothwall", "lightspeed", "contentkeeper", "cato networks", "proxy",
    "tls inspection", "ssl inspection", "interception",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A leaf certificate, as far as a finding needs it."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    self_issued: bool
    issuer_url: bool

    @property
    def proxy(self) -> str | None:
        """The word of the issuer that looks like a proxy's, None when there is none."""
        issuer = self.issuer.lower()
        return next((word.strip() for word in PROXIES if word in issuer), None)

    def evidence(self, now: datetime) -> dict[str, Any]:
        """What of it is shown."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": instant_text(self.not_before),
            "not_after": instant_text(self.not_after),
            "days_left": (self.not_after - now).days,
            "issuer_url_present": self.issuer_url,
            "proxy": self.proxy,
        }


def parse_certificate(der: bytes) -> PeerCertificate | None:
    """A certificate from its DER; None when it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return PeerCertificate(
            subject=_shown(certificate.subject),
            issuer=_shown(certificate.issuer),
            names=_names(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            self_issued=certificate.subject == certificate.issuer,
            issuer_url=_issuer_url(certificate),
        )
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
        return None


def _shown(name: x509.Name) -> str:
    """Organisation and common name: what a person knows an authority by."""
    parts = [
        str(attribute.value)
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
        for attribute in name.get_attributes_for_oid(oid)
    ]
    return " / ".join(parts)[:_CHARACTERS_MAX]


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [str(name) for name in found.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return tuple(name[:_CHARACTERS_MAX] for name in (hosts + addresses)[:NAMES_MAX])


def _issuer_url(certificate: x509.Certificate) -> bool:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(row.access_method == AuthorityInformationAccessOID.CA_ISSUERS for row in access)
