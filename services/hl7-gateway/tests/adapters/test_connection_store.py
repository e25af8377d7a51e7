"""Connections in both databases, and what is read of PEM texts."""

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

import hl7_gateway
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.connection_store import CONNECTION, SqlConnectionStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.adapters.tls_material import PemInspector, client_context, server_context
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.INTEGRATION_ADMIN}))
SECRET = TlsMaterial("certificate", "CANARY-KEY", "authority")
New = Callable[..., Connection]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database, at: datetime) -> SqlConnectionStore:
    return SqlConnectionStore(database, StaticKeyRing(), FixedClock(at))


@pytest.fixture
def new(at: datetime) -> New:
    def make(number: int, tenant: str = TENANT, **changed: Any) -> Connection:
        document = {
            "name": f"Connection {number}",
            "direction": "listener",
            "integration_id": "int_x",
            "host": "127.0.0.1",
            "port": 6000 + number,
            **changed,
        }
        return Connection(
            id=type_id("con", uuid7(1_700_000_000_000 + number, number)),
            tenant=tenant,
            state=ConnectionState.ACTIVE,
            version=1,
            configuration=ConnectionDocument.model_validate(document).completed(),
            tls_facts={"private_key": "set"},
            author="ann",
            reason="created",
            created_at=at,
            updated_at=at,
        )

    return make


async def test_a_connection_comes_back_as_it_was_saved(store: SqlConnectionStore, new: New) -> None:
    connection = new(1)
    await store.add(CALLER, connection, SECRET)
    assert await store.get(TENANT, connection.id) == connection
    assert await store.material(connection) == SECRET
    with pytest.raises(SuiteError, match=r"connection\.not-found"):
        await store.get(OTHER_TENANT, connection.id)


async def test_the_material_lies_sealed_and_goes_with_the_connection(
    store: SqlConnectionStore, database: Database, new: New
) -> None:
    connection = new(1)
    await store.add(CALLER, connection, SECRET)
    async with database.read() as session:
        (row,) = (await session.execute(CONNECTION.select())).all()
        assert "CANARY" not in str(row._asdict())
    await store.remove(CALLER, connection, "moved")
    async with database.read() as session:
        (row,) = (await session.execute(CONNECTION.select())).all()
        assert row.sealed_tls is None


async def test_every_change_is_a_version_with_author_and_reason(
    store: SqlConnectionStore, database: Database, new: New
) -> None:
    first = new(1)
    await store.add(CALLER, first, TlsMaterial())
    second = replace(first, version=2, state=ConnectionState.PAUSED, author="bob", reason="night work")
    await store.save(CALLER, first, second, None, "connection.paused")
    with pytest.raises(SuiteError, match=r"request\.version-changed"):
        await store.save(CALLER, first, replace(second, reason="later"), None, "connection.paused")
    await store.remove(CALLER, second, "no more")
    found = await store.versions(TENANT, first.id, None, 10)
    assert [(row.version, row.state, row.author, row.reason) for row in found.items] == [
        (2, "paused", "bob", "night work"),
        (1, "active", "ann", "created"),
    ]
    page = await store.versions(TENANT, first.id, None, 1)
    assert [row.version for row in (await store.versions(TENANT, first.id, page.next, 1)).items] == [1]
    with pytest.raises(SuiteError, match=r"connection\.not-found"):
        await store.versions(OTHER_TENANT, first.id, None, 10)
    async with database.read() as session:
        entries = (await audit.search(session, TENANT, {}, None, 10)).items
    assert [(entry["action"], entry["reason"]) for entry in entries] == [
        ("connection.removed", "no more"),
        ("connection.paused", "night work"),
        ("connection.created", "created"),
    ]


async def test_names_are_taken_once_and_free_again_after_removal(store: SqlConnectionStore, new: New) -> None:
    first = new(1)
    await store.add(CALLER, first, TlsMaterial())
    twin = new(2, name="Connection 1")
    with pytest.raises(SuiteError, match=r"connection\.name-taken"):
        await store.add(CALLER, twin, TlsMaterial())
    await store.add(CALLER, new(3, tenant=OTHER_TENANT, name="Connection 1"), TlsMaterial())
    await store.remove(CALLER, first, "gone")
    await store.add(CALLER, twin, TlsMaterial())
    assert [one.id for one in (await store.list(TENANT, None, 10)).items] == [twin.id]


