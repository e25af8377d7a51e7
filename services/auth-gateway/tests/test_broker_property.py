"""The broker as a whole: two replicas on one database, a provider that rotates, is away, revokes and is not heard.

Whatever comes in whatever order, a token that is given out was issued and has not ended, one burst of workers asks
once, a rotated refresh token is never used twice unless its answer was lost, and a dead grant is not asked again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_gateway import module
from auth_gateway.adapters.credential_store import SqlCredentialStore
from auth_gateway.adapters.tables import Base
from auth_gateway.core.methods import Grant, TokenCall
from auth_gateway.core.refresh import UNANSWERED_MAX, TokenState, TokenTiming
from auth_gateway.ports import AccessToken, Credential, Secrets, Tenants, TokenAnswer
from auth_gateway.use_cases.obtain_token import Broker, obtain_token, sha256
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.integration import Vendor
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.system import SystemIds
from common.testing import TENANT

AT = datetime(2026, 3, 2, 15, tzinfo=UTC)
LIFE_S = 300
CALLER = Caller(TENANT, "tester", frozenset())
AFTER_BACKOFF_S = 120.0


@dataclass
class Rotating:
    """`TokenEndpoint` with one family of refresh tokens; a used one that comes again ends the family."""

    clock: FixedClock
    current: str | None = "r0"
    used: set[str] = field(default_factory=set)
    ends: dict[str, datetime] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    reused: Counter[str] = field(default_factory=Counter)
    away: bool = False
    unheard: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def open_session(self, credential: Credential, secrets: Secrets) -> TokenAnswer:
        raise AssertionError("no Unity here")

    async def request(self, credential: Credential, call: TokenCall, operation: str) -> TokenAnswer:
        sent = call.form["refresh_token"]
        self.asked.append(sent)
        now = self.clock.now()
        await asyncio.sleep(0)
        if self.away:
            return TokenAnswer(None, now, http_status=503, error_code="credential.refresh-failed")
        if sent != self.current:
            if sent in self.used:
                self.current = None
                self.reused[sent] += 1
            refusal: dict[str, Any] = {
                "error_code": "credential.rejected",
                "oauth_error": "invalid_grant",
                "rejected": True,
            }
            return TokenAnswer(None, now, http_status=400, **refusal)
        self.used.add(sent)
        token, self.current = self.issue(), f"r{next(self.numbers)}"
        if self.unheard:
            # Who asked dies here: the family has moved on, and nobody has stored it.
            self.unheard = False
            raise asyncio.CancelledError
        return TokenAnswer(token, now, http_status=200, refresh_token=self.current)

    def issue(self) -> AccessToken:
        text, end = f"a{next(self.numbers)}", self.clock.now() + timedelta(seconds=LIFE_S)
        self.ends[text] = end
        return AccessToken(text, "Bearer", "", end)


@dataclass
class House:
    """Two replicas on one database, and a loop to run them on."""

    runner: asyncio.Runner
    database: Database


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("broker")
    migrations = Path(module.__file__).parent / "migrations"
    with asyncio.Runner() as runner:
        database = Database(f"sqlite:///{folder}", "auth-gateway", Base.metadata, migrations)
        runner.run(database.open())
        yield House(runner, database)
        runner.run(database.close())


class Scene:
    """One credential with its provider, and what has been seen of them."""

    def __init__(self, database: Database) -> None:
        self.clock, ids = FixedClock(AT), SystemIds()
        self.provider = Rotating(self.clock)
        leases = Leases(database, self.clock, ids)
        self.store = SqlCredentialStore(database, StaticKeyRing(), leases, self.clock, ids, "auth-gateway")
        self.brokers = [
            Broker(self.store, cast(Tenants, None), self.provider, leases, self.clock, ids, TokenTiming(0.8), _admitted)
            for _ in range(2)
        ]
        self.integration_id = ids.new("int")
        self.excused = False
        """An answer was lost or the grant was revoked: a person may have to grant anew."""
        self.dead = False

    async def begin(self) -> None:
        credential = Credential(
            TENANT, self.integration_id, "api", Vendor.EPIC, "client_secret_post", "app", "https://pms.example/token",
            (), "RS384", 3600, True, None, AT, 0, grant=Grant.AUTHORIZATION_CODE,
        )  # fmt: skip
        await self.store.put(CALLER, credential, Secrets("s"))
        await self.connect()

    async def connect(self) -> None:
        """A person grants: a new family, its first tokens stored."""
        credential = await self.store.get(TENANT, self.integration_id, "api")
        token, self.provider.current = self.provider.issue(), f"r{next(self.provider.numbers)}"
        state = TokenState(self.clock.now(), token.expires_at, token_sha256=sha256(token.access_token))
        await self.store.keep(credential, state, token, {}, "ps.credential.refreshed", None, self.provider.current)
        self.excused = self.dead = False

    async def ask(self, workers: int, rejected: str | None = None) -> list[Any]:
        before = len(self.provider.asked)
        calls = [
            obtain_token(self.brokers[number % 2], TENANT, self.integration_id, "api", rejected)
            for number in range(workers)
        ]
        found = await asyncio.gather(*calls, return_exceptions=True)
        requests = len(self.provider.asked) - before
        for one in found:
            if isinstance(one, AccessToken):
                assert self.provider.ends[one.access_token] > self.clock.now()
            elif isinstance(one, SuiteError):
                self.look_at(one)
            else:
                assert isinstance(one, asyncio.CancelledError)
        if not self.dead:
            lost = sum(isinstance(one, asyncio.CancelledError) for one in found)
            assert requests <= 1 + UNANSWERED_MAX * lost
        return found

    def look_at(self, error: SuiteError) -> None:
        assert error.code in {"credential.refresh-failed", "credential.reconnect-needed"}
        if error.code == "credential.reconnect-needed":
            assert self.excused, "nothing was lost, and a person is asked to grant anew"
            self.dead = True


async def _admitted(tenant: str) -> None:
    """Every practice works."""


STEP = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([1.0, 3.0, 61.0, 245.0, 400.0])),
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(st.just("refused-by-pms"), st.integers(1, 4)),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("unheard"), st.none()),
    st.tuples(st.just("revoke"), st.none()),
    st.tuples(st.just("connect"), st.none()),
)


async def _step(scene: Scene, name: str, value: Any) -> None:
    if name == "advance":
        scene.clock.advance(value)
    elif name == "ask":
        asked = len(scene.provider.asked)
        was_dead = scene.dead
        await scene.ask(value)
        assert not was_dead or len(scene.provider.asked) == asked, "a dead grant is not asked again"
    elif name == "refused-by-pms":
        known = (await scene.store.get(TENANT, scene.integration_id, "api")).token.token_sha256
        await scene.ask(value, known)
    elif name == "away":
        scene.provider.away = value
    elif name == "unheard":
        scene.provider.unheard = scene.excused = True
    elif name == "revoke":
        scene.provider.current, scene.excused = None, True
    else:
        scene.provider.unheard = False
        await scene.connect()


@given(st.lists(STEP, max_size=14))
@settings(max_examples=40)
def test_whatever_happens_tokens_are_good_and_grants_are_not_worn_out(
    house: House, steps: list[tuple[str, Any]]
) -> None:
    async def play() -> None:
        scene = Scene(house.database)
        await scene.begin()
        for name, value in steps:
            await _step(scene, name, value)
        scene.provider.away = scene.provider.unheard = False
        for _ in range(UNANSWERED_MAX + 1):
            # Once everything is well again it ends in a token, or in a person who is asked; never in a loop.
            scene.clock.advance(AFTER_BACKOFF_S + LIFE_S)
            last = await scene.ask(2)
        assert scene.dead or all(isinstance(one, AccessToken) for one in last)
        assert scene.dead <= scene.excused
        # A token whose answer was lost is tried once more; the refusal ends it.
        assert all(count == 1 for count in scene.provider.reused.values())

    house.runner.run(play())


def test_it_can_fail(house: House) -> None:
    """The rules notice a broker that loses a rotated token: its next request is refused without an excuse."""

    async def play() -> None:
        scene = Scene(house.database)
        await scene.begin()
        scene.provider.current = "another"
        scene.clock.advance(LIFE_S)
        with pytest.raises(AssertionError, match="nothing was lost"):
            await scene.ask(1)

    house.runner.run(play())
