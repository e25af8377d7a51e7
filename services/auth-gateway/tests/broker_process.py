"""An auth-gateway as a process of its own with one credential that gives tokens: `python broker_process.py <data>`.

Prints one JSON object (url, path of the credential, a service's bearer token), serves until it is ended, and prints on
its standard output how often its provider was asked whenever a line comes in.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from auth_gateway.module import build
from common.models.access import Role
from common.testing import TENANT, ServedSuite, make_test_runtime, serving

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from infrastructure.oauth_provider import Provider


async def credential(up: ServedSuite, provider: Provider) -> str:
    """A credential of a new tenant; its path."""
    async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
        (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).raise_for_status()
    async with up.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()
        path = f"/auth/v1/integrations/{made['id']}/credentials/api"
        body = {"method": "private_key_jwt", "client_id": "app", "token_url": f"{provider.url}/token"}
        (await client.put(path, json=body)).raise_for_status()
    return path


async def run(data: Path) -> None:
    provider = Provider(life_s=3600)
    await provider.start()
    async with serving(make_test_runtime(data, "auth-gateway", log_level="ERROR"), build) as up:
        path = await credential(up, provider)
        async with up.client(Role.SERVICE) as service:
            bearer = service.headers["authorization"]
        _say(json.dumps({"url": up.url, "path": path, "authorization": bearer}))
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(str(len(provider.asked)))
    await provider.stop()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1])))
