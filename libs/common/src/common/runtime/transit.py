"""The key-encryption key in OpenBao or HashiCorp Vault: their transit engine wraps the data keys, by HTTP.

The wire: POST /v1/<mount>/encrypt|decrypt|rewrap/<key> with `plaintext` in base64 or `ciphertext` as `vault:v<n>:…`,
POST …/keys/<key>/rotate, GET …/keys/<key> (`latest_version`); `X-Vault-Token`, `X-Vault-Namespace`; errors as
{"errors": [...]}, 503 while sealed (Transit secrets engine, HTTP API of either product).

`rewrap` takes no associated data, so tenant and version are bound otherwise: what is encrypted is the SHA-256 of their
context followed by the data key, and the hash is compared after decryption. What the engine authenticates is the whole.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from common.models.errors import SuiteError
from common.runtime.keyring import KEY_BYTES, PLATFORM, LocalKeyWrapper, WrappedKey, wrap_context
from common.runtime.outbound import Answer, ExchangeContext, Outbound

_PREFIX: Final = b"vault:v"
_HASH_BYTES: Final = 32
_OK: Final = 200
_NO_CONTENT: Final = 204
_BAD_REQUEST: Final = 400
_REFUSED: Final = (401, 403)
_NOT_FOUND: Final = 404
_SEALED: Final = 503
_TOKEN_CHARACTERS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Transit:
    """Where the engine is, and which key of it wraps. `token_file` is read at each call: agents renew it."""

    url: str
    mount: str
    key: str
    token_file: Path
    namespace: str = ""
    timeout_s: float = 5.0


class TransitKeyWrapper:
    """`KeyWrapper` over the transit engine. `former`: opens what was wrapped before the engine was set up."""

    def __init__(self, place: Transit, outbound: Outbound, *, former: LocalKeyWrapper) -> None:
        self._place = place
        self._outbound = outbound
        self._former = former

    async def wrap(self, tenant: str, version: int, key: bytes) -> WrappedKey:
        bound = base64.b64encode(_bound(tenant, version) + key).decode()
        answered = await self._call("POST", "encrypt", {"plaintext": bound})
        return WrappedKey(version, _ciphertext(answered))

    async def unwrap(self, tenant: str, key: WrappedKey) -> bytes:
        if not key.wrapped.startswith(_PREFIX):
            return await self._former.unwrap(tenant, key)
        answered = await self._call("POST", "decrypt", {"ciphertext": _text(key)})
        try:
            plain = base64.b64decode(answered["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise SuiteError("keys.kms-unavailable", "Its answer cannot be read.") from error
        bound = _bound(tenant, key.version)
        if len(plain) != _HASH_BYTES + KEY_BYTES or not hmac.compare_digest(plain[:_HASH_BYTES], bound):
            raise SuiteError("keys.cannot-open", "The wrapped key is another tenant's, or of another version.")
        return plain[_HASH_BYTES:]

    async def rewrap(self, tenant: str, key: WrappedKey) -> WrappedKey:
        if not key.wrapped.startswith(_PREFIX):
            wrapped = await self.wrap(tenant, key.version, await self._former.unwrap(tenant, key))
            return replace(wrapped, seals_from=key.seals_from)
        await self.unwrap(tenant, key)  # what is not this tenant's is not made to look fresh
        if _label(key.wrapped) == await self.newest():
            return key
        answered = await self._call("POST", "rewrap", {"ciphertext": _text(key)})
        return replace(key, wrapped=_ciphertext(answered))

    async def newest(self) -> str:
        answered = await self._call("GET", "keys", None)
        try:
            return f"transit:v{int(answered['latest_version'])}"
        except (KeyError, TypeError, ValueError) as error:
            raise SuiteError("keys.kms-unavailable", "Its answer cannot be read.") from error

    async def label(self, tenant: str, key: WrappedKey) -> str:
        if not key.wrapped.startswith(_PREFIX):
            return await self._former.label(tenant, key)
        return _label(key.wrapped)

    async def rotate(self) -> None:
        await self._call("POST", "keys", {}, suffix="/rotate")

    async def _call(
        self, method: str, operation: str, body: dict[str, str] | None, *, suffix: str = ""
    ) -> dict[str, Any]:
        place = self._place
        headers = {"X-Vault-Token": _token(place.token_file), "X-Vault-Request": "true"}
        if place.namespace:
            headers["X-Vault-Namespace"] = place.namespace
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = f"{place.url.rstrip('/')}/v1/{place.mount.strip('/')}/{operation}/{place.key}{suffix}"
        named = "rotate" if suffix else operation
        context = ExchangeContext(PLATFORM, "", "", "kms", f"transit.{named}")
        try:
            answer = await self._outbound.request(
                method,
                url,
                exchange=context,
                headers=headers,
                content=None if body is None else orjson.dumps(body),
                timeout_s=place.timeout_s,
            )
        except SuiteError as error:
            raise SuiteError("keys.kms-unavailable", f"The call ended with {error.code}.") from error
        return _read(answer, named)


def _read(answer: Answer, operation: str) -> dict[str, Any]:
    """`data` of an answer; raises SuiteError by status. Nothing the service says is repeated."""
    if answer.status in _REFUSED:
        raise SuiteError("keys.kms-refused", f"transit.{operation} was answered {answer.status}.")
    if answer.status == _SEALED:
        raise SuiteError("keys.kms-sealed")
    if answer.status == _NOT_FOUND:
        raise SuiteError("keys.kms-misconfigured", f"transit.{operation} was answered 404.")
    if answer.status == _BAD_REQUEST:
        code = "keys.kms-misconfigured" if operation in {"encrypt", "keys", "rotate"} else "keys.cannot-open"
        raise SuiteError(code, f"transit.{operation} was answered 400.")
    if answer.status == _NO_CONTENT:
        return {}
    if answer.status != _OK:
        raise SuiteError("keys.kms-unavailable", f"transit.{operation} was answered {answer.status}.")
    try:
        data = orjson.loads(answer.body)["data"]
    except (KeyError, TypeError, ValueError) as error:
        raise SuiteError("keys.kms-unavailable", "Its answer cannot be read.") from error
    return data if isinstance(data, dict) else {}


def _token(file: Path) -> str:
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise SuiteError("keys.kms-refused", "PS_KMS_TOKEN_FILE cannot be read.") from error
    if not token or len(token) > _TOKEN_CHARACTERS_MAX or not token.isprintable():
        raise SuiteError("keys.kms-refused", "PS_KMS_TOKEN_FILE holds no token.")
    return token


def _ciphertext(answered: dict[str, Any]) -> bytes:
    text = answered.get("ciphertext")
    if not isinstance(text, str) or not text.isascii() or not text.encode().startswith(_PREFIX):
        raise SuiteError("keys.kms-unavailable", "Its answer cannot be read.")
    return text.encode()


def _text(key: WrappedKey) -> str:
    try:
        return key.wrapped.decode("ascii")
    except UnicodeError as error:
        raise SuiteError("keys.cannot-open") from error


def _label(wrapped: bytes) -> str:
    return "transit:v" + wrapped.removeprefix(_PREFIX).split(b":", 1)[0].decode("ascii", "replace")


def _bound(tenant: str, version: int) -> bytes:
    return hashlib.sha256(wrap_context(tenant, version)).digest()
