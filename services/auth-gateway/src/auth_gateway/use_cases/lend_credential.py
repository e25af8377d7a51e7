"""Lend a credential that has no token (a key, a password, a certificate) to a service, for one purpose."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from auth_gateway.core.methods import METHODS, TokenKind
from auth_gateway.ports import Credentials
from common.models.clock import Clock, instant_text
from common.models.errors import SuiteError
from common.runtime.authentication import Caller

LENT_FOR: Final = timedelta(minutes=5)


async def lend_credential(
    credentials: Credentials, clock: Clock, caller: Caller, integration_id: str, name: str, purpose: str
) -> dict[str, Any]:
    """The material, which the service holds in memory only and forgets at `expires_at`; every lending is audited.

    Raises SuiteError `credential.not-found`, or `credential.unusable` for one that gives tokens.
    """
    credential = await credentials.get(caller.tenant, integration_id, name)
    method = METHODS[credential.method]
    if method.kind is not TokenKind.NONE:
        raise SuiteError("credential.unusable", f"{credential.method} gives access tokens: ask for :token.")
    secrets = await credentials.secrets(credential)
    await credentials.lent(caller, credential, purpose)
    material = {"secret": secrets.secret, **({method.second: secrets.second} if method.second else {})}
    material |= {name: value for name, value in credential.options.items() if name in method.needs | method.may}
    return {
        "method": credential.method,
        "material": material,
        "purpose": purpose,
        "expires_at": instant_text(clock.now() + LENT_FOR),
    }
