"""Which message is next: a window over a queue that is far too long to be in memory.

Rules. Of one key at most one message is busy (chosen, in flight), and they go in the order of the queue. A key whose
first message waits for its next try holds up its own messages and no others. Memory is bounded by `messages_max`, and
by one entry per key that is busy or waits.

Theory of operation. The store is read forward in pages (`Fetch`), from a place that only moves on. Of a key that is
held up, `key_messages_max` messages are kept; the others are passed over, and the key is remembered as cut. Once the
kept ones are used up, a cut key is read by itself (`FetchKey`) up to the place where the pages are, and then goes with
the pages again. The store has the last word when a message is begun; so a page that is out of date does no harm.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

MESSAGES_MAX: Final = 256
KEY_MESSAGES_MAX: Final = 128
PAGE_MESSAGES: Final = 128
KEYS_LEFT_OUT_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued message without its body. `wait_s`: not before so long after it was read."""

    id: str
    sequence: int
    key: str
    control_id: str
    attempts: int = 0
    refusals: int = 0
    silences: int = 0
    wait_s: float = 0.0
    operation: str = ""
    """`ADT^A08`, for exchange records."""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read the queue after a sequence, up to `limit` messages, without those of some keys."""

    after: int
    limit: int
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchKey:
    """Read one key's queued messages after a sequence and up to another, at most `limit`."""

    key: str
    after: int
    up_to: int
    limit: int


Read = Fetch | FetchKey


@dataclass(slots=True)
class _Key:
    waiting: list[Candidate] = field(default_factory=list)
    busy: bool = False
    until: float = 0.0
    cut_after: int | None = None
    """The last message that is kept, when later ones were passed over."""


class Window:
    """See the module's text. Times are seconds of one monotonic clock."""

    def __init__(
        self,
        *,
        messages_max: int = MESSAGES_MAX,
        key_messages_max: int = KEY_MESSAGES_MAX,
        page_messages: int = PAGE_MESSAGES,
    ) -> None:
        self._messages_max = messages_max
        self._page_messages = page_messages
        self._key_messages_max = key_messages_max
        self._keys: dict[str, _Key] = {}
        self._ids: set[str] = set()
        self._place = 0
        self._at_end = False
        self._reading: Read | None = None

    @property
    def size(self) -> int:
        """How many messages it holds, busy ones included."""
        return len(self._ids)

    def take(self, now: float) -> Candidate | None:
        """The first message whose key is free; the key is busy from then on."""
        found = min(self._free(now), key=lambda key: key.waiting[0].sequence, default=None)
        if found is None:
            return None
        found.busy = True
        return found.waiting.pop(0)

    def sendable(self, now: float) -> bool:
        """Whether `take` would find one."""
        return next(self._free(now), None) is not None

    def waits_until(self, now: float) -> float | None:
        """When the first key that waits now is free again."""
        waiting = (key.until for key in self._keys.values() if key.waiting and not key.busy)
        return min((until for until in waiting if until > now), default=None)

    def put_back(self, candidate: Candidate, until: float = 0.0) -> None:
        """A busy message is not done: it is the first of its key again, not before `until`."""
        key = self._keys[candidate.key]
        key.busy = False
        key.until = until
        key.waiting.insert(0, candidate)

    def done(self, candidate: Candidate) -> None:
        """A busy message has left the queue: its key goes on."""
        self._ids.discard(candidate.id)
        key = self._keys[candidate.key]
        key.busy, key.until = False, 0.0
        self._forget_if_done(candidate.key)

    def hold(self, candidate: Candidate) -> None:
        """A busy message has left the queue, and the later ones of its key with it."""
        key = self._keys.pop(candidate.key)
        self._ids.difference_update({candidate.id, *(one.id for one in key.waiting)})

    def wake(self) -> None:
        """There may be more at the end of the queue."""
        self._at_end = False

    def rescan(self) -> None:
        """Messages may have come back anywhere in the queue: read it from its beginning."""
        for name in list(self._keys):
            key = self._keys[name]
            kept = key.waiting[:1] if key.until else []  # its place in the store may not be written yet
            self._ids.difference_update(one.id for one in key.waiting[len(kept) :])
            key.waiting, key.cut_after = kept, None
            self._forget_if_done(name)
        self._place, self._at_end, self._reading = 0, False, None

    def read(self, now: float) -> Read | None:
        """What to read now, None when nothing is needed or a read is under way."""
        if self._reading is not None or self.size >= self._messages_max or self.sendable(now):
            return None
        self._reading = self._cut_key() or self._page()
        return self._reading

    def unread(self) -> None:
        """The read could not be done."""
        self._reading = None

    def fetched(self, read: Read, rows: Sequence[Candidate], now: float) -> None:
        """What a read found, in the order of the queue. The answer to a read that is no longer wanted is ignored."""
        if read is not self._reading:
            return
        self._reading = None
        if isinstance(read, FetchKey):
            self._add_to_key(read, rows, now)
            return
        for row in rows:
            self._add(row, now)
        if rows:
            self._place = max(self._place, rows[-1].sequence)
        self._at_end = len(rows) < read.limit

    def _free(self, now: float) -> Iterator[_Key]:
        return (key for key in self._keys.values() if key.waiting and not key.busy and key.until <= now)

    def _page(self) -> Fetch | None:
        if self._at_end:
            return None
        cut = [name for name, key in self._keys.items() if key.cut_after is not None]
        # Left out in the store, so that passing over a long row of them costs one read; beyond some, here.
        return Fetch(self._place, self._page_messages, tuple(cut[:KEYS_LEFT_OUT_MAX]))

    def _cut_key(self) -> FetchKey | None:
        for name, key in self._keys.items():
            if key.cut_after is not None and not key.waiting and not key.busy:
                return FetchKey(name, key.cut_after, self._place, self._key_messages_max)
        return None

    def _add(self, row: Candidate, now: float) -> None:
        if row.id in self._ids:
            return
        key = self._keys.setdefault(row.key, _Key())
        if key.cut_after is not None:
            return
        if len(key.waiting) >= self._key_messages_max:
            key.cut_after = key.waiting[-1].sequence
            return
        self._insert(key, row, now)

    def _add_to_key(self, read: FetchKey, rows: Sequence[Candidate], now: float) -> None:
        key = self._keys.get(read.key)
        if key is None or key.cut_after is None:
            return
        for row in rows:
            if row.id not in self._ids:
                self._insert(key, row, now)
        if len(rows) < read.limit:
            key.cut_after = None
            self._at_end = False  # pages left this key out
            self._forget_if_done(read.key)
        else:
            key.cut_after = rows[-1].sequence

    def _insert(self, key: _Key, row: Candidate, now: float) -> None:
        self._ids.add(row.id)
        bisect.insort(key.waiting, row, key=lambda one: one.sequence)
        if key.waiting[0] is row:
            key.until = now + row.wait_s if row.wait_s > 0 else 0.0

    def _forget_if_done(self, name: str) -> None:
        key = self._keys[name]
        if not key.busy and not key.waiting and key.cut_after is None:
            del self._keys[name]
