"""The ends of secrets, certificates and passwords are listed, and announced 30, 14, 7 and 1 days ahead, once each,
whichever replica looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from auth_gateway.adapters.expiry_store import SqlExpiryStore
from auth_gateway.core.expiry import (
    KINDS,
    NOTICE_DAYS,
    Source,
    Statement,
    Watched,
    certificate_end,
    ends_of,
    notice_due,
)
from auth_gateway.module import build
from auth_gateway.use_cases.announce_expiry import announce_expiry
from common.models.access import Role
from common.models.clock import FixedClock
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

END = datetime(2999, 6, 1, tzinfo=UTC)  # the running watch itself never comes near it
CHANGED = datetime(2026, 1, 1, tzinfo=UTC)
WATCHED = Watched("ten_1", "int_1", "api", "client_secret_basic", "epic", None, CHANGED, CHANGED)


def ahead(days: float) -> datetime:
    return END - timedelta(days=days)


def certificate(not_after: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(not_after - timedelta(days=365)).not_valid_after(not_after).sign(key, hashes.SHA256())
    )  # fmt: skip
    return built.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("days_left", "noticed", "due"),
    [
        (31, None, None), (30, None, 30), (29, 30, None), (14, 30, 14), (7, 14, 7), (6.9, 7, None), (1, 7, 1),
        (0.5, 1, None), (3, None, 7), (-5, None, 1), (-5, 1, None),
    ],
)  # fmt: skip
def test_a_mark_is_announced_once(days_left: float, noticed: int | None, due: int | None) -> None:
    assert notice_due(END, noticed, ahead(days_left)) == due
    assert notice_due(None, noticed, ahead(days_left)) is None


PEM = certificate(END)


@pytest.mark.parametrize(
    ("watched", "stated", "kind", "end", "source"),
    [
        (replace(WATCHED, secret_expires_at=END), {}, "client-secret", END, Source.STATED),
        (WATCHED, {}, "client-secret", None, Source.UNKNOWN),
        (WATCHED, {"client-secret": Statement(END)}, "client-secret", END, Source.STATED),
        (replace(WATCHED, method="mutual_tls", options={"certificate": PEM}), {}, "certificate", END,
         Source.CERTIFICATE),
        (replace(WATCHED, method="mutual_tls", options={"certificate": "broken"}), {}, "certificate", None,
         Source.UNKNOWN),
        (replace(WATCHED, method="private_key_jwt", secret_expires_at=END), {}, "epic-app", END, Source.STATED),
        (replace(WATCHED, method="unity"), {}, "unity-service", CHANGED + timedelta(days=182), Source.COUNTED),
        (replace(WATCHED, method="unity"), {}, "unity-user", CHANGED + timedelta(days=90), Source.COUNTED),
        (replace(WATCHED, method="unity"), {"unity-user": Statement(life_days=60)}, "unity-user",
         CHANGED + timedelta(days=60), Source.COUNTED),
        (replace(WATCHED, grant="authorization_code"), {"refresh-token": Statement(life_days=30)}, "refresh-token",
         CHANGED + timedelta(days=30), Source.COUNTED),
        (replace(WATCHED, grant="authorization_code"), {}, "refresh-token", None, Source.UNKNOWN),
    ],
)  # fmt: skip
def test_where_a_date_comes_from(
    watched: Watched, stated: dict[str, Statement], kind: str, end: datetime | None, source: Source
) -> None:
    found = {row.kind.name: row for row in ends_of(watched, stated)}
    assert (found[kind].expires_at, found[kind].source) == (end, source)


def test_a_chain_ends_with_its_first_certificate() -> None:
    assert certificate_end(certificate(END) + certificate(ahead(10))) == ahead(10)
    assert all(row.title and row.next_step for row in KINDS.values())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def suite(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningSuite]:
    stored = {"database_url": request.getfixturevalue("postgres_database")} if request.param == "postgresql" else {}
    async with running(make_test_runtime(tmp_path, "auth-gateway", **stored), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})
        yield up


def replica(suite: RunningSuite, clock: FixedClock) -> SqlExpiryStore:
    database = suite.host.modules[0].database
    assert database is not None
    return SqlExpiryStore(database, clock, suite.runtime.ids, "/test/1")


async def put(suite: RunningSuite, path: str, end: datetime | None) -> None:
    body = {
        "method": "client_secret_basic",
        "client_id": "app",
        "token_url": "http://127.0.0.1:9/token",
        "secret": "canary-s3cret",
        "secret_expires_at": end.isoformat() if end else None,
    }
    async with suite.client(Role.TENANT_ADMIN) as client:
        etag = (await client.get(path)).headers.get("etag")
        answer = await client.put(path, json=body, headers={"If-Match": etag} if etag else {})
        assert answer.status_code == 200, answer.text


async def new_credential(suite: RunningSuite, end: datetime | None) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})
    path = f"/auth/v1/integrations/{made.json()['id']}/credentials/api"
    await put(suite, path, end)
    return path


async def told(suite: RunningSuite, event_type: str = "ps.credential.expiring") -> list[dict[str, Any]]:
    database = suite.host.modules[0].database
    assert database is not None
    async with database.read() as session:
        events = (await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.id))).scalars()
        documents = [orjson.loads(event) if isinstance(event, bytes | str) else event for event in events]
    return [document for document in documents if document["type"] == event_type]


async def test_four_notices_in_the_last_month_whichever_replica_looks(suite: RunningSuite) -> None:
    await new_credential(suite, END)
    clock = FixedClock(ahead(32))
    for _ in range(4 * 34):  # every six hours, until after the end; each look by replicas that were just started
        await asyncio.gather(*(announce_expiry(replica(suite, clock), clock) for _ in range(2)))
        clock.advance(6 * 3600)
    events = await told(suite)
    assert [event["data"]["notice_days"] for event in events] == list(NOTICE_DAYS)
    assert {event["data"]["expires_at"] for event in events} == {"2999-06-01T00:00:00.000Z"}
    assert {event["data"]["stage"] for event in events} == {"client-secret"}
    assert "canary" not in str(events)


async def test_a_new_end_is_announced_anew_and_an_edit_without_one_is_not(suite: RunningSuite) -> None:
    path = await new_credential(suite, END)
    clock = FixedClock(ahead(10))
    store = replica(suite, clock)
    assert await announce_expiry(store, clock) == 1
    await put(suite, path, END)
    assert await announce_expiry(store, clock) == 0
    await put(suite, path, END + timedelta(days=1))
    assert await announce_expiry(store, clock) == 1
    await put(suite, path, END + timedelta(days=365))
    assert await announce_expiry(store, clock) == 0
    assert await announce_expiry(store, clock) == 0
    assert [event["data"]["notice_days"] for event in await told(suite)] == [14, 14]
    assert len(await told(suite, "ps.credential.renewed")) == 1


async def test_a_notice_that_another_replica_gave_meanwhile_is_not_given_again(suite: RunningSuite) -> None:
    await new_credential(suite, END)
    clock = FixedClock(ahead(10))
    stores = replica(suite, clock), replica(suite, clock)
    (seen,) = await stores[0].page(("", ""), 10)
    assert await announce_expiry(stores[1], clock) == 1
    (now_seen,) = await stores[0].page(("", ""), 10)
    given = now_seen.notices["client-secret"]
    assert not await stores[0].notice(seen.watched, "client-secret", None, given, "ps.credential.expiring", {})
    stale = replace(given, days=30)
    assert not await stores[0].notice(seen.watched, "client-secret", stale, given, "ps.credential.expiring", {})
    assert len(await told(suite)) == 1


async def test_everything_that_ends_is_listed_and_a_person_can_say_when(suite: RunningSuite) -> None:
    path = await new_credential(suite, None)
    async with suite.client(Role.VIEWER) as viewer:
        (unknown,) = (await viewer.get("/auth/v1/expiries")).json()["items"]
        assert (await viewer.put(f"{path}/expiries/epic-app", json={"life_days": 3})).status_code == 403
    assert (unknown["kind"], unknown["days_left"], unknown["source"]) == ("client-secret", None, "unknown")
    soon = suite.runtime.clock.now() + timedelta(days=5, hours=1)
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        stated = f"{path}/expiries/client-secret"
        assert (await admin.put(stated, json={"expires_at": soon.isoformat()})).status_code == 204
        assert (await admin.put(f"{path}/expiries/epic-app", json={"expires_at": END.isoformat()})).status_code == 204
        items = (await admin.get("/auth/v1/expiries")).json()["items"]
        assert (items[0]["kind"], items[0]["days_left"], items[0]["source"]) == ("client-secret", 5, "stated")
        assert [row["kind"] for row in items] == ["client-secret", "epic-app"]
        assert (await admin.put(f"{path}/expiries/horoscope", json={"life_days": 3})).status_code == 422
        for wrong in (
            {},
            {"life_days": 0},
            {"life_days": 3, "expires_at": END.isoformat()},
            {"expires_at": "2999-01-01"},
        ):
            assert (await admin.put(stated, json=wrong)).status_code == 422
        assert (await admin.delete(stated)).status_code == 204
        assert {row["source"] for row in (await admin.get("/auth/v1/expiries")).json()["items"]} == {
            "unknown",
            "stated",
        }
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get("/auth/v1/expiries")).json()["items"] == []
        assert (await stranger.put(stated, json={"life_days": 3})).status_code == 404


async def test_what_was_recorded_goes_with_the_credential(suite: RunningSuite) -> None:
    path = await new_credential(suite, END)
    clock = FixedClock(ahead(10))
    async with suite.client(Role.TENANT_ADMIN) as admin:
        assert (await admin.put(f"{path}/expiries/epic-app", json={"expires_at": END.isoformat()})).status_code == 204
        assert await announce_expiry(replica(suite, clock), clock) == 2
        etag = (await admin.get(path)).headers["etag"]
        assert (await admin.delete(path, headers={"If-Match": etag})).status_code == 204
        await put(suite, path, END)
        (row,) = (await admin.get("/auth/v1/expiries")).json()["items"]
    assert (row["kind"], row["noticed_days"]) == ("client-secret", None)
