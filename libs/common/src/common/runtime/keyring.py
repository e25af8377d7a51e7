"""Keys of a tenant: sealing bodies (AES-256-GCM) and naming things without naming them (HMAC-SHA256).

Theory of operation. The key-encryption key (KEK) lies in a file, the environment, or a KMS (`common.runtime.transit`).
Each tenant has data keys, versioned, wrapped by the KEK and kept by auth-gateway. A service asks for the wrapped keys,
unwraps them here, keeps them in memory and looks again every five minutes. Destroying a tenant's wrapped keys makes
everything sealed under them unreadable (crypto-shredding). The tenant, record, field and version are authenticated with
every sealed value, so that a ciphertext moved to another row does not open.

Rotation without a pause. A new KEK is first made readable everywhere (PS_OTHER_KEYS), then made the one that wraps;
then all data keys are wrapped anew (`rewrap`), then the old one is taken away. A new data key is first known everywhere
and seals only after every ring has looked again (`seals_from`); the versions before it open what they sealed.

Sealed form: 1 byte format (1), 4 bytes key version (big endian), 12 bytes nonce, ciphertext with its 16-byte tag.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.random_bytes import random_bytes

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORMAT: Final = b"\x01"
_HEADER_BYTES: Final = 1 + 4 + _NONCE_BYTES
_PSEUDONYM_CHARACTERS: Final = 26

PLATFORM: Final = "platform"
"""The name under which keys of the suite itself (not of a tenant) are kept."""

RING_LOOKS_EVERY_S: Final = 300.0
SEALS_AFTER_S: Final = 2 * RING_LOOKS_EVERY_S
"""How long after it is made a data key seals: by then every ring has looked again and can open what it sealed."""
_RING_KEEPS_S: Final = 24 * 60 * 60.0


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A tenant's data key, wrapped by the KEK."""

    version: int
    wrapped: bytes = field(repr=False)
    seals_from: datetime | None = None
    """From when on it seals (None: from the beginning); it opens at once."""


class KeySource(Protocol):
    """Where a tenant's wrapped keys come from."""

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        """All versions, any order; empty when the tenant has none. Raises SuiteError `keys.unavailable`."""


class KeyEncryptionKey:
    """The key that wraps data keys; other keys of the suite are derived from it by purpose (HKDF, RFC 5869).

    `others` are read as well: the one before it or the one after it, while both are in use.
    """

    def __init__(self, key: bytes, others: Sequence[KeyEncryptionKey] = ()) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a key-encryption key has 32 bytes")
        self._key = key
        self._others = tuple(others)

    @property
    def label(self) -> str:
        """A name for it that says nothing of it: 8 hexadecimal digits."""
        return self.derive("label")[:4].hex()

    def all(self) -> tuple[KeyEncryptionKey, ...]:
        """Itself, then the others that are read."""
        return (self, *self._others)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose."""
        return HKDF(hashes.SHA256(), KEY_BYTES, None, purpose.encode()).derive(self._key)

    def wrap(self, tenant: str, version: int, key: bytes) -> WrappedKey:
        """Wrap a data key; tenant and version are authenticated."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.derive("wrap")).encrypt(nonce, key, wrap_context(tenant, version))
        return WrappedKey(version, nonce + sealed)

    def unwrap(self, tenant: str, key: WrappedKey) -> bytes:
        """The data key; raises SuiteError `keys.cannot-open` when neither this KEK nor the others wrapped it."""
        return self._unwrapped(tenant, key)[1]

    def wrapped_by(self, tenant: str, key: WrappedKey) -> str:
        """The label of the KEK that wrapped it; raises as `unwrap`."""
        return self._unwrapped(tenant, key)[0].label

    def _unwrapped(self, tenant: str, key: WrappedKey) -> tuple[KeyEncryptionKey, bytes]:
        nonce, sealed = key.wrapped[:_NONCE_BYTES], key.wrapped[_NONCE_BYTES:]
        context = wrap_context(tenant, key.version)
        for kek in self.all():
            try:
                return kek, AESGCM(kek.derive("wrap")).decrypt(nonce, sealed, context)
            except (InvalidTag, ValueError):
                continue
        raise SuiteError("keys.cannot-open", "The key-encryption key is not the one that wrapped this tenant's keys.")


