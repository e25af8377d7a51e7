"""What a replay may do, and how its pages are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import SuiteError
from hl7_gateway.core.replay import (
    ENDED,
    PAGE_MESSAGES_MAX,
    RATE_PER_S_MAX,
    RATE_PER_S_MIN,
    TRANSITIONS,
    State,
    Step,
    cut,
    moved,
    page_messages,
    queue_room,
)


@pytest.mark.parametrize(
    ("state", "step", "after"),
    [
        (State.RUNNING, Step.PAUSE, State.PAUSED),
        (State.PAUSED, Step.RESUME, State.RUNNING),
        (State.FAILED, Step.RESUME, State.RUNNING),
        (State.PAUSED, Step.CANCEL, State.CANCELLED),
        (State.RUNNING, Step.FINISH, State.DONE),
    ],
)
def test_steps(state: State, step: Step, after: State) -> None:
    assert moved(state, step) is after


@pytest.mark.parametrize(("state", "step"), [(State.DONE, Step.CANCEL), (State.CANCELLED, Step.RESUME)])
def test_what_ended_stays_ended(state: State, step: Step) -> None:
    with pytest.raises(SuiteError, match=r"request\.conflict") as caught:
        moved(state, step)
    assert state.value in str(caught.value.detail)


def test_every_state_is_in_the_table_and_the_ended_ones_lead_nowhere_else() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(set(TRANSITIONS[state].values()) <= {state} for state in ENDED)


@given(st.floats(RATE_PER_S_MIN, RATE_PER_S_MAX))
def test_a_page_is_bounded_and_never_empty(rate_per_s: float) -> None:
    assert 1 <= page_messages(rate_per_s) <= PAGE_MESSAGES_MAX
    assert page_messages(rate_per_s) <= max(1, rate_per_s)


@given(st.integers(1, 10**8), st.integers(0, 10**8))
def test_a_replay_leaves_room_in_the_queue(limit: int, depth: int) -> None:
    room = queue_room(limit, depth)
    assert room == 0 or room + depth <= max(1, limit // 2)
    assert room > 0 or depth >= max(1, limit // 2)


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 200))
def test_a_page_of_bytes_takes_at_least_one_and_no_more_than_fit(sizes: list[int], bytes_max: int) -> None:
    taken = cut(sizes, bytes_max)
    assert 1 <= taken <= len(sizes)
    assert taken == 1 or sum(sizes[:taken]) <= bytes_max
    assert taken == len(sizes) or sum(sizes[: taken + 1]) > bytes_max
    assert cut([]) == 0
