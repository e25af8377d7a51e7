"""Ask for a token of every credential now and then, so that a dead one is known before it is needed."""

from __future__ import annotations

import asyncio
import logging

from auth_gateway.use_cases.obtain_token import Broker, refresh_token
from common.models.errors import SuiteError

_log = logging.getLogger("auth_gateway")


async def watch_credentials(broker: Broker, every_s: float) -> None:
    """Runs until cancelled, on one replica; credentials are tested together, a slow provider holds up no other."""
    testing: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            testing = {record: task for record, task in testing.items() if not task.done()}
            for credential in await broker.credentials.due_for_test(broker.clock.now()):
                if credential.record not in testing:
                    await broker.credentials.tested(credential, broker.clock.now())
                    testing[credential.record] = asyncio.create_task(
                        _test(broker, credential.tenant, credential.integration_id, credential.name)
                    )
            await asyncio.sleep(every_s)
    finally:
        for task in testing.values():
            task.cancel()
        await asyncio.gather(*testing.values(), return_exceptions=True)


async def _test(broker: Broker, tenant: str, integration_id: str, name: str) -> None:
    try:
        await refresh_token(broker, tenant, integration_id, name, "watch")
    except SuiteError as error:
        _log.warning(
            "credential not tested", extra={"integration_id": integration_id, "credential": name, "code": error.code}
        )
