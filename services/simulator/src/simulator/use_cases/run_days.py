"""Days that run: a practice's clock goes fast or slow, what is due happens, and is told over HL7 where that is wanted.

Whoever asks for a day's state gets it as of that instant; besides, each day looks at the clock every `TICK_S`. Messages
keep their order on one connection; one that cannot be delivered is tried `ATTEMPTS_MAX` times, then counted as lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from common.models.clock import Clock
from common.models.errors import FieldError, SuiteError
from simulator.core.chart import Chart
from simulator.core.day import DayEvent, due
from simulator.core.day_run import begin, compose_told, happen
from simulator.core.fault_row import Surface
from simulator.core.faults import Faults
from simulator.core.hl7_feed import read_acknowledgment
from simulator.core.hostile_sender import steps_of
from simulator.ports import FileDrop, Link, MessageSender, Pause
from simulator.use_cases.drop_files import DropPlan, Drops

DAYS_MAX: Final = 20
TICK_S: Final = 0.25
STEP_EVENTS_MAX: Final = 500
WAITING_MAX: Final = 20_000
ATTEMPTS_MAX: Final = 3
RETRY_S: Final = 0.2

Alive = Callable[[], bool]
"""Whether the practice is still there."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go."""

    host: str
    port: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The day, the instant (UTC) its clock begins at, and how many seconds of it pass in one of ours."""

    day: date
    begins: datetime
    speed: float
    seed: int
    receiver: Receiver | None = None
    drop: DropPlan | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """An event that happened, with the kinds of the messages that tell it; none: it could not happen any more."""

    number: int
    event: DayEvent
    messages: tuple[str, ...]


@dataclass(slots=True)
class DayState:
    """A day that runs or ran."""

    plan: DayPlan
    chart: Chart = field(repr=False)
    faults: Faults = field(repr=False)
    started_at: datetime
    started_monotonic: float
    events: tuple[DayEvent, ...] = field(repr=False)
    position: int = 0
    ended_at: datetime | None = None
    stopped: bool = False
    stood_at: datetime | None = None
    happened: list[Happened] = field(default_factory=list, repr=False)
    counts: Counter[str] = field(default_factory=Counter)
    waiting: deque[tuple[str, bytes]] = field(default_factory=deque, repr=False)
    sent: int = 0
    lost: int = 0
    drops: Drops | None = None
    codes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class Days:
    """The days by practice (or server); one that ended is kept until another one begins."""

    def __init__(self, sender: MessageSender, clock: Clock, pause: Pause, folder: FileDrop | None = None) -> None:
        self._sender = sender
        self._folder = folder
        self._clock = clock
        self._pause = pause
        self._states: dict[str, DayState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, key: str, chart: Chart, faults: Faults, plan: DayPlan, alive: Alive) -> DayState:
        """Begin a day, which ends with the practice when that is not `alive` any more.

        Raises SuiteError `request.conflict` while one runs there or where there are too many, `request.invalid` for
        files without a folder.
        """
        present = self._states.get(key)
        if present is not None and present.ended_at is None and present.chart is chart:
            raise SuiteError("request.conflict", "A day runs in this practice; stop it first.")
        running = sum(state.ended_at is None for state in self._states.values())
        if running >= DAYS_MAX:
            raise SuiteError("request.conflict", f"At most {DAYS_MAX} days run at a time; stop one.")
        if plan.drop is not None and self._folder is None:
            field_error = FieldError("/drop", "not-set-up", "no folder is set (PS_SIMULATOR_DROP_FOLDER)")
            raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field_error])
        await self._cancel(key)
        every, now = begin(chart, plan.day, plan.seed), self._clock.now()
        # What was before the clock begins has happened, and nobody is told of it.
        for event in every:
            if event.at < plan.begins:
                happen(chart, event, now)
        events = tuple(event for event in every if event.at >= plan.begins)
        state = self._states[key] = DayState(plan, chart, faults, now, self._clock.monotonic(), events)
        if plan.drop is not None:
            ends = plan.begins + timedelta(minutes=plan.drop.every_minutes)
            state.drops = Drops(plan.drop, chart, f"{plan.day:%Y%m%d}-{now:%Y%m%d%H%M%S}", ends)
        self._tasks[key] = asyncio.create_task(self._run(state, alive), name=f"day-{key}")
        return state

    def get(self, key: str, chart: Chart) -> DayState:
        """A day as it is now; raises SuiteError `simulator.not-found` where none was begun."""
        state = self._states.get(key)
        if state is None or state.chart is not chart:
            raise SuiteError("simulator.not-found", "No day was begun in this practice.")
        self.step(state)
        return state

    async def stop(self, key: str, chart: Chart) -> DayState:
        """Let the clock stand; what happened stays. Raises SuiteError `simulator.not-found`."""
        state = self.get(key, chart)
        await self._cancel(key)
        if state.drops is not None and self._folder is not None:
            state.drops.close(self.instant(state))
            await state.drops.write(self._folder)
        if state.ended_at is None:
            state.stopped, state.stood_at, state.ended_at = True, self.instant(state), self._clock.now()
        return state

    async def close(self) -> None:
        """End all of them."""
        for key in list(self._tasks):
            await self._cancel(key)

    def instant(self, state: DayState) -> datetime:
        """What the practice's clock shows."""
        if state.stood_at is not None:
            return state.stood_at
        passed = (self._clock.monotonic() - state.started_monotonic) * state.plan.speed
        last = state.events[-1].at if state.events else state.plan.begins
        return min(state.plan.begins + timedelta(seconds=min(passed, 86_400.0)), max(last, state.plan.begins))

    def step(self, state: DayState) -> None:
        """Let everything happen that is due, `STEP_EVENTS_MAX` at most."""
        if state.ended_at is not None:
            return
        now, shown = self._clock.now(), self.instant(state)
        for event in due(state.events, state.position, shown)[:STEP_EVENTS_MAX]:
            self._happen(state, event, now)
        if state.drops is not None and not due(state.events, state.position, shown):
            state.drops.until(shown)
            if state.position == len(state.events):
                state.drops.close(shown)

    def _happen(self, state: DayState, event: DayEvent, now: datetime) -> None:
        told, number = happen(state.chart, event, now), state.position
        # MSH-10 holds 20 characters up to HL7 2.6.
        named = [
            (one.kind, compose_told(state.chart, one, event.at, f"D{state.started_at:%d%H%M%S}{number:06d}{place}"))
            for place, one in enumerate(told)
        ]
        state.happened.append(Happened(number, event, tuple(kind for kind, _ in named)))
        state.counts[event.kind.value if told else "could not happen"] += 1
        state.position += 1
        if state.drops is not None:
            for one, (_, body) in zip(told, named, strict=True):
                state.drops.tell(event.at, one, body)
        if state.plan.receiver is not None:
            room = max(0, WAITING_MAX - len(state.waiting))
            state.waiting.extend(named[:room])
            state.lost += len(named[room:])

    async def _cancel(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, state: DayState, alive: Alive) -> None:
        link: Link | None = None
        try:
            while alive() and (state.position < len(state.events) or state.waiting or self._files_wait(state)):
                self.step(state)
                if state.drops is not None and self._folder is not None:
                    await state.drops.write(self._folder)
                while state.waiting and alive():
                    link = await self._send(state, link)
                await self._pause(TICK_S)
            state.stood_at, state.ended_at = self.instant(state), self._clock.now()
        finally:
            if link is not None:
                await link.close()

    @staticmethod
    def _files_wait(state: DayState) -> bool:
        return state.drops is not None and bool(state.drops.waiting)

    async def _send(self, state: DayState, link: Link | None) -> Link | None:
        """The first message that waits; the link as it is afterwards."""
        receiver, (_, body) = state.plan.receiver, state.waiting[0]
        assert receiver is not None
        for _ in range(ATTEMPTS_MAX):
            try:
                link = link or await self._sender.open(receiver.host, receiver.port, timeout_s=receiver.timeout_s)
                steps = steps_of(body, state.faults.on(Surface.HL7_SENDER, self._clock.now()))
                acknowledgment = read_acknowledgment(await link.play(steps, timeout_s=receiver.timeout_s))
            except SuiteError as error:
                state.errors[error.code] += 1
                if link is not None:
                    await link.close()
                link = None
                await self._pause(RETRY_S)
                continue
            state.waiting.popleft()
            state.sent += 1
            if acknowledgment is None:
                state.errors["peer.unreadable"] += 1
            else:
                state.codes[acknowledgment.code] += 1
            return link
        state.waiting.popleft()
        state.lost += 1
        return link