async def test_a_port_is_listened_on_once_and_its_holder_is_named(store: SqlConnectionStore, new: New) -> None:
    await store.add(CALLER, new(1, port=7000), TlsMaterial())
    for twin in (new(2, port=7000), new(2, port=7000, host="0.0.0.0")):
        with pytest.raises(SuiteError) as refused:
            await store.add(CALLER, twin, TlsMaterial())
        assert refused.value.code == "connection.port-taken"
        assert "Connection 1" in str(refused.value.detail)
    with pytest.raises(SuiteError) as refused:
        await store.add(CALLER, new(3, tenant=OTHER_TENANT, port=7000), TlsMaterial())
    assert "Connection 1" not in str(refused.value.detail)
    await store.add(CALLER, new(4, port=7000, host="127.0.0.2"), TlsMaterial())
    await store.add(CALLER, new(5, port=7000, direction="sender"), TlsMaterial())


async def test_the_list_goes_by_pages(store: SqlConnectionStore, new: New) -> None:
    made = [new(number) for number in range(7)]
    for connection in made:
        await store.add(CALLER, connection, TlsMaterial())
    await store.add(CALLER, new(9, tenant=OTHER_TENANT), TlsMaterial())
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(TENANT, cursor, 3)
        seen += [one.id for one in page.items]
        if (cursor := page.next) is None:
            break
    assert seen == [one.id for one in made]
    with pytest.raises(SuiteError, match=r"request\.bad-cursor"):
        await store.list(TENANT, "nonsense", 3)


async def test_who_asked_is_told_of_a_change_after_its_commit(store: SqlConnectionStore, new: New) -> None:
    told: list[str] = []
    store.changed.append(lambda: told.append("changed"))
    await store.add(CALLER, new(1, direction="sender"), TlsMaterial())
    assert told == ["changed"]
    assert [one.id for one in await store.active("sender")] == [new(1).id]
    assert await store.active("listener") == []


def test_facts_of_certificates_and_contexts_made_of_them(authority: Any) -> None:
    certificate, key = authority.issue("receiver.example")
    material = TlsMaterial(certificate, key, authority.pem)
    facts = PemInspector().inspect(material, below="/tls")
    assert facts["certificate"]["subject"] == "receiver.example"
    assert facts["certificate"]["issuer"] == "Test Authority"
    assert facts["private_key"] == "set"
    assert [one["subject"] for one in facts["authorities"]] == ["Test Authority"]
    assert "PRIVATE" not in str(facts)
    assert client_context(material).verify_mode is ssl.CERT_REQUIRED
    assert server_context(material, mutual=True).verify_mode is ssl.CERT_REQUIRED
    assert server_context(material, mutual=False).verify_mode is ssl.CERT_NONE


def test_pem_texts_that_cannot_be_used_are_named(authority: Any) -> None:
    certificate, key = authority.issue()
    _, other_key = authority.issue()
    locked = (
        serialization.load_pem_private_key(key.encode(), None)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
        .decode()
    )
    for material, pointer, code in (
        (TlsMaterial("nonsense", "", ""), "/tls/certificate_pem", "unreadable"),
        (TlsMaterial("", "nonsense", ""), "/tls/private_key_pem", "unreadable"),
        (TlsMaterial("", "", key), "/tls/ca_pem", "unreadable"),
        (TlsMaterial(certificate, locked, ""), "/tls/private_key_pem", "encrypted"),
        (TlsMaterial(certificate, other_key, ""), "/tls/private_key_pem", "mismatch"),
    ):
        with pytest.raises(SuiteError) as refused:
            PemInspector().inspect(material, below="/tls")
        assert [(one.pointer, one.code) for one in refused.value.fields] == [(pointer, code)]
