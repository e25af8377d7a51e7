"""Feeds that run: each composes its messages when they are due and sends them over its connections.

A feed has one dispatcher and one worker per connection; a connection's messages keep their order. Nothing that goes
wrong at the receiver ends a feed: it is counted, the connection is opened anew, the next message goes on.
"""

from __future__ import annotations

import asyncio
from typing import Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from simulator.core.chart import Chart
from simulator.core.fault_row import Surface
from simulator.core.feed import BEHIND_S_MAX, FeedMessage, FeedPlan, FeedState, gap_of_feed, message_of
from simulator.core.hl7_feed import read_acknowledgment
from simulator.core.hostile_sender import Active, steps_of
from simulator.core.world import World
from simulator.ports import Link, MessageSender, Pause

FEEDS_MAX: Final = 20
WAITING_MESSAGES_MAX: Final = 100
RECONNECT_S: Final = 0.2
IDLE_FAULT: Final = "hl7-feed-idle"

_Key = tuple[str, str]
"""Tenant and name."""


class Feeds:
    """The feeds by tenant and name; one that ended is kept until it is removed or started again."""

    def __init__(self, world: World, sender: MessageSender, clock: Clock, pause: Pause) -> None:
        self._world = world
        self._sender = sender
        self._clock = clock
        self._pause = pause
        self._states: dict[_Key, FeedState] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}

    def all(self, tenant: str) -> list[FeedState]:
        """Every feed of a tenant, by name."""
        return [self._states[key] for key in sorted(self._states) if key[0] == tenant]

    def get(self, tenant: str, name: str) -> FeedState:
        """One feed; raises SuiteError `simulator.not-found`."""
        state = self._states.get((tenant, name))
        if state is None:
            raise SuiteError("simulator.not-found", "There is no feed of that name.")
        return state

    async def start(self, tenant: str, plan: FeedPlan) -> FeedState:
        """Start a feed, in the place of one of its name; raises
        SuiteError `simulator.not-found`, `request.conflict`."""
        chart = self._world.chart(plan.practice)
        if chart is None:
            raise SuiteError("simulator.not-found", "There is no simulated practice of that name.")
        key = (tenant, plan.name)
        if key not in self._states and len(self._states) >= FEEDS_MAX:
            raise SuiteError("request.conflict", f"At most {FEEDS_MAX} feeds; remove one that is not used.")
        await self._cancel(key)
        state = self._states[key] = FeedState(plan, self._clock.now())
        self._tasks[key] = asyncio.create_task(self._run(state, chart), name=f"feed-{plan.name}")
        return state

    async def remove(self, tenant: str, name: str) -> None:
        """Stop a feed and forget it; raises SuiteError `simulator.not-found`."""
        self.get(tenant, name)
        await self._cancel((tenant, name))
        self._states.pop((tenant, name), None)

    async def stop(self) -> None:
        """End all of them."""
        for key in list(self._tasks):
            await self._cancel(key)

    async def _cancel(self, key: _Key) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, state: FeedState, chart: Chart) -> None:
        lanes = [asyncio.Queue[FeedMessage | None](WAITING_MESSAGES_MAX) for _ in range(state.plan.connections)]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes:
                    group.create_task(self._work(state, lane))
                await self._dispatch(state, chart, lanes)
                for lane in lanes:
                    await lane.put(None)
        finally:
            state.ended_at = self._clock.now()

    async def _dispatch(self, state: FeedState, chart: Chart, lanes: list[asyncio.Queue[FeedMessage | None]]) -> None:
        plan, due, sequence = state.plan, self._clock.monotonic(), 0
        while plan.messages_max is None or sequence < plan.messages_max:
            now = self._clock.now()
            message = message_of(plan, chart, sequence, now)
            await lanes[message.connection].put(message)
            due += gap_of_feed(plan, chart, sequence, now)
            sequence += 1
            behind = self._clock.monotonic() - due
            if behind > BEHIND_S_MAX:
                due += behind - BEHIND_S_MAX
            # Also when nothing is to be waited for: the workers and everybody else must get their turn.
            await self._pause(max(0.0, -behind))

    async def _work(self, state: FeedState, lane: asyncio.Queue[FeedMessage | None]) -> None:
        link: Link | None = None
        try:
            while (message := await lane.get()) is not None:
                link = await self._send(state, message, link)
        finally:
            if link is not None:
                await link.close()

    async def _send(self, state: FeedState, message: FeedMessage, link: Link | None) -> Link | None:
        """One message; the link as it is afterwards, None when it is of no more use."""
        plan = state.plan
        try:
            link = link or await self._sender.open(plan.host, plan.port, timeout_s=plan.timeout_s)
        except SuiteError as error:
            state.errors[error.code] += 1
            await self._pause(RECONNECT_S)
            return None
        faults: Active = self._world.faults.on(Surface.HL7_SENDER, self._clock.now())
        if IDLE_FAULT in faults:
            state.withheld += 1
            return link
        state.sent += 1
        state.types[message.kind] += 1
        state.message_bytes += len(message.body)
        try:
            answer = await link.play(steps_of(message.body, faults), timeout_s=plan.timeout_s)
        except SuiteError as error:
            state.errors[error.code] += 1
            await link.close()
            return None
        acknowledgment = read_acknowledgment(answer)
        if acknowledgment is None:
            state.errors["peer.unreadable"] += 1
        else:
            state.codes[acknowledgment.code] += 1
            state.mismatched += acknowledgment.control_id != message.control_id
        return link
