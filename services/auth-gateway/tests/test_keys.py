"""The vault: sealed for one place and version, wrapped anew while it runs, new data keys, nothing plain on disk."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select, update

from auth_gateway.adapters.credential_store import SqlCredentialStore
from auth_gateway.adapters.tables import CredentialRow, TenantKeyRow
from auth_gateway.adapters.tenant_store import SqlTenantStore
from auth_gateway.module import build
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.runtime.database import Database
from common.runtime.keyring import KEY_BYTES, SEALS_AFTER_S, KeyEncryptionKey, LocalKeyWrapper
from common.runtime.leases import Leases
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

SECRET = "canary-s3cret-of-the-vault"
CREDENTIAL: Table = CredentialRow.__table__  # type: ignore[attr-defined]
KEY: Table = TenantKeyRow.__table__  # type: ignore[attr-defined]
OLD, NEW = (base64.b64encode(byte * KEY_BYTES).decode() for byte in (b"o", b"n"))


@asynccontextmanager
async def up(tmp_path: Path, **settings: Any) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway", **settings), build) as suite:
        yield suite


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with up(tmp_path, key=OLD) as suite:
        await make_tenants(suite)
        yield suite


async def make_tenants(suite: RunningSuite) -> None:
    async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
        for tenant in (TENANT, OTHER_TENANT):
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201


async def put(suite: RunningSuite, path: str, secret: str = SECRET) -> None:
    body = {"method": "client_secret_post", "client_id": "a", "token_url": "http://127.0.0.1:9/t", "secret": secret}
    async with suite.client(Role.TENANT_ADMIN) as client:
        etag = (await client.get(path)).headers.get("etag")
        answer = await client.put(path, json=body, headers={"If-Match": etag} if etag else {})
        assert answer.status_code == 200, answer.text


async def new_credential(suite: RunningSuite, name: str = "Epic") -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.post("/auth/v1/integrations", json={"name": name, "vendor": "epic"})
    path = f"/auth/v1/integrations/{made.json()['id']}/credentials/api"
    await put(suite, path)
    return path


def store_of(suite: RunningSuite, clock: FixedClock | None = None, key: str = OLD) -> SqlCredentialStore:
    kek = KeyEncryptionKey(base64.b64decode(key))
    clock = clock or FixedClock(suite.runtime.clock.now())
    tenants = SqlTenantStore(database_of(suite), LocalKeyWrapper(kek), clock)
    leases = Leases(database_of(suite), clock, suite.runtime.ids)
    return SqlCredentialStore(database_of(suite), tenants.keyring, leases, clock, suite.runtime.ids, "/test/1")


def database_of(suite: RunningSuite) -> Database:
    database = suite.host.modules[0].database
    assert database is not None
    return database


async def secret_of(store: SqlCredentialStore, path: str) -> str | None:
    credential = await store.get(TENANT, path.split("/")[4], "api")
    return (await store.secrets(credential)).secret


async def row_of(suite: RunningSuite, path: str) -> dict[str, Any]:
    async with database_of(suite).read() as session:
        statement = select(CREDENTIAL).where(CREDENTIAL.c.integration_id == path.split("/")[4])
        return dict((await session.execute(statement)).mappings().one())


async def change(suite: RunningSuite, path: str, **values: Any) -> None:
    async with database_of(suite).write() as session:
        await session.execute(
            update(CREDENTIAL).where(CREDENTIAL.c.integration_id == path.split("/")[4]).values(**values)
        )


async def refused(store: SqlCredentialStore, path: str) -> str:
    with pytest.raises(SuiteError) as failed:
        await secret_of(store, path)
    return failed.value.code


async def test_a_ciphertext_of_another_row_or_of_an_older_version_is_refused(suite: RunningSuite) -> None:
    first, second = await new_credential(suite), await new_credential(suite, "Cerner")
    store = store_of(suite)
    assert await secret_of(store, first) == SECRET
    older = (await row_of(suite, first))["sealed_secret"]
    await put(suite, first, "the-new-one")
    newer = (await row_of(suite, first))["sealed_secret"]
    assert await secret_of(store, first) == "the-new-one"
    await change(suite, first, sealed_secret=older)
    assert await refused(store, first) == "keys.cannot-open"
    await change(suite, first, sealed_secret=newer)
    assert await secret_of(store, first) == "the-new-one"
    await change(suite, second, sealed_secret=newer, sealed_versions=(await row_of(suite, first))["sealed_versions"])
    assert await refused(store, second) == "keys.cannot-open"


async def test_a_new_data_key_seals_later_and_credentials_move_to_it_as_they_are_used(suite: RunningSuite) -> None:
    path = await new_credential(suite)
    async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator:
        made = await operator.post(f"/auth/v1/tenants/{TENANT}/keys:rotate")
        assert (made.status_code, made.json()["version"]) == (201, 2)
        assert (await operator.post("/auth/v1/tenants/ten_01hf7yat00e008000000000099/keys:rotate")).status_code == 404
    clock = FixedClock(suite.runtime.clock.now())
    now, later = store_of(suite, clock), store_of(suite, FixedClock(clock.now() + timedelta(seconds=SEALS_AFTER_S + 1)))
    assert await secret_of(now, path) == SECRET
    assert (await row_of(suite, path))["sealed_secret"][4] == 1
    assert await secret_of(later, path) == SECRET
    assert (await row_of(suite, path))["sealed_secret"][4] == 2
    assert await secret_of(now, path) == SECRET, "a replica whose clock is behind opens it too"


async def test_all_data_keys_are_wrapped_anew_in_steps_while_everything_is_read(
    suite: RunningSuite, tmp_path: Path
) -> None:
    path = await new_credential(suite)
    async with up(tmp_path, key=NEW, other_keys=OLD) as replaced:
        async with replaced.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator:
            before = (await operator.get("/auth/v1/platform/keys")).json()
            assert before["newest"] not in before["wrapped_by"]
            assert list(before["wrapped_by"].values()) == [3]
            steps = []
            for _ in range(3):
                answer = await operator.post("/auth/v1/platform/keys:rewrap", json={"keys_max": 2})
                steps.append((answer.json()["rewrapped"], answer.json()["remaining"]))
                assert await secret_of(store_of(replaced, key=NEW), path) == SECRET if steps[-1][1] == 0 else True
            assert steps == [(2, 1), (1, 0), (0, 0)]
            after = (await operator.get("/auth/v1/platform/keys")).json()
            assert after["wrapped_by"] == {after["newest"]: 3}
            rotated = await operator.post("/auth/v1/platform/keys:rotate")
            assert (rotated.status_code, rotated.json()["code"]) == (409, "keys.rotated-elsewhere")
            assert (await operator.post("/auth/v1/platform/keys:rewrap", json={"keys_max": 0})).status_code == 422
        async with replaced.client(Role.TENANT_ADMIN) as admin:
            assert (await admin.get(path)).status_code == 200
            assert (await admin.post("/auth/v1/platform/keys:rewrap", json={})).status_code == 403
    assert await refused(store_of(suite, key=OLD), path) == "keys.cannot-open", "the former key opens nothing now"


async def test_a_key_that_cannot_be_read_does_not_hold_up_the_others(suite: RunningSuite, tmp_path: Path) -> None:
    async with database_of(suite).write() as session:
        await session.execute(update(KEY).where(KEY.c.tenant == OTHER_TENANT).values(wrapped=bytes(60)))
    async with (
        up(tmp_path, key=NEW, other_keys=OLD) as replaced,
        replaced.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator,
    ):
        answer = (await operator.post("/auth/v1/platform/keys:rewrap", json={})).json()
    assert (answer["rewrapped"], answer["remaining"], answer["unreadable"]) == (2, 0, 1)


async def test_services_hear_when_a_key_begins_to_seal(suite: RunningSuite) -> None:
    async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator:
        made = (await operator.post(f"/auth/v1/tenants/{TENANT}/keys:rotate")).json()
    async with suite.client(Role.SERVICE) as service:
        keys = (await service.get(f"/auth/v1/tenants/{TENANT}/keys")).json()["keys"]
    assert [(row["version"], row["seals_from"]) for row in keys] == [(1, None), (2, made["seals_from"])]


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_nothing_plain_is_on_disk(suite: RunningSuite, tmp_path: Path) -> None:
    path = await new_credential(suite)
    await put(suite, path, SECRET + "-2")
    raw = everything_on_disk(tmp_path)
    assert b"client_secret_post" in raw
    assert SECRET.encode() not in raw
