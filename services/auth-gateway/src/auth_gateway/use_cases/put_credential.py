"""Put a credential, never while a token is being asked for with the one before.

A provider that rotates refresh tokens has ended the old one by the time its answer is on the way: a credential that
changed just then would keep a token that is dead. So whoever puts it waits for the refresher, who holds the lease.
"""

from __future__ import annotations

import asyncio

from auth_gateway.ports import Credential, Secrets
from auth_gateway.use_cases.obtain_token import REFRESH_TTL_S, WAIT_S, WAIT_TURNS_MAX, Broker
from common.models.errors import SuiteError
from common.runtime.authentication import Caller


async def put_credential(broker: Broker, caller: Caller, credential: Credential, secrets: Secrets) -> Credential:
    """The credential as it is stored. Raises SuiteError `request.version-changed` when somebody was quicker, or
    `credential.refresh-failed` when a token is being asked for all the time."""
    for _ in range(WAIT_TURNS_MAX):
        async with broker.flight.hold(f"credential/{credential.record}", ttl_s=REFRESH_TTL_S) as lease:
            if lease is not None:
                return await broker.credentials.put(caller, credential, secrets)
        await asyncio.sleep(WAIT_S)
    raise SuiteError("credential.refresh-failed", "A token has been asked for with it for too long; put it again.")