class KeyWrapper(Protocol):
    """The port of the key-encryption key, wherever it lies. Tenant and version are authenticated.

    All raise SuiteError `keys.cannot-open`; one that is asked over a network also `keys.kms-unavailable`,
    `keys.kms-sealed`, `keys.kms-refused` or `keys.kms-misconfigured`.
    """

    async def wrap(self, tenant: str, version: int, key: bytes) -> WrappedKey:
        """A data key of 32 bytes, wrapped by the newest KEK."""

    async def unwrap(self, tenant: str, key: WrappedKey) -> bytes:
        """The data key."""

    async def rewrap(self, tenant: str, key: WrappedKey) -> WrappedKey:
        """The same data key wrapped by the newest KEK; itself when that is what wrapped it."""

    async def newest(self) -> str:
        """The label of the KEK that wraps."""

    async def label(self, tenant: str, key: WrappedKey) -> str:
        """The label of the KEK that wrapped it."""

    async def rotate(self) -> None:
        """A new KEK, where it is made by the holder; SuiteError `keys.rotated-elsewhere` where it is a setting."""


class LocalKeyWrapper:
    """`KeyWrapper` over a key from a file or the environment."""

    def __init__(self, kek: KeyEncryptionKey) -> None:
        self._kek = kek

    async def wrap(self, tenant: str, version: int, key: bytes) -> WrappedKey:
        return self._kek.wrap(tenant, version, key)

    async def unwrap(self, tenant: str, key: WrappedKey) -> bytes:
        return self._kek.unwrap(tenant, key)

    async def rewrap(self, tenant: str, key: WrappedKey) -> WrappedKey:
        if self._kek.wrapped_by(tenant, key) == self._kek.label:
            return key
        wrapped = self._kek.wrap(tenant, key.version, self._kek.unwrap(tenant, key))
        return replace(wrapped, seals_from=key.seals_from)

    async def newest(self) -> str:
        return f"local:{self._kek.label}"

    async def label(self, tenant: str, key: WrappedKey) -> str:
        return f"local:{self._kek.wrapped_by(tenant, key)}"

    async def rotate(self) -> None:
        raise SuiteError("keys.rotated-elsewhere")


def new_wrapped_key(kek: KeyEncryptionKey, tenant: str, version: int) -> WrappedKey:
    """A fresh random data key of a tenant, wrapped."""
    return kek.wrap(tenant, version, os.urandom(KEY_BYTES))


def new_data_key() -> bytes:
    """A fresh random data key, not wrapped."""
    return os.urandom(KEY_BYTES)


def load_key_encryption_key(
    *, key: str, key_file: str, data: Path, others: str = "", other_files: Sequence[str] = ()
) -> KeyEncryptionKey:
    """The KEK from the setting, the file named, or `<data>/key-encryption-key`, which is made at first start (mode
    0600); with the other keys that are read: from a setting (base64, separated by commas) and from files.

    Raises SuiteError `start.bad-setting` when one is not 32 bytes in base64.
    """
    read = [_decode_kek(text.strip(), "PS_OTHER_KEYS") for text in others.split(",") if text.strip()]
    read += [_read_kek(Path(name), "PS_OTHER_KEY_FILES") for name in other_files]
    if key:
        return _decode_kek(key, "PS_KEY", read)
    path = Path(key_file) if key_file else data / "key-encryption-key"
    if not key_file and not path.exists():
        _make_kek(path)
    return _read_kek(path, "PS_KEY_FILE", read)


def _read_kek(path: Path, setting: str, others: Sequence[KeyEncryptionKey] = ()) -> KeyEncryptionKey:
    try:
        text = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise SuiteError("start.bad-setting", f"{setting}: {path} cannot be read: {error.strerror}") from error
    return _decode_kek(text, f"{setting} ({path.name})", others)


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


