"""Certificates of the simulated network: a root, an intermediate, and leaves that are right or wrong in one way.

The root is made in memory, or read from a file that an operator keeps, so that programs can be told to trust it before
they start. Leaf and chain lie in a private directory only while OpenSSL reads them: it reads no certificate otherwise.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from common.models.errors import SuiteError
from simulator.core.toxics import Certificate

_CA_LIFE: Final = timedelta(days=3650)
_LEAF_LIFE: Final = timedelta(days=90)
_ORGANISATION: Final = "Practice Studio Integration Simulator"
_INSPECTION: Final = "Example TLS Inspection"
_HOSTS: Final = ("localhost",)
_ADDRESSES: Final = ("127.0.0.1",)
_ISSUER_URL: Final = "http://intermediate.simulator.invalid/ca.der"


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)


def new_root(now: datetime, name: str = "Root") -> Issuer:
    """A root that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(_ORGANISATION if name == "Root" else _INSPECTION, name)
    return Issuer(
        _signed(subject, key, Issuer(_placeholder(subject, key, now), key), now, _CA_LIFE, authority=True), key
    )


def root_of(path: Path | None, now: datetime) -> Issuer:
    """The root of a PEM file (certificate and key), made there when there is none; without a path, one in memory.

    Raises SuiteError `start.bad-setting` for a file that holds none.
    """
    if path is None:
        return new_root(now)
    if not path.exists():
        root = new_root(now)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_pem(root.certificate) + _key_pem(root.key))
        return root
    try:
        text = path.read_bytes()
        key = serialization.load_pem_private_key(text, None)
        certificate = x509.load_pem_x509_certificate(text)
    except (OSError, ValueError, TypeError) as error:
        raise _no_root(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_root(path)
    return Issuer(certificate, key)


def _no_root(path: Path) -> SuiteError:
    text = f"{path} (PS_SIMULATOR_AUTHORITY_FILE) holds no certificate with an elliptic-curve key"
    return SuiteError("start.bad-setting", text)


class Authority:
    """Server contexts for proxies, each certificate wrong in one way."""

    def __init__(self, root: Issuer, now: datetime) -> None:
        self._now = now
        self._root = root
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(_ORGANISATION, "Intermediate")
        self._intermediate = Issuer(_signed(subject, key, root, now, _CA_LIFE, authority=True), key)
        self._inspection = new_root(now, "Example TLS Inspection")

    @property
    def pem(self) -> str:
        """The root's certificate, to be trusted."""
        return _pem(self._root.certificate).decode()

    def context(self, kind: Certificate) -> ssl.SSLContext:
        """A server's context with a certificate of that kind."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._inspection if kind is Certificate.INTERCEPTION else self._intermediate
        hosts, addresses = (_HOSTS, _ADDRESSES) if kind is not Certificate.OTHER_HOST else (("other.invalid",), ())
        life = -timedelta(days=1) if kind is Certificate.EXPIRED else _LEAF_LIFE
        leaf = _signed(_name(_ORGANISATION, "Proxy"), key, issuer, self._now, life, hosts=hosts, addresses=addresses)
        chain = [leaf]
        if kind not in {Certificate.NO_INTERMEDIATE, Certificate.INTERCEPTION}:
            chain.append(self._intermediate.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory(prefix="simulator-tls-") as directory:
            path = Path(directory) / "chain.pem"
            path.write_bytes(b"".join(map(_pem, chain)) + _key_pem(key))
            context.load_cert_chain(path)
        return context


def _name(organisation: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _placeholder(subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """What a root is signed by: its own name and key."""
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now, now + _CA_LIFE
    )
    return builder.sign(key, hashes.SHA256())


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: Issuer,
    now: datetime,
    life: timedelta,
    *,
    hosts: Sequence[str] = (),
    addresses: Sequence[str] = (),
    authority: bool = False,
) -> x509.Certificate:
    public = issuer.certificate.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)  # type: ignore[arg-type]
        .add_extension(_usage(authority=authority), critical=True)
    )
    if not authority:
        names = [*map(x509.DNSName, hosts), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]
        described = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(_ISSUER_URL)
        )
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.AuthorityInformationAccess([described]), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
