"""A practice's end, over all services: exported, its keys destroyed, nothing of it left, nobody else touched."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Boolean, Integer, Table, insert, select, text

from auth_gateway.adapters import tenant_parts as auth_parts
from auth_gateway.adapters.tables import Base as AuthBase
from common.models.access import Role
from common.models.errors import SuiteError
from common.runtime import audit
from common.runtime.columns import JsonText, UtcInstant
from common.runtime.database import Database
from common.runtime.keyring import PLATFORM, TenantKeys, WrappedKeyRing
from common.runtime.peers import PeerKeySource
from common.runtime.tenant_data import uncovered
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from hl7v2 import mllp
from suite.composition import SERVICES

SECRET = "canary-of-the-vault"
CHARGED = "CANARY-OF-A-BODY"
OFFBOARD = f"/auth/v1/tenants/{TENANT}:offboard"
STATE = f"/auth/v1/tenants/{TENANT}/offboarding"
AT = datetime(2026, 3, 1, tzinfo=UTC)
RECORDS = 2_300
"""More than two rounds."""


@asynccontextmanager
async def up(folder: Path, **settings: Any) -> AsyncIterator[RunningSuite]:
    """All services, whose keys are those of auth-gateway, as when they run apart."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PS_HL7_LISTEN_PORT", "0")
        runtime = make_test_runtime(folder, "suite", **settings)
        ring = WrappedKeyRing(runtime.wrapper, PeerKeySource(runtime.peers), runtime.clock)
        runtime.keyring = ring
        runtime.tenants.left.append(ring.forget)
        async with running(runtime, *SERVICES.values()) as suite:
            yield suite


@asynccontextmanager
async def prepared(folder: Path, **settings: Any) -> AsyncIterator[RunningSuite]:
    async with up(folder, **settings) as suite:
        async with suite.client(Role.PLATFORM_OPERATOR, tenant=PLATFORM) as client:
            for tenant, name in ((TENANT, "Oak Street"), (OTHER_TENANT, "Elm Street")):
                answer = await client.post("/auth/v1/tenants", json={"name": name, "id": tenant})
                assert answer.status_code == 201
        yield suite


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with prepared(tmp_path) as suite:
        yield suite


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningSuite]:
    """On both databases; the one of PostgreSQL is this module's, so one test only uses it."""
    postgresql = request.param == "postgresql"
    settings = {"database_url": request.getfixturevalue("postgres_url")} if postgresql else {}
    async with prepared(tmp_path, **settings) as suite:
        yield suite


def database(suite: RunningSuite, module: str) -> Database:
    found = next(one.database for one in suite.host.modules if one.name == module)
    assert found is not None
    return found


def table(suite: RunningSuite, module: str, name: str) -> Table:
    return database(suite, module).metadata.tables[name]


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    async def wait_until_true() -> Any:
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.02)

    async with asyncio.timeout(30):
        return await wait_until_true()


async def operator(suite: RunningSuite, method: str, path: str, **options: Any) -> Any:
    async with suite.client(Role.PLATFORM_OPERATOR, tenant=PLATFORM) as client:
        return await client.request(method, path, **options)


async def step(suite: RunningSuite, **given: Any) -> tuple[int, dict[str, Any]]:
    answer = await operator(suite, "POST", OFFBOARD, json={"reason": "contract ended", **given})
    return answer.status_code, answer.json()


async def confirmed(suite: RunningSuite, **given: Any) -> tuple[int, dict[str, Any]]:
    status, preview = await step(suite)
    assert status == 200, preview
    return await step(suite, confirmation=preview["confirmation"], **given)


async def state(suite: RunningSuite) -> dict[str, Any]:
    return dict((await operator(suite, "GET", STATE)).json())


