"""Keys of a tenant: sealing bodies (AES-256-GCM) and naming things without naming them (HMAC-SHA256).

Theory of operation. The key-encryption key (KEK) lies in a file, the environment, or later a KMS. Each tenant has data
keys, versioned, wrapped by the KEK and kept by auth-gateway. A service asks for the wrapped keys once, unwraps them
here, and keeps them in memory. Destroying a tenant's wrapped keys makes everything sealed under them unreadable
(crypto-shredding). The tenant, record, field and version are authenticated with every sealed value, so that a
ciphertext moved to another row does not open.

Sealed form: 1 byte format (1), 4 bytes key version (big endian), 12 bytes nonce, ciphertext with its 16-byte tag.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.models.errors import SuiteError
from common.runtime.random_bytes import random_bytes

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORMAT: Final = b"\x01"
_HEADER_BYTES: Final = 1 + 4 + _NONCE_BYTES
_PSEUDONYM_CHARACTERS: Final = 26

PLATFORM: Final = "platform"
"""The name under which keys of the suite itself (not of a tenant) are kept."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A tenant's data key, wrapped by the KEK."""

    version: int
    wrapped: bytes


class KeySource(Protocol):
    """Where a tenant's wrapped keys come from."""

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        """All versions, any order; empty when the tenant has none. Raises SuiteError `keys.unavailable`."""


class KeyEncryptionKey:
    """The key that wraps data keys; other keys of the suite are derived from it by purpose (HKDF, RFC 5869)."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a key-encryption key has 32 bytes")
        self._key = key

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose."""
        return HKDF(hashes.SHA256(), KEY_BYTES, None, purpose.encode()).derive(self._key)

    def wrap(self, tenant: str, version: int, key: bytes) -> WrappedKey:
        """Wrap a data key; tenant and version are authenticated."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.derive("wrap")).encrypt(nonce, key, _context(tenant, "data-key", "", version))
        return WrappedKey(version, nonce + sealed)

    def unwrap(self, tenant: str, key: WrappedKey) -> bytes:
        """The data key; raises SuiteError `keys.cannot-open` when this KEK did not wrap it."""
        nonce, sealed = key.wrapped[:_NONCE_BYTES], key.wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(self.derive("wrap")).decrypt(nonce, sealed, _context(tenant, "data-key", "", key.version))
        except (InvalidTag, ValueError) as error:
            raise SuiteError(
                "keys.cannot-open", "The key-encryption key is not the one that wrapped this tenant's keys."
            ) from error


def new_wrapped_key(kek: KeyEncryptionKey, tenant: str, version: int) -> WrappedKey:
    """A fresh random data key of a tenant, wrapped."""
    return kek.wrap(tenant, version, os.urandom(KEY_BYTES))


def load_key_encryption_key(*, key: str, key_file: str, data: Path) -> KeyEncryptionKey:
    """The KEK from the setting, the file named, or `<data>/key-encryption-key`, which is made at first start (mode
    0600).

    Raises SuiteError `start.bad-setting` when it is not 32 bytes in base64.
    """
    if key:
        return _decode_kek(key, "PS_KEY")
    path = Path(key_file) if key_file else data / "key-encryption-key"
    if not key_file and not path.exists():
        _make_kek(path)
    try:
        text = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise SuiteError("start.bad-setting", f"PS_KEY_FILE: {path} cannot be read: {error.strerror}") from error
    return _decode_kek(text, f"PS_KEY_FILE ({path.name})")


def _make_kek(path: Path) -> None:
    """Write a new key beside the path and link it into place, so that two processes starting at once agree on one."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()


def _context(*parts: str | int) -> bytes:
    """The authenticated data of a sealed value; each part with its length, so that no two contexts look alike."""
    return b"".join(map(_context_part, parts))


def _context_part(part: str | int) -> bytes:
    encoded = str(part).encode()
    return len(encoded).to_bytes(4, "big") + encoded


_repeated_part = lru_cache(maxsize=1024)(_context_part)
"""Of what many values have in common; a record's id is met once, and would only push the others out."""


