"""Work one sender's queue: `core.delivery` decides, this does, under the lease that makes it the queue's one owner.

Everything that takes time (connecting, reading, the store) runs beside the loop and comes back to it as a call, so
that the core is only ever touched from one place. Nothing here outlives `run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.leases import Lease
from hl7_gateway.core.backoff import pause_s
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.delivery import (
    Action,
    Close,
    Connect,
    Delivery,
    Ending,
    Settlement,
    Transmit,
    Write,
    rules_of,
)
from hl7_gateway.core.outbound_window import Read
from hl7_gateway.ports import Connector, Delivered, DeliveryJournal, OutboundQueue, PeerLink, Signals

POLL_S: Final = 1.0
STORE_BACKOFF_MS: Final = (100, 5_000)
STORED_TIMEOUT_S: Final = 5.0
"""How long a stop waits for the store after what was in flight has been given up."""
WAITING_CALLS_MAX: Final = 64
LOST: Final = "lease.lost"

Chance = Callable[[], float]
_log = logging.getLogger("hl7_gateway.delivery")


class Destination:
    """See the module's text. `run` once; `wake` and `rescan` tell it that its queue changed."""

    def __init__(
        self,
        connection: Connection,
        material: TlsMaterial,
        queue: OutboundQueue,
        connector: Connector,
        journal: DeliveryJournal,
        clock: Clock,
        chance: Chance,
        *,
        stop_timeout_s: float,
        poll_s: float = POLL_S,
    ) -> None:
        self.connection = connection
        self._material = material
        self._queue = queue
        self._connector = connector
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._stop_timeout_s = stop_timeout_s
        self._poll_s = poll_s
        rules = rules_of(connection.sending, connection.configuration.idle_timeout_s)
        self._delivery = Delivery(rules, clock.monotonic())
        # Bounded: a receiver that floods us is read no faster than its bytes are looked at.
        self._happened: asyncio.Queue[Callable[[], None]] = asyncio.Queue(WAITING_CALLS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: dict[int, PeerLink] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self._failure: BaseException | None = None
        self._noted: tuple[bool, str | None] | None = None
        self._noting = False
        self._store_failures = 0
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Messages were queued."""
        self._delivery.wake()
        self._changed.set()

    def rescan(self) -> None:
        """Messages came back into the queue, or left it."""
        self._delivery.rescan()
        self._changed.set()

    async def run(self, lease: Lease, stop: asyncio.Event) -> None:
        """Until `stop` is set and what was in flight is stored, or the lease is lost.

        Raises what makes it impossible to go on, SuiteError mostly; the queue is then as the store has it.
        """
        self._lease = lease
        await self._queue.recover(lease, self.connection)
        self._begin(self._watch())
        self._begin(self._tell_when(stop, self._stop))
        self._begin(self._tell_when(lease.lost, self._lost))
        try:
            while self._failure is None and not self._delivery.stopped:
                self._act()
                await self._wait()
        finally:
            await self._end()
            with contextlib.suppress(SuiteError):
                await self._queue.note_link(self.connection, "down", None)
        if self._failure is not None and not _is_lost(self._failure):
            raise self._failure

    # ---- The loop.

    def _act(self) -> None:
        while actions := self._delivery.actions(self._clock.monotonic()):
            for action in actions:
                self._do(action)
        self._note_link()

    async def _wait(self) -> None:
        """Until something happened or a deadline has come; what happened is then known to the core."""
        now = self._clock.monotonic()
        deadline = self._delivery.deadline(now)
        if not self._changed.is_set() and (deadline is None or deadline > now):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else deadline - now):
                    await self._changed.wait()
        else:
            await asyncio.sleep(0)  # however busy this receiver is, the others get their turn
        self._changed.clear()
        while not self._happened.empty():
            self._happened.get_nowait()()
        self._delivery.tick(self._clock.monotonic(), self._chance())

    async def _tell(self, call: Callable[[], None]) -> None:
        await self._happened.put(call)
        self._changed.set()

    def _do(self, action: Action) -> None:
        if isinstance(action, Connect):
            self._connecting = self._begin(self._connect(action.generation))
        elif isinstance(action, Close):
            self._close(action.generation)
        elif isinstance(action, Transmit):
            self._links[action.generation].send(action.frame)
        elif isinstance(action, Write):
            self._begin(self._write(action))
        else:
            self._begin(self._read(action))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"hl7-send-{self.connection.id}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._changed.set()

    async def _end(self) -> None:
        for generation in list(self._links):
            self._close(generation)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- Stopping.

    async def _tell_when(self, event: asyncio.Event, call: Callable[[], None]) -> None:
        await event.wait()
        await self._tell(call)

    def _stop(self) -> None:
        self._delivery.stop(self._clock.monotonic())
        self._begin(self._give_up_later())

    async def _give_up_later(self) -> None:
        await asyncio.sleep(self._stop_timeout_s)
        await self._tell(lambda: self._delivery.give_up(self._clock.monotonic()))
        await asyncio.sleep(STORED_TIMEOUT_S)
        raise SuiteError("database.unavailable", "What was in flight could not be given back; its next owner finds it.")

    def _lost(self) -> None:
        self._failure = SuiteError(LOST)

    # ---- The receiver.

    async def _connect(self, generation: int) -> None:
        try:
            link = await self._connector.connect(self.connection, self._material)
        except SuiteError as error:
            _log.info("receiver not reached", extra={"connection_id": self.connection.id, "code": error.code})
            await self._tell(partial(self._not_connected, generation, error.code))
            return
        self._links[generation] = link
        self._begin(self._listen(generation, link))
        await self._tell(lambda: self._delivery.connected(generation, self._clock.monotonic()))

    async def _listen(self, generation: int, link: PeerLink) -> None:
        while isinstance(received := await link.receive(), bytes):
            await self._tell(partial(self._received, generation, received))
        await self._tell(partial(self._over, generation, received))

    def _not_connected(self, generation: int, code: str) -> None:
        self._delivery.connect_failed(generation, code, self._clock.monotonic(), self._chance())

    def _received(self, generation: int, data: bytes) -> None:
        self._delivery.received(generation, data, self._clock.monotonic(), self._chance())

    def _over(self, generation: int, ending: Ending) -> None:
        self._delivery.ended(generation, ending, self._clock.monotonic(), self._chance())
        self._close(generation)

    def _close(self, generation: int) -> None:
        link = self._links.pop(generation, None)
        if link is not None:
            link.close()
        elif generation == self._delivery.generation and self._connecting is not None:
            self._connecting.cancel()

    # ---- The store.

    async def _read(self, read: Read) -> None:
        try:
            rows = await self._queue.read(self.connection, read)
        except SuiteError as error:
            await self._after_failure(error, self._delivery.unread)
            return
        self._store_failures = 0
        await self._tell(lambda: self._delivery.fetched(read, rows, self._clock.monotonic()))

    async def _write(self, write: Write) -> None:
        assert self._lease is not None
        counted = self._delivery.counts.taken()
        try:
            bodies = await self._queue.write(self._lease, self.connection, write, counted)
        except SuiteError as error:
            self._delivery.counts.give_back(counted)
            await self._after_failure(error, lambda: self._delivery.unwritten(write))
            return
        self._store_failures = 0
        for settlement in write.settlements:
            self._record(settlement)
        await self._tell(lambda: self._delivery.written(bodies, self._clock.monotonic()))

    async def _after_failure(self, error: SuiteError, then: Callable[[], None]) -> None:
        """A store that is away is asked again after a pause; the receiver's connection stays meanwhile."""
        if not error.transient or _is_lost(error):
            raise error
        self._store_failures += 1
        first_ms, max_ms = STORE_BACKOFF_MS
        _log.warning("queue not at hand", extra={"connection_id": self.connection.id, "code": error.code})
        await asyncio.sleep(pause_s(self._store_failures, self._chance(), first_ms=first_ms, max_ms=max_ms))
        await self._tell(then)

    async def _watch(self) -> None:
        """What other replicas put into the queue or release is noticed by looking."""
        seen: Signals | None = None
        while True:
            try:
                found = await self._queue.signals(self.connection)
            except SuiteError as error:
                _log.info("queue not watched", extra={"connection_id": self.connection.id, "code": error.code})
            else:
                if seen is not None and found.revision != seen.revision:
                    self.rescan()
                elif seen is None or found.queued != seen.queued:
                    self.wake()
                seen = found
            self._delivery.flush()
            self._changed.set()
            await asyncio.sleep(self._poll_s)

    def _note_link(self) -> None:
        now = (bool(self._links), self._delivery.last_error)
        if now != self._noted and not self._noting:
            self._noting = True
            self._begin(self._note(now))

    async def _note(self, link: tuple[bool, str | None]) -> None:
        try:
            await self._queue.note_link(self.connection, "up" if link[0] else "down", link[1])
        except SuiteError as error:
            _log.info("link not noted", extra={"connection_id": self.connection.id, "code": error.code})
            await asyncio.sleep(self._poll_s)
        else:
            self._noted = link
        self._noting = False
        self._changed.set()

    def _record(self, settlement: Settlement) -> None:
        if settlement.began is None:
            return
        duration_s = self._clock.monotonic() - settlement.began
        self._journal.tried(
            Delivered(
                connection=self.connection,
                operation=settlement.candidate.operation,
                started_at=self._clock.now() - timedelta(seconds=duration_s),
                duration_ms=(settlement.ended - settlement.began) * 1000,
                error_code=settlement.error_code,
                request_bytes=settlement.candidate.size_bytes,
            )
        )


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, SuiteError) and error.code == LOST
