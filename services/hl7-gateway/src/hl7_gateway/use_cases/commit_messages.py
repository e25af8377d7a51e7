"""Group commit: one transaction for every message that waits, of all connections; only then is anybody answered.

Theory of operation. Messages queue in the order they came. One task takes all that wait (within a bound), stores them
in one transaction, tells each what became of it, and takes what came meanwhile: under load the batches grow by
themselves, and a lone message waits for nobody but what the loop has to read anyway. A message that cannot be stored at
all must not take the others with it, so a batch that fails for another reason than an absent database is halved until
the culprit is alone.

A store that hangs is given up on at the oldest message's deadline: its senders get a negative acknowledgement. Should
that transaction commit after all, the message sent again is recognised and acknowledged as stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from hl7_gateway.core.message import Receipt, TakenMessage, milliseconds_of
from hl7_gateway.core.reception import Reception
from hl7_gateway.core.rejection import KEYS_UNAVAILABLE, STORE_FAILED, Rejection
from hl7_gateway.core.shape import Shape
from hl7_gateway.ports import Intake, Keys, KeySource
from hl7v2 import Finding

KEYS_FRESH_S: Final = 30.0
KEYS_RETRY_S: Final = 1.0
KEYS_TIMEOUT_S: Final = 2.0
ATTEMPT_MIN_S: Final = 0.25
LOADED_S: Final = 0.05
TURNS: Final = 3
"""Turns of the loop before a transaction: what has arrived is read first, so that it need not wait for the next one.

It doubles the transactions' size under load (64 connections: 64 messages instead of 32), and takes microseconds.
"""

_log = logging.getLogger("hl7_gateway.commit")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a message: stored, a repetition (with the first one's receipt), or why it is not stored."""

    failure: Rejection | None = None
    repeated: Receipt | None = None


STORED: Final = Verdict()
NOT_STORED: Final = Verdict(failure=STORE_FAILED)


Settled = Callable[["Arrival", Verdict], None]
"""Called with what became of a message, once it may be answered."""


@dataclass(slots=True, eq=False)
class Arrival:
    """A message whose channel is known and that waits to be stored; a rejected one is stored with its rejection.

    `control_id` is MSH-10 as it stands when `shape.accepted` can be filled with it, else empty; `began` is seconds of
    the monotonic clock.
    """

    id: str
    body: bytes
    peer: str
    shape: Shape
    control_id: bytes
    received_at: datetime
    began: float
    reception: Reception
    findings: Sequence[Finding]
    settled: Settled
    write: Callable[[bytes], None]
    taken: TakenMessage | None = None
    group: object | None = None
    """The batch it came in: its messages are stored in one transaction or not at all."""

    def prepare(self, keys: Keys) -> None:
        """Make what is stored, so that the transaction itself is short."""
        shape, channel = self.shape, self.shape.channel
        self.taken = TakenMessage(
            self.id,
            channel.tenant,
            channel.integration_id,
            channel.channel,
            self.peer,
            milliseconds_of(self.received_at),
            shape.rejection.code if shape.rejection is not None else "",
            keys.seal(self.body, record=self.id, field="body"),
            shape.duplicate_key(self._what_counts()),
            self.reception.connection_id,
        )

    def _what_counts(self) -> bytes:
        """What makes the message a repetition of another."""
        rule = self.reception.duplicate_rule
        if rule == "sender-control-id" and self.control_id:
            return self.control_id
        return self.id.encode() if rule == "off" else self.body


@dataclass(slots=True)
class _Held:
    keys: Keys | None
    until: float
    failure: Rejection | None = None


@dataclass(slots=True)
class Counts:
    """What the committer did so far."""

    commits: int = 0
    stored: int = 0
    repeated: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Queue:
    arrivals: deque[Arrival] = field(default_factory=deque)
    held_bytes: int = 0


