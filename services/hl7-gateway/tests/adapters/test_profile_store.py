"""Site profiles in both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

import hl7_gateway
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.profile_store import SqlProfileStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.site_profile import STANDARD, SiteProfile

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.INTEGRATION_ADMIN}))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database, at: datetime) -> SqlProfileStore:
    return SqlProfileStore(database, FixedClock(at))


def _profile(name: str, at: datetime, tenant: str = TENANT) -> SiteProfile:
    return SiteProfile(tenant, name, 1, "fields: {}\n", {"fields": {}}, "ann", "new", at, at)


def _connection(number: int, profile: str, at: datetime) -> Connection:
    document = {
        "name": f"Connection {number}",
        "direction": "listener",
        "integration_id": "int_x",
        "host": "127.0.0.1",
        "port": 6000 + number,
        "listening": {"validation": {"profile": profile}},
    }
    return Connection(
        id=type_id("con", uuid7(1_700_000_000_000 + number, number)),
        tenant=TENANT,
        state=ConnectionState.ACTIVE,
        version=1,
        configuration=ConnectionDocument.model_validate(document).completed(),
        tls_facts={},
        author="ann",
        reason="created",
        created_at=at,
        updated_at=at,
    )


async def test_a_profile_comes_back_as_it_was_saved(store: SqlProfileStore, at: datetime) -> None:
    told: list[str] = []
    store.changed.append(lambda: told.append("changed"))
    profile = await store.add(CALLER, _profile("desk", at))
    assert await store.find(TENANT, "desk") == profile
    assert await store.find(OTHER_TENANT, "standard") == STANDARD
    for tenant, name in ((OTHER_TENANT, "desk"), (TENANT, "other")):
        with pytest.raises(SuiteError, match=r"profile\.not-found"):
            await store.find(tenant, name)
    with pytest.raises(SuiteError, match=r"profile\.name-taken"):
        await store.add(CALLER, profile)
    after = replace(profile, version=2, text="{}", document={})
    await store.save(CALLER, profile, after)
    with pytest.raises(SuiteError, match=r"request\.version-changed"):
        await store.save(CALLER, profile, after)
    await store.remove(CALLER, after, "gone")
    again = await store.add(CALLER, profile)
    assert again.version == 3
    assert [one.version for one in (await store.versions(TENANT, "desk", None, 10)).items] == [3, 2, 1]
    assert len(told) == 4


async def test_of_two_who_make_the_same_name_one_is_told(store: SqlProfileStore, at: datetime) -> None:
    made = await asyncio.gather(*(store.add(CALLER, _profile("desk", at)) for _ in range(4)), return_exceptions=True)
    failed = [one.code for one in made if isinstance(one, SuiteError)]
    assert failed == ["profile.name-taken"] * 3


async def test_a_profile_is_never_removed_under_a_connection(
    store: SqlProfileStore, database: Database, at: datetime
) -> None:
    """Whoever is second of removing a profile and beginning to use it is told, however close they are."""
    connections = SqlConnectionStore(database, StaticKeyRing(), FixedClock(at))
    for number in range(5):
        name = f"desk-{number}"
        profile = await store.add(CALLER, _profile(name, at))
        outcomes = await asyncio.gather(
            connections.add(CALLER, _connection(number, name, at), TlsMaterial()),
            store.remove(CALLER, profile, "race"),
            return_exceptions=True,
        )
        codes = [one.code for one in outcomes if isinstance(one, SuiteError)]
        assert codes in (["profile.not-found"], ["profile.in-use"]), outcomes
