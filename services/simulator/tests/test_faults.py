"""Each fault does what its row says, to the calls its row names."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from simulator.core.answer import Answer
from simulator.core.faults import (
    FAULTS,
    BadParameterError,
    Effect,
    Faults,
    Surface,
    UnknownFaultError,
)
from simulator.core.world import World
from simulator.use_cases.answer_vendor import answer_vendor

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
API, TOKEN = Surface.API, Surface.TOKEN_ENDPOINT


def test_the_faults_that_are_promised() -> None:
    vendor = {name for name in FAULTS if not name.startswith("hl7-")}
    assert vendor == {"expired-secret", "unauthorized", "rate-limited", "unavailable", "slow", "clock-skew"}
    assert {row.cause for row in FAULTS.values() if row.cause[0] == "D"} == {f"D{number}" for number in range(1, 19)}
    assert all(row.expected and row.surfaces for row in FAULTS.values())


@pytest.mark.parametrize(
    ("name", "surface", "status"),
    [
        ("unauthorized", API, 401), ("unauthorized", TOKEN, None), ("rate-limited", API, 429),
        ("rate-limited", TOKEN, None),
        ("unavailable", API, 503), ("unavailable", TOKEN, 503), ("expired-secret", API, None), ("slow", API, None),
    ],
)  # fmt: skip
def test_what_a_fault_answers(name: str, surface: Surface, status: int | None) -> None:
    faults = Faults()
    faults.start(name, {}, NOW)
    answer = faults.effect(surface, NOW).answer
    assert (answer.status if answer else None) == status
    faults.stop(name)
    assert faults.effect(surface, NOW) == Effect()


def test_parameters_shape_a_fault() -> None:
    faults = Faults()
    faults.start("rate-limited", {"retry_after_s": 9}, NOW)
    answer = faults.effect(API, NOW).answer
    assert answer is not None
    assert answer.headers["Retry-After"] == "9"
    faults.start("slow", {}, NOW)
    faults.start("clock-skew", {"offset_s": -400}, NOW)
    faults.start("expired-secret", {}, NOW)
    effect = faults.effect(TOKEN, NOW)
    assert (effect.delay_ms, effect.clock_offset_s, effect.secrets_expired, effect.answer) == (3000, -400, True, None)


@pytest.mark.parametrize("parameters", [{"delay_ms": 0}, {"delay_ms": 60_001}, {"other": 1}])
def test_parameters_have_bounds(parameters: dict[str, int]) -> None:
    with pytest.raises(BadParameterError):
        Faults().start("slow", parameters, NOW)


def test_a_fault_may_end_by_itself() -> None:
    faults = Faults()
    faults.start("unavailable", {}, NOW, ends_after_s=10)
    assert faults.active("unavailable", NOW + timedelta(seconds=9)) is not None
    assert faults.active("unavailable", NOW + timedelta(seconds=10)) is None
    for action in (lambda: faults.start("x", {}, NOW), lambda: faults.stop("x"), lambda: faults.active("x", NOW)):
        with pytest.raises(UnknownFaultError):
            action()


async def test_delay_and_clock_reach_the_answer() -> None:
    world = World(("demo",), seed=1, patients=1, token_life_s=300, export_takes_s=1)
    world.faults.start("slow", {"delay_ms": 1500}, NOW)
    world.faults.start("clock-skew", {"offset_s": 90}, NOW)
    paused: list[float] = []
    seen: list[datetime] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    async def handle(now: datetime, _: Effect) -> Answer:
        seen.append(now)
        return Answer(200, b"x", {"Content-Type": "text/plain"})

    answer = await answer_vendor(world, API, handle, now=lambda: NOW, pause=pause)
    assert paused == [1.5]
    assert seen == [NOW + timedelta(seconds=90)]
    assert parsedate_to_datetime(answer.headers["Date"]) == NOW + timedelta(seconds=90)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain")
