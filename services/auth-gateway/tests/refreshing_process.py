"""An auth-gateway as a process of its own that refreshes one credential: `python refreshing_process.py <data> <path>`.

It prints its status when it is done; a test kills it before.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from auth_gateway.module import build
from common.models.access import Role
from common.testing import make_test_runtime, running


async def refresh(data: Path, path: str) -> None:
    runtime = make_test_runtime(data, "auth-gateway", log_level="ERROR")
    async with running(runtime, build) as up, up.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}:refresh")
        sys.stdout.write(f"{answer.status_code} {answer.text}\n")


if __name__ == "__main__":
    asyncio.run(refresh(Path(sys.argv[1]), sys.argv[2]))
