"""Cancel a run: at once when nobody works on it yet, else at its next page."""

from __future__ import annotations

from dataclasses import replace

from common.models.clock import Clock
from sync.core.run import Run
from sync.core.run_state import RunEvent, RunState, after
from sync.ports import RunBook, Session


async def cancel_run(session: Session, run_id: str, *, runs: RunBook, clock: Clock) -> Run:
    """The run as it is now. Raises SuiteError `request.conflict` when it has ended."""
    run = await runs.reload(session, run_id)
    cancelled = after(run.state, RunEvent.CANCEL)
    if run.state is RunState.RUNNING:
        await runs.request_cancel(session, run.id)
        return replace(run, cancel_requested=True)
    return await end_run(session, replace(run, state=cancelled), RunEvent.CANCEL, runs=runs, clock=clock)


async def end_run(session: Session, run: Run, event: RunEvent, *, runs: RunBook, clock: Clock) -> Run:
    """Store a run in its last state, tell of it, and forget what it had in its hands."""
    now = clock.now()
    ended = replace(run, updated_at=now, finished_at=now)
    await runs.save(session, ended, event)
    await runs.forget_seen(session, ended.id)
    return ended