async def reached(suite: RunningSuite, phase: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await state(suite)
        return found if found["phase"] == phase else None

    return dict(await eventually(look))


async def fill(suite: RunningSuite, tenant: str, records: int = 3) -> str:
    """A practice with an integration, a secret, a message with a body, records, a rule and a webhook."""
    async with suite.client(Role.TENANT_ADMIN, tenant=tenant) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()
        path = f"/auth/v1/integrations/{made['id']}"
        senders = [{"application": tenant[-8:], "facility": "F"}]
        channel = {"kind": "hl7v2-in", "endpoint": "", "time_zone": "UTC", "settings": {"senders": senders}}
        answer = await client.put(f"{path}/channels/adt", json=channel)
        assert answer.status_code in (200, 201), answer.text
        secret = {"method": "client_secret_post", "client_id": "a", "token_url": "http://127.0.0.1:9/t"}
        answer = await client.put(f"{path}/credentials/api", json={**secret, "secret": SECRET})
        assert answer.status_code == 200, answer.text
        answer = await client.post(f"{path}:resume")
        assert answer.status_code == 200, answer.text
        hook = {"url": "http://127.0.0.1:9/hook"}
        assert (await client.post("/alerts/v1/webhooks", json=hook)).status_code == 201
        listeners = (await client.get("/hl7/v1/listeners")).json()["items"]
        control = f"C{tenant[-4:]}"
        await eventually(lambda: _known(suite, made["id"]))
        await send(listeners[0]["port"], tenant[-8:], control)

        async def catalogued() -> Any:
            return (await client.post("/hl7/v1/messages:search", json={"control_id": control})).json()["items"]

        await eventually(catalogued)

    async def told() -> bool:
        return "diagnostics.exchange" in await left_of(suite, tenant)

    await eventually(told)  # it comes by the bus and would else come later
    record = table(suite, "sync", "record_version")
    rows = [_record(record, tenant, number) for number in range(records)]
    async with database(suite, "sync").write() as session:
        await session.execute(insert(record), rows)
    return str(made["id"])


async def _known(suite: RunningSuite, integration_id: str) -> bool:
    copy = suite.runtime.directory.copy_of(integration_id)
    return copy is not None and bool(copy.channels) and copy.state == "active"


def _record(of: Table, tenant: str, number: int) -> dict[str, Any]:
    own = {"record_id": f"rec_{tenant[-2:]}_{number:05}", "version": 1, "tenant": tenant, "document": {"n": number}}
    rest = {
        column.name: _filler(column.type) for column in of.columns if not column.nullable and column.name not in own
    }
    return {**rest, **own}


def _filler(kind: Any) -> Any:
    if isinstance(kind, UtcInstant | JsonText):
        return AT if isinstance(kind, UtcInstant) else []
    return 0 if isinstance(kind, Integer | Boolean) else "x"


async def send(port: int, application: str, control: str) -> None:
    lines = (
        f"MSH|^~\\&|{application}|F|PS|PS|20260301093000||ADT^A08^ADT_A01|{control}|P|2.5.1",
        "EVN|A08|20260301093000", f"PID|1||M{control}^^^EPIC^MR||{CHARGED}^Test||19800214|F", "PV1|1|O",
    )  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(mllp.encode("\r".join(lines).encode()))
    answer = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 10)
    writer.close()
    assert b"MSA|AA" in answer, answer


async def download(suite: RunningSuite, found: dict[str, Any], *, role: Role, tenant: str) -> dict[str, list[Any]]:
    files: dict[str, list[Any]] = {}
    async with suite.client(role, tenant=tenant) as client:
        for file in found["export"]["files"]:
            answer = await client.get(f"{STATE}/files/{file['name']}")
            assert answer.status_code == 200, answer.text
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            files[file["name"]] = [orjson.loads(line) for line in answer.content.splitlines()]
            assert len(files[file["name"]]) == file["rows"]
    return files


async def left_of(suite: RunningSuite, tenant: str) -> dict[str, int]:
    """Rows by table of all services, without those that stay."""
    stays = {"auth-gateway.tenant", "auth-gateway.offboarding"}
    found = {}
    for module in suite.host.modules:
        if module.database is None:
            continue
        for one in module.database.metadata.tables.values():
            name = f"{module.name}.{one.name}"
            if "tenant" not in one.columns or name in stays:
                continue
            async with module.database.read() as session:
                rows = (await session.execute(select(one).where(one.c.tenant == tenant))).all()
            if rows:
                found[name] = len(rows)
    return found


def keys_in(folder: Path, wrapped: bytes) -> list[str]:
    return [path.name for path in sorted(folder.glob("auth-gateway.sqlite3*")) if wrapped in path.read_bytes()]