def wrap_context(tenant: str, version: int) -> bytes:
    """What is authenticated with a wrapped data key."""
    return _context(tenant, "data-key", "", version)


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


def _decode_kek(text: str, name: str, others: Sequence[KeyEncryptionKey] = ()) -> KeyEncryptionKey:
    try:
        return KeyEncryptionKey(base64.b64decode(text, validate=True), others)
    except ValueError as error:
        raise SuiteError("start.bad-setting", f"{name}: expected 32 bytes in base64") from error


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """The unwrapped keys of one tenant: `sealing` is the version that seals, every version opens."""

    tenant: str
    _ciphers: dict[int, AESGCM] = field(repr=False)
    _hmac_key: bytes = field(repr=False)
    sealing: int

    def stale(self, sealed: bytes) -> bool:
        """Whether a sealed value was sealed by a key before the one that seals now."""
        return sealed[:1] == _FORMAT and int.from_bytes(sealed[1:5], "big") < self.sealing

    def seal(self, plaintext: bytes, *, record: str, field: str, version: int = 1) -> bytes:
        """Seal bytes for one place (record, field, version of the record)."""
        key_version = self.sealing
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


def tenant_keys(tenant: str, keys: dict[int, bytes], sealing: int | None = None) -> TenantKeys:
    """Ready-to-use keys from the raw data keys by version; `sealing`: the version that seals (None: the newest). The
    HMAC key is derived from the oldest: it must not change."""
    derived = {version: HKDF(hashes.SHA256(), KEY_BYTES, None, b"seal").derive(key) for version, key in keys.items()}
    pseudonym_key = HKDF(hashes.SHA256(), KEY_BYTES, None, b"pseudonym").derive(keys[min(keys)])
    ciphers = {version: AESGCM(key) for version, key in derived.items()}
    return TenantKeys(tenant, ciphers, pseudonym_key, max(keys) if sealing is None else sealing)


class KeyRing(Protocol):
    """The port that services use."""

    async def tenant(self, tenant: str) -> TenantKeys:
        """The tenant's keys; raises SuiteError `tenant.not-found` or `keys.unavailable`."""


class WrappedKeyRing:
    """`KeyRing` over a source of wrapped keys; unwrapped keys stay in memory only.

    It looks again every `RING_LOOKS_EVERY_S`; while the source or the KMS is away, what it holds serves for a day.
    """

    def __init__(self, wrapper: KeyWrapper, source: KeySource, clock: Clock) -> None:
        self._wrapper = wrapper
        self._source = source
        self._clock = clock
        self._cache: dict[str, tuple[TenantKeys, float]] = {}

    async def tenant(self, tenant: str) -> TenantKeys:
        held = self._cache.get(tenant)
        now = self._clock.monotonic()
        if held is not None and now - held[1] < RING_LOOKS_EVERY_S:
            return held[0]
        try:
            keys = await self._load(tenant)
        except SuiteError as error:
            if error.code == "tenant.not-found":
                self._cache.pop(tenant, None)
            if held is None or not error.transient or now - held[1] > _RING_KEEPS_S:
                raise
            return held[0]
        self._cache[tenant] = (keys, now)
        return keys

    def forget(self, tenant: str) -> None:
        """Drop what is held in memory: the tenant's keys were destroyed."""
        self._cache.pop(tenant, None)

    async def _load(self, tenant: str) -> TenantKeys:
        wrapped = await self._source.wrapped(tenant)
        if not wrapped:
            raise SuiteError("tenant.not-found")
        now = self._clock.now()
        sealing = [key.version for key in wrapped if key.seals_from is None or key.seals_from <= now]
        raw = {key.version: await self._wrapper.unwrap(tenant, key) for key in wrapped}
        return tenant_keys(tenant, raw, max(sealing) if sealing else min(raw))


class StaticKeyRing:
    """`KeyRing` with keys derived from the tenant's name: for tests and tools, never for a running suite."""

    async def tenant(self, tenant: str) -> TenantKeys:
        return tenant_keys(tenant, {1: hashlib.sha256(tenant.encode()).digest()})
