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
from simulator.use_cases.answer_vendor import answer_vendor

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
API, TOKEN = Surface.API, Surface.TOKEN_ENDPOINT


def test_the_faults_that_are_promised() -> None:
    # A6 is an issuer's, A14 and the rest of B are the proxies'.
    promised = {f"A{number}" for number in range(1, 14)} - {"A6"}
    promised |= {"B4", "B9", "B10", "B11", "B12", "B14", "C9", *(f"F{number}" for number in range(1, 15))}
    assert {row.cause for row in FAULTS.values() if row.cause[0] != "D"} == promised
    assert {row.cause for row in FAULTS.values() if row.cause[0] == "D"} == {f"D{number}" for number in range(1, 19)}
    assert all(row.expected and row.surfaces for row in FAULTS.values())


@pytest.mark.parametrize(
    ("name", "surface", "status"),
    [
        ("unauthorized", API, None), ("unauthorized", TOKEN, None), ("rate-limited", API, 429),
        ("rate-limited", TOKEN, None),
        ("unavailable", API, 503), ("unavailable", TOKEN, 503), ("expired-secret", API, None), ("slow", API, None),
        ("address-refused", API, 403), ("address-refused", TOKEN, 403), ("quota-used-up", API, 429),
        ("quota-used-up", TOKEN, None), ("wrong-path", API, 404), ("wrong-path", TOKEN, None),
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
    assert (effect.delay_ms, effect.clock_offset_s, effect.answer) == (3000, -400, None)
    assert effect.has("expired-secret")


def test_a_quota_begins_anew_at_one_instant() -> None:
    faults = Faults()
    faults.start("quota-used-up", {"resets_after_s": 3600}, NOW)
    for minutes in (0, 30, 59):
        answer = faults.effect(API, NOW + timedelta(minutes=minutes)).answer
        assert answer is not None
        assert parsedate_to_datetime(answer.headers["Retry-After"]) == NOW + timedelta(hours=1)


def test_choices_shape_a_fault() -> None:
    faults = Faults()
    faults.start("scope-missing", {"resource": "Appointment"}, NOW)
    faults.start("fhir-version", {}, NOW)
    effect = faults.effect(API, NOW)
    assert effect.word("scope-missing", "resource") == "Appointment"
    assert effect.word("fhir-version", "version") == "3.0.1"
    assert effect.word("magic-error", "kind") is None
    for wanted in ({"resource": "Person"}, {"resource": 1}):
        with pytest.raises(BadParameterError):
            faults.start("scope-missing", wanted, NOW)


@pytest.mark.parametrize("parameters", [{"delay_ms": 0}, {"delay_ms": 60_001}, {"delay_ms": "5"}, {"other": 1}])
def test_parameters_have_bounds(parameters: dict[str, int | str]) -> None:
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
    faults = Faults()
    faults.start("slow", {"delay_ms": 1500}, NOW)
    faults.start("clock-skew", {"offset_s": 90}, NOW)
    paused: list[float] = []
    seen: list[datetime] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    async def handle(now: datetime, _: Effect) -> Answer:
        seen.append(now)
        return Answer(200, b"x", {"Content-Type": "text/plain"})

    answer = await answer_vendor(faults, API, handle, now=lambda: NOW, pause=pause)
    assert paused == [1.5]
    assert seen == [NOW + timedelta(seconds=90)]
    assert parsedate_to_datetime(answer.headers["Date"]) == NOW + timedelta(seconds=90)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain")
