"""Background work of a module: runs while its lifespan lasts, and is never silently dead.

Work that fails is a fault of ours: it is logged with its type and place, and begun again after a pause that doubles up
to half a minute. Work that ends by itself has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

PAUSE_S_MIN: Final = 1.0
PAUSE_S_MAX: Final = 30.0
_log = logging.getLogger("common.background")

Work = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def background(name: str, *works: Work, pause_s: float = PAUSE_S_MIN) -> AsyncIterator[None]:
    """Run the works beside the block; they are cancelled when it ends."""
    tasks = [asyncio.create_task(_keep_running(name, work, pause_s), name=name) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(name: str, work: Work, pause_s: float) -> None:
    wait_s = pause_s
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - whatever it was, the work goes on
            _log.exception("background work failed and begins again", extra={"lane": name})
        else:
            return
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, PAUSE_S_MAX)