def _place(tenant: str, record: str, field: str, version: int) -> bytes:
    """`_context` of a sealed value."""
    return _repeated_part(tenant) + _context_part(record) + _repeated_part(field) + _repeated_part(version)


def _decode_kek(text: str, name: str) -> KeyEncryptionKey:
    try:
        return KeyEncryptionKey(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise SuiteError("start.bad-setting", f"{name}: expected 32 bytes in base64") from error


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """The unwrapped keys of one tenant: the newest version seals, every version opens."""

    tenant: str
    _ciphers: dict[int, AESGCM] = field(repr=False)
    _hmac_key: bytes = field(repr=False)

    def seal(self, plaintext: bytes, *, record: str, field: str, version: int = 1) -> bytes:
        """Seal bytes for one place (record, field, version of the record)."""
        key_version = max(self._ciphers)
        nonce = random_bytes(_NONCE_BYTES)
        sealed = self._ciphers[key_version].encrypt(nonce, plaintext, _place(self.tenant, record, field, version))
        return b"%b%b%b%b" % (_FORMAT, key_version.to_bytes(4, "big"), nonce, sealed)

    def open(self, sealed: bytes, *, record: str, field: str, version: int = 1) -> bytes:
        """The bytes sealed for that place; raises SuiteError `keys.cannot-open`."""
        cipher = self._ciphers.get(int.from_bytes(sealed[1:5], "big")) if sealed[:1] == _FORMAT else None
        if cipher is None or len(sealed) < _HEADER_BYTES:
            raise SuiteError("keys.cannot-open")
        try:
            return cipher.decrypt(
                sealed[5:_HEADER_BYTES], sealed[_HEADER_BYTES:], _place(self.tenant, record, field, version)
            )
        except InvalidTag as error:
            raise SuiteError("keys.cannot-open") from error

    def pseudonym(self, domain: str, value: str) -> str:
        """A stable name for a value that may not be shown: 26 base32 characters, the same for the same tenant only."""
        digest = hmac.digest(self._hmac_key, f"{domain}\x00{value}".encode(), "sha256")
        return base64.b32encode(digest).decode().lower()[:_PSEUDONYM_CHARACTERS]


def tenant_keys(tenant: str, keys: dict[int, bytes]) -> TenantKeys:
    """Ready-to-use keys from the raw data keys by version. The HMAC key is derived from the oldest: it must not
    change."""
    derived = {version: HKDF(hashes.SHA256(), KEY_BYTES, None, b"seal").derive(key) for version, key in keys.items()}
    pseudonym_key = HKDF(hashes.SHA256(), KEY_BYTES, None, b"pseudonym").derive(keys[min(keys)])
    return TenantKeys(tenant, {version: AESGCM(key) for version, key in derived.items()}, pseudonym_key)


class KeyRing(Protocol):
    """The port that services use."""

    async def tenant(self, tenant: str) -> TenantKeys:
        """The tenant's keys; raises SuiteError `tenant.not-found` or `keys.unavailable`."""


class WrappedKeyRing:
    """`KeyRing` over a source of wrapped keys; unwrapped keys stay in memory only."""

    def __init__(self, kek: KeyEncryptionKey, source: KeySource) -> None:
        self._kek = kek
        self._source = source
        self._cache: dict[str, TenantKeys] = {}

    async def tenant(self, tenant: str) -> TenantKeys:
        cached = self._cache.get(tenant)
        if cached is not None:
            return cached
        wrapped = await self._source.wrapped(tenant)
        if not wrapped:
            raise SuiteError("tenant.not-found")
        keys = tenant_keys(tenant, {key.version: self._kek.unwrap(tenant, key) for key in wrapped})
        self._cache[tenant] = keys
        return keys

    def forget(self, tenant: str) -> None:
        """Drop a tenant's keys from memory (they were rotated or destroyed)."""
        self._cache.pop(tenant, None)


class StaticKeyRing:
    """`KeyRing` with keys derived from the tenant's name: for tests and tools, never for a running suite."""

    async def tenant(self, tenant: str) -> TenantKeys:
        return tenant_keys(tenant, {1: hashlib.sha256(tenant.encode()).digest()})