async def test_a_practice_ends_with_an_export_and_without_keys(anywhere: RunningSuite, tmp_path: Path) -> None:
    suite = anywhere
    await fill(suite, TENANT, RECORDS)
    await fill(suite, OTHER_TENANT)
    others = await left_of(suite, OTHER_TENANT)
    key = table(suite, "auth-gateway", "tenant_key")
    credential = table(suite, "auth-gateway", "credential")
    async with database(suite, "auth-gateway").read() as session:
        held = (await session.execute(select(key.c.wrapped).where(key.c.tenant == TENANT))).scalar_one()
        sealed = dict((await session.execute(select(credential).where(credential.c.tenant == TENANT))).mappings().one())
    on_disk = database(suite, "auth-gateway").dialect == "sqlite"
    if on_disk:
        async with database(suite, "auth-gateway").write() as session:
            await session.execute(text("PRAGMA secure_delete=OFF"))  # what a build may do unasked
    assert bool(keys_in(tmp_path, held)) is on_disk

    status, preview = await step(suite)
    assert (status, preview["phase"], preview["destroyed"]["rows"]["sync"]["record-version"]) == (200, None, RECORDS)
    status, begun = await step(suite, confirmation=preview["confirmation"])
    assert (status, begun["phase"]) == (202, "exporting")
    found = await reached(suite, "exported")
    async with suite.client(Role.TENANT_ADMIN) as client:
        refused = await client.get("/auth/v1/integrations")
        manifest = await client.get(f"{STATE}/manifest")
    assert (refused.status_code, refused.json()["code"]) == (403, "tenant.suspended")
    assert hashlib.sha256(manifest.content).hexdigest() == found["export"]["manifest_sha256"]

    status, error = await confirmed(suite)
    assert (status, error["code"]) == (409, "tenant.export-not-downloaded")
    assert "sync/record-version.ndjson" in error["detail"]
    assert (await state(suite))["keys_destroyed_at"] is None
    files = await download(suite, found, role=Role.TENANT_ADMIN, tenant=TENANT)
    assert [row["document"]["n"] for row in files["sync/record-version.ndjson"]] == list(range(RECORDS))
    assert [CHARGED in row["body"] for row in files["hl7-gateway/message.ndjson"]] == [True]
    assert {row["tenant"] for name, rows in files.items() if "audit" not in name for row in rows} == {TENANT}
    assert SECRET not in orjson.dumps(files).decode()
    assert "sealed_secret" not in files["auth-gateway/credential.ndjson"][0]
    assert {"webhook.created"} <= {row["subtype"][0]["code"] for row in files["alerts/audit.ndjson"]}

    ring = suite.runtime.keyring
    before = await ring.tenant(TENANT)
    assert _opens(before, sealed)
    status, going = await confirmed(suite)
    assert (status, going["phase"] in ("destroying", "offboarded")) == (202, True)
    ended = await reached(suite, "offboarded")
    assert ended["deleted_rows"]["sync"] > RECORDS
    assert (ended["missing"], len(ended["deleted_rows"])) == ([], 5)
    assert await left_of(suite, TENANT) == {}
    assert keys_in(tmp_path, held) == []
    await eventually(lambda: _refused(suite))
    # A backup's ciphertext put back beside today's key table: nothing opens it, in no service.
    with pytest.raises(SuiteError) as nothing:
        await ring.tenant(TENANT)
    assert nothing.value.code == "tenant.not-found"
    assert await left_of(suite, OTHER_TENANT) == others
    assert _opens_as(await ring.tenant(OTHER_TENANT), sealed) == "keys.cannot-open"
    await _what_stays(suite)


def _opens(keys: TenantKeys, sealed: dict[str, Any]) -> bool:
    return _opens_as(keys, sealed) == SECRET


def _opens_as(keys: TenantKeys, sealed: dict[str, Any]) -> str:
    place = f"{sealed['integration_id']}/{sealed['name']}"
    version = (sealed["sealed_versions"] or {}).get("secret", 1)
    try:
        return keys.open(sealed["sealed_secret"], record=place, field="secret", version=version).decode()
    except SuiteError as error:
        return error.code


async def _refused(suite: RunningSuite) -> bool:
    """Whether this process has heard of it."""
    async with suite.client(Role.SERVICE) as client:
        return (await client.get("/sync/v1/runs")).status_code == 410


