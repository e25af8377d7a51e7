"""A service as a process of its own: `python host_process.py --port … --data …`, as `python -m <package>` is.

It tells its life on standard output. THINGS_START=hang never gets up. `GET /things/v1/slow?until=<file>` is answered
once that file is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter

from common.models.access import CONFIGURE, Access
from common.runtime.host import main
from common.runtime.module import Module
from common.runtime.runtime import Runtime


def tell(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    tell("starting")
    try:
        if os.environ.get("THINGS_START") == "hang":
            await asyncio.Event().wait()
        tell("up")
        yield
    finally:
        tell("down")


def build(runtime: Runtime) -> Module:
    router = APIRouter()

    @router.get("/slow")
    async def slow(until: str) -> dict[str, bool]:
        tell("handling")
        while not await asyncio.to_thread(Path(until).exists):  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.01)
        tell("handled")
        return {"finished": True}

    @router.get("/quick")
    async def quick() -> dict[str, bool]:
        return {"finished": True}

    @router.post("/things")
    @router.post("/guarded")
    async def add(body: dict[str, str]) -> dict[str, str]:
        return body

    access = [Access("GET", path, frozenset(), "for the tests of the host") for path in ("/slow", "/quick")]
    access += [
        Access("POST", "/things", frozenset(), "for the tests of the host"),
        Access("POST", "/guarded", CONFIGURE),
    ]
    return Module("things", "/things", router, access, lifespan=lifespan)


if __name__ == "__main__":
    main(build, service="things")
