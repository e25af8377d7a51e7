"""Retention, without databases."""

import asyncio
import contextlib

from hl7_gateway.use_cases.forget_messages import Retention, forget_messages


class Some:
    """A store with so many old ones, of which it deletes ten at once."""

    def __init__(self, count: int) -> None:
        self.left, self.asked, self.done = count, [], asyncio.Event()

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        return await self._some((kept_s, bytes_max))

    async def forget(self, kept_s: float) -> int:
        return await self._some(kept_s)

    async def _some(self, asked: object) -> int:
        self.asked.append(asked)
        deleted = min(10, self.left)
        self.left -= deleted
        if not deleted:
            self.done.set()
        return deleted


async def test_all_that_is_old_goes_and_what_is_known_never_before_the_contents() -> None:
    bodies, headers = Some(25), Some(5)
    task = asyncio.create_task(forget_messages(bodies, headers, Retention(100.0, 7, 50.0), every_s=3600.0))
    async with asyncio.timeout(10):
        await bodies.done.wait()
        await headers.done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (bodies.left, headers.left) == (0, 0)
    assert set(bodies.asked) == {(100.0, 7)}
    assert set(headers.asked) == {100.0}