async def _what_stays(suite: RunningSuite) -> None:
    """The audit log, the name, and nobody who may come in."""
    for tenant in (TENANT, PLATFORM):
        async with database(suite, "auth-gateway").read() as session:
            assert await audit.verify(session, tenant) is None
            rows = (await audit.search(session, tenant, {"subject": TENANT}, None, 100)).items
        actions = {row["action"] for row in rows}
        assert actions >= {
            "tenant.offboarding-begun", "tenant.exported", "tenant.export.read", "tenant.keys.destroyed",
            "tenant.offboarded",
        }  # fmt: skip
    for role in (Role.TENANT_ADMIN, Role.SERVICE, Role.OPERATOR):
        async with suite.client(role) as client:
            for path in ("/auth/v1/integrations", "/sync/v1/runs", "/alerts/v1/alerts"):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["code"]) == (410, "tenant.offboarded")
    with pytest.raises(SuiteError) as refused:
        await suite.runtime.peers.token(TENANT)
    assert refused.value.code == "tenant.offboarded"
    again = await operator(suite, "POST", "/auth/v1/tenants", json={"name": "new", "id": TENANT})
    named = await operator(suite, "POST", "/auth/v1/tenants", json={"name": "oak street"})
    meant = await operator(suite, "POST", "/auth/v1/tenants", json={"name": "Oak Street", "reuse_name": True})
    assert (again.status_code, again.json()["code"]) == (410, "tenant.offboarded")
    assert (named.status_code, named.json()["code"], meant.status_code) == (409, "tenant.name-offboarded", 201)
    for verb in ("suspend", "resume"):
        answer = await operator(suite, "POST", f"/auth/v1/tenants/{TENANT}:{verb}", json={"reason": "mistake"})
        assert (answer.status_code, answer.json()["code"]) == (410, "tenant.offboarded")
    jwks = await operator(suite, "GET", f"/auth/v1/tenants/{TENANT}/production/jwks.json")
    assert jwks.status_code == 404
    status, told = await step(suite)
    assert (status, told["code"]) == (410, "tenant.offboarded")


async def test_a_process_that_was_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with up(tmp_path) as suite:
        made = await operator(suite, "POST", "/auth/v1/tenants", json={"name": "Oak Street", "id": TENANT})
        assert made.status_code == 201
        await fill(suite, TENANT, RECORDS)
        assert (await confirmed(suite))[0] == 202
    async with up(tmp_path) as suite:
        found = await reached(suite, "exported")
        files = await download(suite, found, role=Role.PLATFORM_OPERATOR, tenant=PLATFORM)
        assert [row["document"]["n"] for row in files["sync/record-version.ndjson"]] == list(range(RECORDS))
        assert (await confirmed(suite))[0] == 202
    async with up(tmp_path) as suite:
        assert (await reached(suite, "offboarded"))["deleted_rows"]["sync"] > RECORDS
        assert await left_of(suite, TENANT) == {}
        assert await eventually(lambda: _refused(suite))


