"""Every active sender has its own task and its own lease: a receiver that is stuck holds up nobody else.

A connection that changed is stopped (what is in flight is finished or given back) and begun anew as it is now. On
several replicas each queue has one owner at a time; the others wait for its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from common.models.errors import SuiteError
from common.runtime.leases import Lease
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.delivery import lease_name
from hl7_gateway.use_cases.deliver_messages import Destination

LEASE_WAIT_S: Final = 5.0
"""How often a replica that does not own a queue asks for it."""
POLL_S: Final = 2.0
RETRY_S: Final = 5.0

_log = logging.getLogger("hl7_gateway.destinations")


@dataclass(slots=True)
class _Running:
    connection: Connection
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    destination: Destination | None = None


class Destinations:
    """See the module's text. `wake` and `rescan` are given the id of a connection whose queue changed."""

    def __init__(
        self,
        active: Callable[[], Awaitable[Sequence[Connection]]],
        material: Callable[[Connection], Awaitable[TlsMaterial]],
        make: Callable[[Connection, TlsMaterial], Destination],
        hold: Callable[[str], AbstractAsyncContextManager[Lease | None]],
        *,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_S,
        lease_wait_s: float = LEASE_WAIT_S,
    ) -> None:
        self._active = active
        self._material = material
        self._make = make
        self._hold = hold
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._lease_wait_s = lease_wait_s
        self._running: dict[str, _Running] = {}
        self._look = asyncio.Event()
        self._stopping = False

    def look(self) -> None:
        """A connection changed."""
        self._look.set()

    def wake(self, connection_id: str) -> None:
        """Messages were queued."""
        running = self._running.get(connection_id)
        if running is not None and running.destination is not None:
            running.destination.wake()

    def rescan(self, connection_id: str) -> None:
        """Messages came back into a queue, or left it."""
        running = self._running.get(connection_id)
        if running is not None and running.destination is not None:
            running.destination.rescan()

    async def run(self) -> None:
        """Until `stop`. Looks at once when told of a change, and now and then for those of other replicas."""
        while not self._stopping:
            self._look.clear()
            try:
                self._reconcile(await self._active())
            except SuiteError as error:
                _log.warning("connections not read", extra={"code": error.code})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._look.wait()

    async def stop(self) -> None:
        """Let every destination finish what is in flight or give it back; returns when all have."""
        self._stopping = True
        self._look.set()
        for running in self._running.values():
            running.stop.set()
        tasks = [running.task for running in self._running.values() if running.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reconcile(self, active: Sequence[Connection]) -> None:
        wanted = {connection.id: connection for connection in active}
        for connection_id, running in self._running.items():
            now = wanted.get(connection_id)
            if now is None or now.version != running.connection.version:
                running.stop.set()
        for connection in wanted.values():
            if connection.id not in self._running and not self._stopping:
                running = _Running(connection)
                running.task = asyncio.create_task(self._own(running), name=f"hl7-destination-{connection.id}")
                running.task.add_done_callback(lambda _, gone=connection.id: self._ended(gone))  # type: ignore[misc]
                self._running[connection.id] = running

    def _ended(self, connection_id: str) -> None:
        del self._running[connection_id]
        self._look.set()

    async def _own(self, running: _Running) -> None:
        """Wait for the queue's lease and work it, again and again until told to stop."""
        while not running.stop.is_set():
            pause_s = self._lease_wait_s
            try:
                async with self._hold(lease_name(running.connection.id)) as lease:
                    if lease is not None:
                        await self._work(running, lease)
            except SuiteError as error:
                extra = {"connection_id": running.connection.id, "code": error.code}
                _log.warning("destination begins again", extra=extra)
                pause_s = self._retry_s
            except Exception:  # noqa: BLE001 - whatever it was, the others go on, and so does this one
                extra = {"connection_id": running.connection.id}
                _log.exception("destination failed and begins again", extra=extra)
                pause_s = self._retry_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await running.stop.wait()

    async def _work(self, running: _Running, lease: Lease) -> None:
        running.destination = self._make(running.connection, await self._material(running.connection))
        try:
            await running.destination.run(lease, running.stop)
        finally:
            running.destination = None
