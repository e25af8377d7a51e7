"""A local suite's first minutes, done once and done again."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.models.errors import SuiteError
from common.runtime.host import Host, compose
from common.runtime.settings import RuntimeSettings
from suite import local
from suite.composition import SERVICES

BASE_URLS = {"simulator": "http://127.0.0.1:9", "auth-gateway": "http://127.0.0.1:9"}


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setenv("PS_HL7_LISTEN_PORT", "0")
    settings = RuntimeSettings(
        data=tmp_path / "data", token_issuer="urn:practice-studio:test", allowed_networks=("127.0.0.0/8",)
    )
    made = compose(list(SERVICES.values()), settings, service="suite")
    async with made.running():
        yield made


@pytest.fixture
def door(host: Host) -> local.Door:
    return local.Door(host.runtime.peers, app=host.app)


async def test_the_tenant_is_made_once(door: local.Door) -> None:
    tenant = await local.ensure_tenant(door)
    assert tenant.startswith("ten_")
    assert await local.ensure_tenant(door) == tenant


async def test_the_token_lies_in_a_file_for_its_owner_only_and_is_kept(door: local.Door, tmp_path: Path) -> None:
    tenant = await local.ensure_tenant(door)
    path = tmp_path / "admin-token"
    token = await local.ensure_admin_token(door, tenant, path)
    assert path.read_text() == token + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await local.ensure_admin_token(door, tenant, path) == token
    async with door.api(token) as api:
        assert (await api.send("GET", "/auth/v1/me"))["tenant"] == tenant


async def test_a_token_that_is_none_is_replaced(door: local.Door, tmp_path: Path) -> None:
    tenant = await local.ensure_tenant(door)
    path = tmp_path / "admin-token"
    path.write_text("not a token\n")
    token = await local.ensure_admin_token(door, tenant, path)
    assert token.count(".") == 2
    async with door.api("not a token") as api:
        with pytest.raises(SuiteError) as refused:
            await api.send("GET", "/auth/v1/me")
    assert refused.value.code == "auth.token-invalid"


async def test_rotating_makes_older_tokens_worthless(host: Host, door: local.Door, tmp_path: Path) -> None:
    tenant = await local.ensure_tenant(door)
    old = await local.ensure_admin_token(door, tenant, tmp_path / "admin-token")
    await local.rotate_issuer(door)
    new = await local.ensure_admin_token(door, tenant, tmp_path / "other")
    async with door.api(new) as api:  # a key that is not known yet makes the key set be fetched again
        await api.send("GET", "/auth/v1/me")
    async with door.api(old) as api:
        with pytest.raises(SuiteError) as refused:
            await api.send("GET", "/auth/v1/me")
    assert refused.value.code == "auth.token-invalid"
    assert host.started


async def test_the_demonstration_is_made_once(door: local.Door, tmp_path: Path) -> None:
    tenant = await local.ensure_tenant(door)
    token = await local.ensure_admin_token(door, tenant, tmp_path / "admin-token")
    integration = await local.ensure_demonstration(door, token, tenant, BASE_URLS)
    assert await local.ensure_demonstration(door, token, tenant, BASE_URLS) == integration
    async with door.api(token) as api:
        listed = (await api.send("GET", "/auth/v1/integrations"))["items"]
        schedules = (await api.send("GET", "/sync/v1/schedules"))["items"]
    assert [row["name"] for row in listed] == [local.INTEGRATION_NAME]
    assert listed[0]["state"] == "active"
    assert sorted(listed[0]["channels"]) == ["fhir", "hl7-in"]
    assert {row["resource"]: row["every_s"] for row in schedules} == local.POLLS_S


async def test_a_second_start_on_another_port_moves_the_demonstration(door: local.Door, tmp_path: Path) -> None:
    tenant = await local.ensure_tenant(door)
    token = await local.ensure_admin_token(door, tenant, tmp_path / "admin-token")
    integration = await local.ensure_demonstration(door, token, tenant, BASE_URLS)
    await local.ensure_demonstration(door, token, tenant, dict.fromkeys(BASE_URLS, "http://127.0.0.1:10"))
    async with door.api(token) as api:
        channel = await api.send("GET", f"/auth/v1/integrations/{integration}/channels/fhir")
        credential = await api.send("GET", f"/auth/v1/integrations/{integration}/credentials/api")
    assert channel["endpoint"].startswith("http://127.0.0.1:10/")
    assert credential["token_url"].startswith("http://127.0.0.1:10/")
