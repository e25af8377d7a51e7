"""The key-encryption key's port: one contract for a key file, a key in the environment, and a transit engine."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.models.errors import SuiteError
from common.runtime.host import claim_port
from common.runtime.keyring import KEY_BYTES, KeyWrapper, LocalKeyWrapper, WrappedKey, load_key_encryption_key
from common.runtime.runtime import Runtime
from common.runtime.transit import Transit, TransitKeyWrapper
from common.testing import make_test_runtime

DATA_KEY = b"d" * KEY_BYTES
TOKEN = "canary-transit-token"
Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeTransit:
    """The transit engine's HTTP API as far as it is used, with real AES-256-GCM. `sealed`, `status`: how it fails."""

    keys: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    sealed: bool = False
    status: int | None = None
    body: bytes | None = None
    calls: list[str] = field(default_factory=list)
    namespace: str = "practice"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, answer = self._answer(scope["method"], scope["path"], headers, body)
        content = self.body if self.body is not None else orjson.dumps(answer)
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        await send(start)
        await send({"type": "http.response.body", "body": b"" if status == 204 else content})

    def _answer(  # noqa: PLR0911 - one return per form of answer
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        self.calls.append(f"{method} {path}")
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if self.status is not None:
            return self.status, {"errors": ["canary-said-by-the-service"], "data": {}}
        if headers.get("x-vault-token") != TOKEN or headers.get("x-vault-namespace") != self.namespace:
            return 403, {"errors": ["permission denied"]}
        if not path.startswith("/v1/our/transit/") or path.split("/")[5] != "practice-studio":
            return 404, {"errors": ["no handler for route"]}
        operation = path.removeprefix("/v1/our/transit/")
        asked = orjson.loads(body) if body else {}
        if operation == "keys/practice-studio/rotate":
            self.keys.append(os.urandom(32))
            return 204, {}
        if operation == "keys/practice-studio":
            return 200, {"data": {"type": "aes256-gcm96", "latest_version": len(self.keys)}}
        if operation.startswith("encrypt/"):
            return 200, {"data": {"ciphertext": self._encrypt(base64.b64decode(asked["plaintext"]))}}
        try:
            plain = self._decrypt(asked["ciphertext"])
        except (InvalidTag, ValueError, IndexError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        if operation.startswith("rewrap/"):
            return 200, {"data": {"ciphertext": self._encrypt(plain)}}
        return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}

    def _encrypt(self, plain: bytes) -> str:
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.keys[-1]).encrypt(nonce, plain, None)
        return f"vault:v{len(self.keys)}:{base64.b64encode(sealed).decode()}"

    def _decrypt(self, text: str) -> bytes:
        _, version, sealed = text.split(":")
        raw = base64.b64decode(sealed, validate=True)
        return AESGCM(self.keys[int(version[1:]) - 1]).decrypt(raw[:12], raw[12:], None)


