"""A member of a group that takes a batch and never gives it back: run as a process of its own, to be killed.

    python -m contracts.crashing_consumer '{"directory": … | "bootstrap": …, "prefix": …}' topic group

Says on its standard output how many events it has in hand.
"""

import asyncio
import json
import sys
from collections.abc import Sequence

from common.runtime.bus import Delivery
from contracts.buses import make_bus


async def main(place: dict[str, str], topic: str, group: str) -> None:
    async def hold(batch: Sequence[Delivery]) -> None:
        sys.stdout.write(f"{len(batch)}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    bus = make_bus(place)
    await bus.start()
    await bus.consume([topic], group, hold)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), *sys.argv[2:]))
