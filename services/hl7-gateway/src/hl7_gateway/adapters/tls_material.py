"""PEM texts: what may be shown of them, and TLS contexts made of them.

The TLS library reads certificate and key from a file only. The key lies in it encrypted under a random password that
never leaves this process, for as long as the library reads it.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from hl7_gateway.core.allowed_peers import Certificate
from hl7_gateway.core.connection_configuration import TlsMaterial

_PASSWORD_BYTES: Final = 32


class PemInspector:
    """`TlsInspector`."""

    def inspect(self, material: TlsMaterial, *, below: str) -> Mapping[str, Any]:
        facts: dict[str, Any] = {}
        wrong: list[FieldError] = []
        chain = _certificates(material.certificate_pem, f"{below}/certificate_pem", wrong)
        if chain:
            facts["certificate"] = _facts(chain[0])
        if material.private_key_pem:
            key = _private_key(material.private_key_pem, f"{below}/private_key_pem", wrong)
            if key is not None and chain and _public(key.public_key()) != _public(chain[0].public_key()):
                wrong.append(FieldError(f"{below}/private_key_pem", "mismatch", "It is not the certificate's key."))
            facts["private_key"] = "set"
        authorities = _certificates(material.ca_pem, f"{below}/ca_pem", wrong)
        if authorities:
            facts["authorities"] = [_facts(certificate) for certificate in authorities]
        if wrong:
            raise SuiteError("request.invalid", f"{len(wrong)} field(s) are wrong.", fields=wrong)
        return facts


def client_context(material: TlsMaterial) -> ssl.SSLContext:
    """For a sender: checks the receiver's certificate and name; shows ours when there is one."""
    context = ssl.create_default_context(cadata=material.ca_pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, material)
    return context


def server_context(material: TlsMaterial, *, mutual: bool) -> ssl.SSLContext:
    """For a listener: shows ours; with `mutual`, a client without a certificate of our authorities is refused."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=material.ca_pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    _show(context, material)
    return context


def certificate_of(der: bytes) -> Certificate:
    """What is looked at of a client's certificate."""
    subject = _common_name(x509.load_der_x509_certificate(der).subject)
    return Certificate(subject, hashlib.sha256(der).hexdigest())


def _show(context: ssl.SSLContext, material: TlsMaterial) -> None:
    if not material.certificate_pem:
        return
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    key = serialization.load_pem_private_key(material.private_key_pem.encode(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    with tempfile.TemporaryDirectory(prefix="ps-tls-") as folder:  # mode 0700
        path = Path(folder) / "chain.pem"
        path.write_bytes(material.certificate_pem.encode() + b"\n" + sealed)
        context.load_cert_chain(path, password=password)


def _certificates(pem: str, pointer: str, wrong: list[FieldError]) -> list[x509.Certificate]:
    if not pem:
        return []
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        wrong.append(FieldError(pointer, "unreadable", "Expected certificates in PEM (-----BEGIN CERTIFICATE-----)."))
        return []


def _private_key(pem: str, pointer: str, wrong: list[FieldError]) -> PrivateKeyTypes | None:
    try:
        return serialization.load_pem_private_key(pem.encode(), None)
    except TypeError:
        wrong.append(FieldError(pointer, "encrypted", "The key needs a password: decrypt it first (openssl pkey)."))
    except ValueError:
        wrong.append(FieldError(pointer, "unreadable", "Expected a private key in PEM (-----BEGIN PRIVATE KEY-----)."))
    return None


def _public(key: Any) -> bytes:
    public: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public


def _facts(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": _common_name(certificate.subject),
        "issuer": _common_name(certificate.issuer),
        "not_before": instant_text(certificate.not_valid_before_utc),
        "not_after": instant_text(certificate.not_valid_after_utc),
        "sha256": hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
    }


def _common_name(name: x509.Name) -> str:
    named = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(named[0].value) if named else name.rfc4514_string()