async def test_who_may_not_and_what_is_refused(suite: RunningSuite) -> None:
    run = table(suite, "sync", "run")
    going = {**_record(run, TENANT, 1), "id": "run_01hf7yat00e008000000000001", "state": "running"}
    going = {name: value for name, value in going.items() if name in run.columns}
    async with database(suite, "sync").write() as session:
        await session.execute(insert(run).values(**{**going, "resource": "patient", "mode": "full"}))
    for path, body, status, code in (
        ("ten_01hf7yat00e008000000000099", {"reason": "ended"}, 404, "tenant.not-found"),
        ("platform", {"reason": "ended"}, 404, "request.invalid-id"),
        (TENANT, {"reason": ""}, 422, "request.invalid"),
        (TENANT, {}, 422, "request.invalid"),
        (TENANT, {"reason": "ended", "force": True}, 422, "request.invalid"),
        (TENANT, {"reason": "ended", "confirmation": "guessed"}, 409, "tenant.offboard-unconfirmed"),
    ):
        answer = await operator(suite, "POST", f"/auth/v1/tenants/{path}:offboard", json=body)
        assert (path, answer.json()["code"], answer.status_code) == (path, code, status)
    for path in ("", "/manifest", "/files/sync/record.ndjson"):
        assert (await operator(suite, "GET", STATE + path)).json()["code"] == "tenant.not-found"
    status, told = await confirmed(suite)
    assert (status, told["code"]) == (409, "tenant.runs-going")
    assert (await operator(suite, "GET", STATE)).status_code == 404
    status, preview = await step(suite)
    assert (preview["runs_going"], await _phase(suite, preview["confirmation"])) == (1, "exporting")
    found = await reached(suite, "exported")
    # The confirmation of one step is none of the next.
    status, told = await step(suite, confirmation=preview["confirmation"])
    assert (status, told["code"]) == (409, "tenant.offboard-unconfirmed")
    answer = await operator(suite, "POST", f"/auth/v1/tenants/{TENANT}:resume", json={"reason": "mistake"})
    assert (answer.status_code, answer.json()["code"]) == (409, "tenant.offboarding")
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        for path in ("", "/manifest", f"/files/{found['export']['files'][0]['name']}"):
            assert (await stranger.get(STATE + path)).json()["code"] == "tenant.not-found"
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        assert (await client.get(STATE)).status_code == 403
        assert (await client.post(OFFBOARD, json={"reason": "ended"})).status_code == 403
    assert (await operator(suite, "GET", f"{STATE}/files/sync/nothing.ndjson")).json()["code"] == "request.not-found"
    status, told = await confirmed(suite, despite_runs=True)
    assert (status, told["code"]) == (409, "tenant.export-not-downloaded")
    status, told = await confirmed(suite, despite_runs=True, without_download=True)
    assert status == 202
    assert (await reached(suite, "offboarded"))["export"]["not_downloaded"]
    async with suite.client(Role.TENANT_ADMIN) as client:
        late = await client.get(f"{STATE}/files/sync/run.ndjson")
    assert [orjson.loads(line)["state"] for line in late.content.splitlines()] == ["running"]


async def _phase(suite: RunningSuite, confirmation: str) -> str:
    return str((await step(suite, confirmation=confirmation, despite_runs=True))[1]["phase"])


async def test_open_streams_end_with_a_practice_and_no_ticket_opens_one(suite: RunningSuite) -> None:
    hub = suite.host._hubs["alerts"]
    async with suite.client(Role.VIEWER) as viewer, suite.client(Role.VIEWER, tenant=OTHER_TENANT) as other:
        tickets = [(await viewer.post("/alerts/v1/stream-tickets")).json()["ticket"] for _ in range(2)]
        theirs = (await other.post("/alerts/v1/stream-tickets")).json()["ticket"]
        reading = asyncio.create_task(viewer.get("/alerts/v1/stream", params={"ticket": tickets[0]}))
        still = asyncio.create_task(other.get("/alerts/v1/stream", params={"ticket": theirs}))

        async def both() -> bool:
            return (hub.open_streams(TENANT), hub.open_streams(OTHER_TENANT)) == (1, 1)

        await eventually(both)
        why = {"reason": "contract ended"}
        assert (await operator(suite, "POST", f"/auth/v1/tenants/{TENANT}:suspend", json=why)).status_code == 200
        async with asyncio.timeout(10):
            assert (await reading).text.endswith("event: end\ndata: {}\n\n")
        late = await viewer.get("/alerts/v1/stream", params={"ticket": tickets[1]})
        assert (late.status_code, late.json()["code"]) == (403, "tenant.suspended")
        assert (still.done(), hub.open_streams(OTHER_TENANT)) == (False, 1)
        still.cancel()
        await asyncio.gather(still, return_exceptions=True)


def test_every_table_is_exported_and_erased_or_said_to_stay(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PS_HL7_LISTEN_PORT", "0")
        runtime = make_test_runtime(tmp_path, "suite")
        modules = [build(runtime) for build in SERVICES.values()]
    without = {"auth-gateway": auth_parts.WITHOUT}
    for module in modules:
        if module.database is not None:
            assert module.tenant_parts is not None, module.name
            left = uncovered(module.database.metadata, module.tenant_parts, without.get(module.name, ()))
            assert left == [], f"{module.name}: say in adapters/tenant_parts.py what of a practice they hold"
    assert "tenant_key" in AuthBase.metadata.tables