class Committer:
    """See the module's text."""

    def __init__(
        self,
        intake: Intake,
        keys: KeySource,
        clock: Clock,
        *,
        batch_messages_max: int,
        waiting_bytes_max: int,
        store_timeout_s: float,
    ) -> None:
        self.counts = Counts()
        self.stored: Callable[[], None] = _nothing
        """Called after a transaction that stored messages."""
        self._intake = intake
        self._key_source = keys
        self._clock = clock
        self._batch_messages_max = batch_messages_max
        self._waiting_bytes_max = waiting_bytes_max
        self._store_timeout_s = store_timeout_s
        self._held: dict[str, _Held] = {}
        self._committed_at = -LOADED_S
        self._queue = _Queue()
        self._wake = asyncio.Event()
        self._late: set[asyncio.Task[Any]] = set()
        self._stopping = False

    @property
    def loaded(self) -> bool:
        """Whether messages are arriving: work that can wait leaves them the processor."""
        return bool(self._queue.arrivals) or self._clock.monotonic() - self._committed_at < LOADED_S

    @property
    def full(self) -> bool:
        """Whether enough waits already: then nobody reads."""
        return self._queue.held_bytes >= self._waiting_bytes_max

    @property
    def waiting(self) -> int:
        """How many messages wait for the next transaction."""
        return len(self._queue.arrivals)

    def put(self, arrival: Arrival) -> None:
        """Queue a message; `arrival.settled` is called with what became of it."""
        held = self._held.get(arrival.shape.channel.tenant)
        if held is not None and held.keys is not None and self._clock.monotonic() < held.until:
            self._try_to_prepare(arrival, held.keys)  # here, not later: the transaction before may still be running
        self._queue.held_bytes += len(arrival.body)
        self._queue.arrivals.append(arrival)
        self._wake.set()

    def put_together(self, arrivals: Sequence[Arrival]) -> None:
        """Queue messages that are stored together or not at all; at most as many as one transaction stores."""
        group = object()
        for arrival in arrivals:
            arrival.group = group
            self.put(arrival)

    async def run(self) -> None:
        """Commit until stopped; ends once nothing waits."""
        while True:
            if not self._queue.arrivals:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            for _ in range(TURNS):
                await asyncio.sleep(0)
            await self._commit(self._take())
            self._committed_at = self._clock.monotonic()

    def stop(self) -> None:
        """Let `run` end after what waits is committed."""
        self._stopping = True
        self._wake.set()

    def _take(self) -> list[Arrival]:
        arrivals = self._queue.arrivals
        if len(arrivals) <= self._batch_messages_max:
            batch = list(arrivals)
            arrivals.clear()
            return batch
        batch = [arrivals.popleft() for _ in range(self._batch_messages_max)]
        return _without_a_cut_group(batch, arrivals)

    async def _commit(self, batch: list[Arrival]) -> None:
        unprepared = await self._prepare(batch)
        prepared = [arrival for arrival in batch if arrival.taken is not None]
        verdicts = await self._save(prepared) if prepared else {}
        self.stored()
        for arrival in batch:
            verdict = unprepared.get(arrival.id) or verdicts.get(arrival.id, STORED)
            self._queue.held_bytes -= len(arrival.body)
            self._count(verdict)
            try:
                arrival.settled(arrival, verdict)
            except Exception as error:  # noqa: BLE001 - the others of this commit still get their answers
                extra = {"error_type": type(error).__name__, "message_id": arrival.id}
                _log.error("message not answered", extra=extra)

    def _count(self, verdict: Verdict) -> None:
        if verdict.failure is not None:
            self.counts.failed += 1
        elif verdict.repeated is not None:
            self.counts.repeated += 1
        else:
            self.counts.stored += 1

    async def _prepare(self, batch: Sequence[Arrival]) -> dict[str, Verdict]:
        """Prepare what could not be when it came; those whose keys cannot be had are answered negatively."""
        failed: dict[str, Verdict] = {}
        for arrival in batch:
            if arrival.taken is not None:
                continue
            held = await self._keys_of(arrival.shape.channel.tenant)
            if held.keys is None:
                failed[arrival.id] = Verdict(failure=held.failure)
                continue
            if not self._try_to_prepare(arrival, held.keys):
                failed[arrival.id] = NOT_STORED
        return {**_of_their_groups(batch, failed), **failed} if failed else failed

    def _try_to_prepare(self, arrival: Arrival, keys: Keys) -> bool:
        """A message that trips our own code must not take the committer, and so everybody else's, with it."""
        try:
            arrival.prepare(keys)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this message alone
            arrival.taken = None
            _log.error("message not prepared", extra={"error_type": type(error).__name__, "message_id": arrival.id})
            return False
        return True

    async def _keys_of(self, tenant: str) -> _Held:
        held = self._held.get(tenant)
        if held is not None and self._clock.monotonic() < held.until:
            return held
        try:
            async with asyncio.timeout(KEYS_TIMEOUT_S):
                keys = await self._key_source.tenant(tenant)
            held = _Held(keys, self._clock.monotonic() + KEYS_FRESH_S)
        except (SuiteError, TimeoutError) as error:
            code = error.code if isinstance(error, SuiteError) else "keys.unavailable"
            _log.warning("messages not stored: no keys", extra={"tenant": tenant, "code": code})
            # Not asked again for every message: a tenant whose keys are away holds up the others.
            held = _Held(None, self._clock.monotonic() + KEYS_RETRY_S, KEYS_UNAVAILABLE)
        self._held[tenant] = held
        return held

    async def _save(self, batch: Sequence[Arrival]) -> Mapping[str, Verdict]:
        """The verdict of each message that was not simply stored."""
        taken = [arrival.taken for arrival in batch if arrival.taken is not None]
        saving = asyncio.ensure_future(self._intake.save(taken))
        left_s = batch[0].began + self._store_timeout_s - self._clock.monotonic()
        await asyncio.wait({saving}, timeout=max(left_s, ATTEMPT_MIN_S))
        if not saving.done():
            self._give_up(saving)
            _log.error("messages not stored in time", extra={"code": "hl7.store-failed", "count": len(batch)})
            return {arrival.id: NOT_STORED for arrival in batch}
        error = saving.exception()
        if error is None:
            self.counts.commits += 1
            return {message_id: Verdict(repeated=receipt) for message_id, receipt in saving.result().items()}
        if not isinstance(error, Exception):
            raise error
        half = _half(batch)
        if isinstance(error, SuiteError) or not half:
            code = error.code if isinstance(error, SuiteError) else "internal.error"
            extra = {"code": code, "error_type": type(error).__name__, "count": len(batch)}
            _log.error("messages not stored", extra=extra)
            return {arrival.id: NOT_STORED for arrival in batch}
        return {**await self._save(batch[:half]), **await self._save(batch[half:])}

    def _give_up(self, saving: asyncio.Future[Any]) -> None:
        """Leave a transaction that hangs to end by itself; its end is looked at, so that nobody warns of it."""
        task = asyncio.ensure_future(saving)
        self._late.add(task)
        task.add_done_callback(self._ended)
        task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.info("a transaction given up on has failed", extra={"error_type": type(task.exception()).__name__})


