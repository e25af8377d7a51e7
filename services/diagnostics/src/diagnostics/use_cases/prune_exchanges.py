"""Delete exchanges older than the retention, now and then."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from common.models.clock import Clock
from common.models.errors import SuiteError
from diagnostics.ports import ExchangeStore

_log = logging.getLogger("diagnostics")


async def prune_exchanges(store: ExchangeStore, clock: Clock, *, retention_days: int, every_s: float) -> None:
    """Runs until cancelled; a database that is away is tried again at the next turn."""
    while True:
        try:
            deleted = await store.prune(clock.now() - timedelta(days=retention_days))
        except SuiteError as error:
            _log.warning("exchanges not pruned", extra={"code": error.code})
        else:
            if deleted:
                _log.info("exchanges pruned", extra={"count": deleted})
        await asyncio.sleep(every_s)
