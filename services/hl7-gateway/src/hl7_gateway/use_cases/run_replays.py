"""Work the running replays, on one replica at a time, page by page.

Each replay has its own pace: its next page is due when its rate allows it, so one that waits for its target holds up
none of the others. A page is handed over in one transaction with the cursor behind it; who dies between two pages is
followed by the next owner once the lease has run out, behind the same cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.leases import Lease
from hl7_gateway.core.connection_configuration import Connection, ConnectionState
from hl7_gateway.core.outbound_message import NewOutbound
from hl7_gateway.core.replay import LEASE_NAME, PageMessage, Replay, Sorted, Step, page_messages, queue_room, sort_page
from hl7_gateway.ports import ConnectionBook, HandedTo, KeySource, OrderKeys, OutboundBook, ReplayQueue
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages

RUNNING_MAX: Final = 500
"""Replays that are worked at a time; later ones wait."""
POLL_S: Final = 2.0
"""How often replays that another replica started are looked for."""
RETRY_S: Final = 1.0
"""How long a replay rests whose target takes nothing."""
NOT_SENDING: Final = "connection.not-sending"

_log = logging.getLogger("hl7_gateway.replays")


class Replays:
    """See the module's text."""

    def __init__(
        self,
        queue: ReplayQueue,
        connections: ConnectionBook,
        outbound: OutboundBook,
        enqueue: EnqueueMessages,
        keys: KeySource,
        order_keys: OrderKeys,
        hold: Callable[[str], AbstractAsyncContextManager[Lease | None]],
        clock: Clock,
        *,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._queue = queue
        self._connections = connections
        self._outbound = outbound
        self._enqueue = enqueue
        self._keys = keys
        self._order_keys = order_keys
        self._hold = hold
        self._clock = clock
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._wake = asyncio.Event()
        self._due: dict[str, float] = {}
        self._worked: dict[str, float] = {}

    def wake(self) -> None:
        """A replay was started, or changed."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; whatever happens, it begins again."""
        while True:
            self._wake.clear()
            try:
                if await self._queue.running(1):
                    await self._try_to_own()
            except SuiteError as error:
                _log.warning("replays begin again", extra={"code": error.code})
            await self._rest(self._poll_s)

    async def _try_to_own(self) -> None:
        """Nothing when another replica works them. The lease is held, and renewed, only while a replay runs."""
        async with self._hold(LEASE_NAME) as lease:
            self._due.clear()
            self._worked.clear()
            while lease is not None and not lease.lost.is_set():
                self._wake.clear()
                rest_s = await self.work(lease)
                if not self._due:
                    return
                await self._rest(rest_s)

    async def work(self, lease: Lease) -> float:
        """A page of each replay that is due; seconds until the next one may be. Raises SuiteError `lease.lost`."""
        running = await self._queue.running(RUNNING_MAX)
        now = self._clock.monotonic()
        self._due = {replay.id: self._due.get(replay.id, now) for replay in running}
        self._worked = {name: at for name, at in self._worked.items() if name in self._due}
        for replay in running:
            if self._due[replay.id] <= self._clock.monotonic():
                self._due[replay.id] = await self._turn(lease, replay)
        rest_s = min(self._due.values(), default=now + self._poll_s) - self._clock.monotonic()
        return max(0.0, min(rest_s, self._poll_s))

    async def _rest(self, rest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._wake.wait()

    async def _turn(self, lease: Lease, replay: Replay) -> float:
        """One page; when the next is due."""
        began = self._clock.monotonic()
        try:
            count = await self._page(lease, replay, began)
        except SuiteError as error:
            if error.code == "lease.lost":
                raise
            extra = {"replay_id": replay.id, "code": error.code}
            if error.transient or error.code == NOT_SENDING:
                if replay.waiting_code != error.code:
                    _log.info("replay waits", extra=extra)
                    await self._queue.wait(lease, replay, error.code)
                return began + self._retry_s
            _log.error("replay failed", extra=extra)
            await self._queue.end(lease, replay, Step.FAIL, error.code)
        except Exception:  # noqa: BLE001 - a mistake of ours in one replay must not hold up the others
            _log.exception("replay failed", extra={"replay_id": replay.id})
            await self._queue.end(lease, replay, Step.FAIL, "internal.error")
        else:
            self._worked[replay.id] = began
            return began + count / replay.rate_per_s
        return began + self._retry_s

    async def _page(self, lease: Lease, replay: Replay, began: float) -> int:
        """Hand the next page over; how many messages it had."""
        page = await self._queue.page(replay, page_messages(replay.rate_per_s))
        if not page:  # seen before the queue: one that is full because of us holds nothing up any more
            await self._queue.end(lease, replay, Step.FINISH, None)
            return 0
        connection = None
        if replay.target.connection_id:
            connection = await self._connections.get(replay.tenant, replay.target.connection_id)
            page = page[: await self._room(connection)]
        found = sort_page(page, replay.target)
        if connection is None:
            to = HandedTo(keys=await self._order_keys([one.message for one in found.going]))
        else:
            to = HandedTo(connection=connection, messages=await self._made(connection, found))
        rested_s = began - self._worked[replay.id] if replay.id in self._worked else len(page) / replay.rate_per_s
        await self._queue.hand_over(lease, replay, page, found, to, round(rested_s * 1000))
        return len(page)

    async def _room(self, connection: Connection) -> int:
        if connection.state is ConnectionState.DISABLED:
            raise SuiteError(NOT_SENDING, "It is disabled.")
        room = queue_room(connection.sending.queue_messages_max, (await self._outbound.live(connection)).depth)
        if not room:
            raise SuiteError("connection.queue-full")
        return room

    async def _made(self, connection: Connection, found: Sorted) -> list[NewOutbound]:
        """The messages as the connection sends them; those that it can not are skipped."""
        keys = await self._keys.tenant(connection.tenant)
        bodies = []
        for one in found.going:
            try:
                bodies.append(keys.open(_sealed(one), record=one.message.id, field="body"))
            except SuiteError as error:
                found.skip(error.code)
        messages = []
        for made in await self._enqueue.made(connection, bodies):
            if isinstance(made, SuiteError):
                found.skip(made.code)
            else:
                messages.append(made)
        return messages


def _sealed(one: PageMessage) -> bytes:
    assert one.sealed_body is not None, "sort_page lets only messages with bodies go"
    return one.sealed_body