def _grouped(before: Arrival, after: Arrival) -> bool:
    return before.group is not None and before.group is after.group


def _without_a_cut_group(batch: list[Arrival], queue: deque[Arrival]) -> list[Arrival]:
    """The batch up to a group that goes on in the queue; a group alone is taken to its end."""
    if not _grouped(batch[-1], queue[0]):
        return batch
    group = batch[-1].group
    first = next(place for place, arrival in enumerate(batch) if arrival.group is group)
    if first:
        queue.extendleft(reversed(batch[first:]))
        return batch[:first]
    while queue and queue[0].group is group:
        batch.append(queue.popleft())
    return batch


def _half(batch: Sequence[Arrival]) -> int:
    """Where a batch may be cut in two, near its middle; 0 when it is one message, or one group."""
    middle = len(batch) // 2
    places = [place for place in range(1, len(batch)) if not _grouped(batch[place - 1], batch[place])]
    return min(places, key=lambda place: abs(place - middle), default=0)


def _of_their_groups(batch: Sequence[Arrival], failed: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts of those that fail because one of their group does; they are not stored either."""
    groups = {arrival.group: failed[arrival.id] for arrival in batch if arrival.id in failed}
    groups.pop(None, None)
    with_them = {arrival.id: groups[arrival.group] for arrival in batch if arrival.group in groups}
    for arrival in batch:
        if arrival.id in with_them:
            arrival.taken = None
    return with_them


def _nothing() -> None:
    """Until somebody listens."""
