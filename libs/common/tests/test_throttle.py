"""Failed authentications are throttled per address and subject, in bounded memory, without locking out who works."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from common.models.access import Access, Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.throttle import WINDOW_S, FailedAttempts
from common.testing import TENANT, RunningSuite, make_test_runtime, running

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def blocked(attempts: FailedAttempts, *keys: str, token: str = "t") -> str | None:
    try:
        attempts.check(keys, token)
    except SuiteError as error:
        return f"{error.code} {error.headers['Retry-After']}"
    return None


def test_a_key_waits_to_the_end_of_its_minute() -> None:
    clock = FixedClock(NOW)
    attempts = FailedAttempts(clock, 3)
    for _ in range(3):
        assert blocked(attempts, "a") is None
        attempts.failed(["a"], "t")
    assert blocked(attempts, "a") == "auth.throttled 60"
    assert blocked(attempts, "b") is None
    assert blocked(attempts, "b", "a") == "auth.throttled 60"
    clock.advance(WINDOW_S - 0.5)
    assert blocked(attempts, "a") == "auth.throttled 1"
    clock.advance(0.6)
    assert blocked(attempts, "a") is None


def test_memory_is_bounded() -> None:
    attempts = FailedAttempts(FixedClock(NOW), 3)
    for number in range(25_000):
        attempts.failed([f"key {number}"], "t")
        attempts.succeeded(f"token {number}")
    assert len(attempts) == 20_000


def build(runtime: Runtime) -> Module:
    api = APIRouter()

    @api.get("/thing")
    async def thing() -> dict[str, str]:
        return {}

    return Module("thing", "/thing", api, (Access("GET", "/thing", frozenset({Role.VIEWER})),))


def forged(suite: RunningSuite, subject: str) -> str:
    token = suite.issuer.token(TENANT, Role.VIEWER, subject=subject)
    return token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")


async def ask(suite: RunningSuite, token: str, address: str) -> httpx.Response:
    transport = httpx.ASGITransport(suite.host.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://suite.test") as client:
        return await client.get("/thing/v1/thing", headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize("by", ["address", "subject"])
async def test_who_guesses_waits_and_who_works_does_not(tmp_path: Path, by: str) -> None:
    clock = FixedClock(NOW)
    runtime = make_test_runtime(tmp_path, clock=clock, failed_authentications_max=5)
    async with running(runtime, build) as suite:
        working = suite.issuer.token(TENANT, Role.VIEWER, subject="alma")
        assert (await ask(suite, working, "192.0.2.1")).status_code == 200
        seen, answer = [], None
        for number in range(8):
            address = "192.0.2.1" if by == "address" else f"192.0.2.{number + 10}"
            answer = await ask(suite, forged(suite, "alma" if by == "subject" else f"guess-{number}"), address)
            seen.append(answer.status_code)
        assert seen == [401] * 5 + [429] * 3
        assert answer is not None
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("auth.throttled", "60")
        assert (await ask(suite, working, "192.0.2.1")).status_code == 200
        new = suite.issuer.token(TENANT, Role.VIEWER, subject="alma")
        elsewhere = "192.0.2.1" if by == "address" else "192.0.2.99"
        clock.advance(1)
        assert (await ask(suite, new, elsewhere)).status_code == 429
        clock.advance(WINDOW_S)
        assert (await ask(suite, suite.issuer.token(TENANT, Role.VIEWER), elsewhere)).status_code == 200


async def test_no_token_and_an_old_one_are_no_guesses(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    async with running(make_test_runtime(tmp_path, clock=clock, failed_authentications_max=2), build) as suite:
        old = suite.issuer.token(TENANT, Role.VIEWER)
        clock.advance(48 * 3600)
        async with suite.client() as nobody:
            codes = [(await nobody.get("/thing/v1/thing")).json()["code"] for _ in range(5)]
        expired = [(await ask(suite, old, "127.0.0.1")).json()["code"] for _ in range(5)]
        assert (await ask(suite, suite.issuer.token(TENANT, Role.VIEWER), "127.0.0.1")).status_code == 200
    assert set(codes) == {"auth.token-missing"}
    assert set(expired) == {"auth.token-expired"}
