"""Which message is next: order per key, bounded memory, and nothing passed over for good."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7_gateway.core.outbound_window import Candidate, Fetch, Read, Window

MESSAGES_MAX, KEY_MESSAGES_MAX, PAGE_MESSAGES = 6, 2, 3
SIZE_MAX = MESSAGES_MAX + PAGE_MESSAGES


def queue(keys: Sequence[str]) -> list[Candidate]:
    return [Candidate(f"m{number}", number, key, f"c{number}") for number, key in enumerate(keys, 1)]


def rows(left: Sequence[Candidate], read: Read) -> list[Candidate]:
    if isinstance(read, Fetch):
        found = [one for one in left if one.sequence > read.after and one.key not in read.without]
    else:
        found = [one for one in left if one.key == read.key and read.after < one.sequence <= read.up_to]
    return found[: read.limit]


class Work:
    """Takes messages from a window over a queue."""

    def __init__(self, keys: Sequence[str], window: Window | None = None) -> None:
        self.window = window or Window(
            messages_max=MESSAGES_MAX, key_messages_max=KEY_MESSAGES_MAX, page_messages=PAGE_MESSAGES
        )
        self.left = queue(keys)
        self.taken: list[Candidate] = []
        self.reads = 0

    def fill(self, now: float = 0.0) -> None:
        while (read := self.window.read(now)) is not None:
            self.reads += 1
            busy = {one.id for one in self.taken}
            self.window.fetched(read, rows([one for one in self.left if one.id not in busy], read), now)

    def take(self, now: float = 0.0) -> Candidate | None:
        self.fill(now)
        found = self.window.take(now)
        if found is not None:
            self.taken.append(found)
        return found

    def done(self, candidate: Candidate) -> None:
        self.taken.remove(candidate)
        self.left.remove(candidate)
        self.window.done(candidate)


def test_the_order_of_the_queue_when_nothing_is_in_the_way() -> None:
    work = Work(["a", "b", "a", "c", "a"] * 10, Window())
    seen = []
    while (found := work.take()) is not None:
        seen.append(found.sequence)
        work.done(found)
    assert seen == list(range(1, 51))


def test_a_key_that_waits_is_passed_over_and_taken_up_again() -> None:
    work = Work(["a"] * 300 + ["b", "a", "b"])
    first = work.take()
    assert first is not None
    work.taken.remove(first)
    work.window.put_back(first, until=10.0)
    seen = []
    while (found := work.take(now=1.0)) is not None:
        seen.append(found.id)
        work.done(found)
    assert seen == ["m301", "m303"]
    assert work.reads < 10
    assert work.window.waits_until(1.0) == 10.0
    assert work.window.waits_until(10.0) is None
    seen = []
    while (found := work.take(now=10.0)) is not None:
        seen.append(found.sequence)
        work.done(found)
    assert seen == [*range(1, 301), 302]


def test_a_message_that_came_with_a_wait_waits() -> None:
    window = Window()
    read = window.read(0.0)
    assert isinstance(read, Fetch)
    window.fetched(read, [Candidate("m1", 1, "a", "c", attempts=1, wait_s=5.0), Candidate("m2", 2, "a", "d")], 0.0)
    assert window.take(4.9) is None
    found = window.take(5.0)
    assert found is not None
    assert found.id == "m1"


def test_a_key_is_held_with_all_its_messages() -> None:
    work = Work(["a", "a", "b"])
    first = work.take()
    assert first is not None
    work.window.hold(first)
    work.left = [one for one in work.left if one.key != "a"]
    found = work.take()
    assert found is not None
    assert found.key == "b"
    assert work.window.size == 1


def test_what_comes_later_is_read_when_it_is_told() -> None:
    work = Work([])
    assert work.take() is None
    work.left = queue(["a"])
    assert work.take() is None
    work.window.wake()
    assert work.take() is not None


def test_the_answer_to_an_old_read_is_ignored() -> None:
    window = Window()
    read = window.read(0.0)
    assert read is not None
    assert window.read(0.0) is None
    window.rescan()
    window.fetched(read, queue(["a"]), 0.0)
    assert window.size == 0
    again = window.read(0.0)
    assert again is not None
    window.unread()
    assert isinstance(window.read(0.0), Fetch)


@pytest.mark.parametrize("count", [1000])
def test_many_keys_that_wait_do_not_fill_the_memory(count: int) -> None:
    work = Work([f"key{number}" for number in range(count)])
    while (found := work.take()) is not None:
        work.taken.remove(found)
        work.window.put_back(found, until=10.0)
    assert work.window.size <= SIZE_MAX


def finish(work: Work, now: float) -> None:
    """Everything that is taken is done, until nothing more comes."""
    for _ in range(500):
        now += 10.0
        for one in list(work.taken):
            work.done(one)
        work.take(now)


STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=150)


@given(st.lists(st.sampled_from("aaabc"), max_size=60), STEPS)
def test_nothing_is_lost_or_taken_out_of_order(keys: list[str], steps: list[tuple[int, int]]) -> None:
    work = Work(keys)
    now = 0.0
    last: dict[str, int] = {}

    def take() -> None:
        found = work.take(now)
        if found is not None:
            assert found.sequence >= last.get(found.key, 0)
            assert sum(one.key == found.key for one in work.taken) == 1
            last[found.key] = found.sequence

    for what, which in steps:
        chosen = work.taken[which % len(work.taken)] if work.taken else None
        if what <= 1:
            take()
        elif what == 2 and chosen is not None:
            work.done(chosen)
        elif what == 3 and chosen is not None:
            work.taken.remove(chosen)
            work.window.put_back(chosen, until=now + which)
        elif what == 4:
            now += which
        elif what == 5:
            work.window.rescan()
        assert work.window.size <= SIZE_MAX
    finish(work, now)
    assert work.left == []