@asynccontextmanager
async def listening(app: FakeTransit) -> AsyncIterator[str]:
    claimed = claim_port("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    task = asyncio.create_task(server.serve(sockets=[claimed]))
    try:
        yield f"http://127.0.0.1:{claimed.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@dataclass(frozen=True)
class Held:
    """A key-encryption key under test, and how it is replaced: gives the wrapper that holds both."""

    wrapper: KeyWrapper
    replaced: Callable[[], Awaitable[KeyWrapper]]


def key_text(byte: bytes) -> str:
    return base64.b64encode(byte * KEY_BYTES).decode()


@asynccontextmanager
async def in_a_file(tmp_path: Path) -> AsyncIterator[Held]:
    for name in (b"a", b"b"):
        (tmp_path / name.decode()).write_text(key_text(name))
    files = str(tmp_path / "a"), str(tmp_path / "b")

    async def replaced() -> KeyWrapper:
        kek = load_key_encryption_key(key="", key_file=files[1], data=tmp_path, other_files=[files[0]])
        return LocalKeyWrapper(kek)

    yield Held(LocalKeyWrapper(load_key_encryption_key(key="", key_file=files[0], data=tmp_path)), replaced)


@asynccontextmanager
async def in_the_environment(tmp_path: Path) -> AsyncIterator[Held]:
    async def replaced() -> KeyWrapper:
        kek = load_key_encryption_key(key=key_text(b"b"), key_file="", data=tmp_path, others=key_text(b"a"))
        return LocalKeyWrapper(kek)

    yield Held(LocalKeyWrapper(load_key_encryption_key(key=key_text(b"a"), key_file="", data=tmp_path)), replaced)


@asynccontextmanager
async def in_transit(tmp_path: Path) -> AsyncIterator[Held]:
    async with transit(tmp_path, FakeTransit()) as wrapper:

        async def replaced() -> KeyWrapper:
            await wrapper.rotate()
            return wrapper

        yield Held(wrapper, replaced)


@asynccontextmanager
async def transit(tmp_path: Path, fake: FakeTransit, **changed: Any) -> AsyncIterator[TransitKeyWrapper]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    runtime: Runtime = make_test_runtime(tmp_path)
    async with listening(fake) as url:
        place = Transit(url, "our/transit", "practice-studio", tmp_path / "token", "practice", 2.0)
        for name, value in changed.items():
            object.__setattr__(place, name, value)
        yield TransitKeyWrapper(place, runtime.outbound, former=LocalKeyWrapper(runtime.kek))
        await runtime.outbound.close()


@asynccontextmanager
async def in_openbao(tmp_path: Path) -> AsyncIterator[Held]:
    """A real server in development mode, where its program is installed."""
    program = shutil.which("bao") or shutil.which("vault")
    if program is None:
        pytest.skip("neither bao nor vault is installed: the contract ran on the fake engine only")
    claimed = claim_port("127.0.0.1", 0)
    address = f"127.0.0.1:{claimed.getsockname()[1]}"
    claimed.close()
    options = ("server", "-dev", f"-dev-root-token-id={TOKEN}", f"-dev-listen-address={address}")
    server = await asyncio.create_subprocess_exec(program, *options, env={"HOME": str(tmp_path), "PATH": os.defpath})
    try:
        url, headers = f"http://{address}/v1", {"X-Vault-Token": TOKEN}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
            await wait_until_it_answers(client, f"{url}/sys/health")
            (await client.post(f"{url}/sys/mounts/our/transit", json={"type": "transit"})).raise_for_status()
            (await client.post(f"{url}/our/transit/keys/practice-studio", json={})).raise_for_status()
        (tmp_path / "token").write_text(TOKEN)
        runtime = make_test_runtime(tmp_path)
        place = Transit(f"http://{address}", "our/transit", "practice-studio", tmp_path / "token")
        wrapper = TransitKeyWrapper(place, runtime.outbound, former=LocalKeyWrapper(runtime.kek))

        async def replaced() -> KeyWrapper:
            await wrapper.rotate()
            return wrapper

        yield Held(wrapper, replaced)
        await runtime.outbound.close()
    finally:
        server.terminate()
        await server.wait()


async def wait_until_it_answers(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(100):
        try:
            if (await client.get(url)).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError("the server did not answer within 10 s")


HOLDERS = {"file": in_a_file, "environment": in_the_environment, "transit": in_transit, "openbao": in_openbao}


@pytest.fixture(params=list(HOLDERS.values()), ids=list(HOLDERS))
async def held(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Held]:
    async with request.param(tmp_path) as found:
        yield found


async def code_of(work: Awaitable[Any]) -> str:
    with pytest.raises(SuiteError) as failed:
        await work
    assert "canary" not in str(failed.value)
    return failed.value.code


class TestContract:
    """What every holder of the key-encryption key does."""

    async def test_what_is_wrapped_is_unwrapped_and_not_readable(self, held: Held) -> None:
        wrapped = await held.wrapper.wrap("ten_1", 1, DATA_KEY)
        assert await held.wrapper.unwrap("ten_1", wrapped) == DATA_KEY
        assert DATA_KEY not in wrapped.wrapped
        assert (await held.wrapper.wrap("ten_1", 1, DATA_KEY)).wrapped != wrapped.wrapped

    async def test_tenant_and_version_are_authenticated(self, held: Held) -> None:
        wrapped = await held.wrapper.wrap("ten_1", 1, DATA_KEY)
        assert await code_of(held.wrapper.unwrap("ten_2", wrapped)) == "keys.cannot-open"
        assert await code_of(held.wrapper.unwrap("ten_1", WrappedKey(2, wrapped.wrapped))) == "keys.cannot-open"
        assert await code_of(held.wrapper.rewrap("ten_2", wrapped)) == "keys.cannot-open"

    async def test_an_altered_key_is_refused(self, held: Held) -> None:
        wrapped = (await held.wrapper.wrap("ten_1", 1, DATA_KEY)).wrapped
        altered = wrapped[:-8] + bytes(8)
        for broken in (altered, wrapped[:20], b"", bytes(60)):
            assert await code_of(held.wrapper.unwrap("ten_1", WrappedKey(1, broken))) == "keys.cannot-open"

    async def test_both_keys_are_read_while_one_replaces_the_other(self, held: Held) -> None:
        before = await held.wrapper.wrap("ten_1", 1, DATA_KEY)
        old = await held.wrapper.newest()
        wrapper = await held.replaced()
        assert await wrapper.unwrap("ten_1", before) == DATA_KEY
        assert (await wrapper.label("ten_1", before), await wrapper.newest() == old) == (old, False)
        after = await wrapper.rewrap("ten_1", before)
        assert await wrapper.unwrap("ten_1", after) == DATA_KEY
        assert await wrapper.label("ten_1", after) == await wrapper.newest()
        assert await wrapper.rewrap("ten_1", after) == after, "what is new already stays as it is"


async def test_keys_wrapped_before_the_engine_was_set_up_are_opened_and_taken_over(tmp_path: Path) -> None:
    async with transit(tmp_path, FakeTransit()) as wrapper:
        local = LocalKeyWrapper(make_test_runtime(tmp_path).kek)
        before = await local.wrap("ten_1", 1, DATA_KEY)
        assert await wrapper.unwrap("ten_1", before) == DATA_KEY
        assert (await wrapper.label("ten_1", before)).startswith("local:")
        after = await wrapper.rewrap("ten_1", before)
        assert after.wrapped.startswith(b"vault:v1:")
        assert await wrapper.unwrap("ten_1", after) == DATA_KEY


@pytest.mark.parametrize(
    ("sealed", "status", "body", "code"),
    [
        (True, None, None, "keys.kms-sealed"), (False, 403, None, "keys.kms-refused"),
        (False, 404, None, "keys.kms-misconfigured"), (False, 400, None, "keys.kms-misconfigured"),
        (False, 500, None, "keys.kms-unavailable"), (False, 429, None, "keys.kms-unavailable"),
        (False, 302, None, "keys.kms-unavailable"), (False, 200, b"<html>", "keys.kms-unavailable"),
        (False, 200, b'{"data": {"ciphertext": "plain"}}', "keys.kms-unavailable"),
        (False, 200, b'{"data": {}}', "keys.kms-unavailable"),
    ],
)  # fmt: skip
async def test_how_the_engine_fails_is_named(
    tmp_path: Path, sealed: bool, status: int | None, body: bytes | None, code: str
) -> None:
    async with transit(tmp_path, FakeTransit(sealed=sealed, status=status, body=body)) as wrapper:
        assert await code_of(wrapper.wrap("ten_1", 1, DATA_KEY)) == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"namespace": "other"}, "keys.kms-refused"), ({"key": "unknown"}, "keys.kms-misconfigured"),
        ({"mount": "elsewhere/at"}, "keys.kms-misconfigured"), ({"token_file": Path("none")}, "keys.kms-refused"),
        ({"url": "http://127.0.0.1:9"}, "keys.kms-unavailable"),
        ({"url": "http://169.254.169.254"}, "keys.kms-unavailable"),
    ],
)  # fmt: skip
async def test_what_is_set_wrong_is_named(tmp_path: Path, changed: dict[str, Any], code: str) -> None:
    async with transit(tmp_path, FakeTransit(), **changed) as wrapper:
        assert await code_of(wrapper.wrap("ten_1", 1, DATA_KEY)) == code


async def test_a_token_that_was_renewed_is_used_at_once(tmp_path: Path) -> None:
    async with transit(tmp_path, FakeTransit()) as wrapper:
        (tmp_path / "token").write_text("old")
        assert await code_of(wrapper.wrap("ten_1", 1, DATA_KEY)) == "keys.kms-refused"
        (tmp_path / "token").write_text(TOKEN)
        assert (await wrapper.wrap("ten_1", 1, DATA_KEY)).version == 1


async def test_a_local_key_is_rotated_by_its_settings(tmp_path: Path) -> None:
    async with in_a_file(tmp_path) as held:
        assert await code_of(held.wrapper.rotate()) == "keys.rotated-elsewhere"
