"""Take runs that wait, or whose worker is gone, and work on a few of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from common.models.errors import SuiteError
from common.models.integration import IntegrationState
from sync.core.run import Run
from sync.core.run_state import RunState
from sync.ports import Integrations, LeaseBook, RunBook
from sync.use_cases.synchronise import Synchronise

RUNS_LOOKED_AT_MAX: Final = 1_000
_GONE: Final = "integration.not-found"
_log = logging.getLogger("sync")


@dataclass(slots=True)
class WorkRuns:
    """The worker of this replica; `wake` makes it look at once."""

    runs: RunBook
    leases: LeaseBook
    integrations: Integrations
    synchronise: Synchronise
    lease_s: float
    at_once_max: int
    look_every_s: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _working: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def __call__(self) -> None:
        """Until cancelled; runs in hand are then left as they are, to go on from their cursors."""
        try:
            while True:
                self.wake.clear()
                try:
                    await self.look()
                except SuiteError as error:
                    _log.warning("runs not looked at", extra={"code": error.code})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.look_every_s):
                        await self.wake.wait()
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def look(self) -> None:
        """Take what can be taken now."""
        if len(self._working) >= self.at_once_max:
            return
        for run in await self.runs.live(RUNS_LOOKED_AT_MAX):
            if len(self._working) >= self.at_once_max:
                return
            if run.id not in self._working and await self._is_due(run):
                task = asyncio.create_task(self._work(run), name=f"run-{run.id}")
                self._working[run.id] = task
                task.add_done_callback(partial(self._done, run.id))

    async def settle(self) -> None:
        """Wait for the runs in hand."""
        while self._working:
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    def _done(self, run_id: str, _: asyncio.Task[None]) -> None:
        self._working.pop(run_id, None)

    async def _is_due(self, run: Run) -> bool:
        """A paused integration's runs wait; one that is gone is taken, so that it fails with the reason."""
        try:
            integration = await self.integrations.get(run.tenant, run.integration_id)
        except SuiteError as error:
            return error.code == _GONE
        return integration.state is IntegrationState.ACTIVE or run.state is RunState.RUNNING

    async def _work(self, run: Run) -> None:
        try:
            async with self.leases.hold(run.lease_name, ttl_s=self.lease_s) as lease:
                if lease is not None:
                    await self.synchronise(run, lease)
                    self.wake.set()  # there is room for another one
        except SuiteError as error:
            _log.warning("run interrupted", extra={"run_id": run.id, "code": error.code})
