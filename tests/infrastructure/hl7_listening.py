"""A configured HL7 listener in a gateway under test, and what tests do with it."""

import asyncio
from typing import Any, Final

from common.models.access import Role
from common.models.identifiers import type_id, uuid7

INTEGRATION_ID: Final = type_id("int", uuid7(1_700_000_000_000, 1))
WAIT_S: Final = 10.0


class Listening:
    """A configured listener, and what a test does with it."""

    def __init__(self, suite: Any, connect: Any, port: int) -> None:
        self.suite, self.connect, self.port, self.path, self.version = suite, connect, port, "", 1

    async def create(self, **changed: Any) -> None:
        configuration = {
            "name": "Front desk",
            "direction": "listener",
            "integration_id": INTEGRATION_ID,
            "host": "127.0.0.1",
            "port": self.port,
            **changed,
        }
        async with self.suite.client(Role.INTEGRATION_ADMIN) as admin:
            made = await admin.post("/hl7/v1/connections", json={"configuration": configuration, "reason": "feed"})
        assert made.status_code == 201, made.text
        self.path = made.headers["location"]
        await self.wait_for("listening")

    async def change(self, **changed: Any) -> None:
        async with self.suite.client(Role.INTEGRATION_ADMIN) as admin:
            read = await admin.get(self.path)
            body = {"configuration": {**read.json()["configuration"], **changed}, "reason": "changed"}
            done = await admin.put(self.path, json=body, headers={"If-Match": read.headers["etag"]})
        assert done.status_code == 200, done.text
        self.version = done.json()["version"]

    async def step(self, name: str) -> None:
        async with self.suite.client(Role.INTEGRATION_ADMIN) as admin:
            done = await admin.post(f"{self.path}:{name}", json={"reason": "for a test"})
        assert done.status_code == 200, done.text
        self.version = done.json()["version"]

    async def live(self) -> Any:
        async with self.suite.client(Role.VIEWER) as viewer:
            return (await viewer.get(self.path)).json()["live"]

    async def wait_for(self, state: str) -> Any:
        async with asyncio.timeout(WAIT_S):
            while (live := await self.live())["state"] != state or live["version"] not in {None, self.version}:  # noqa: ASYNC110 - another task opens it
                await asyncio.sleep(0.02)
        return live

    async def send(self, *bodies: bytes) -> list[tuple[str, str]]:
        client = await self.connect(self.port)
        await client.send(*bodies)
        codes = [await client.code() for _ in bodies]
        client.close()
        await client.writer.wait_closed()
        return codes

    async def found(self, **wanted: Any) -> list[Any]:
        async with self.suite.client(Role.DATA_STEWARD) as steward:
            page = (await steward.post("/hl7/v1/messages:search", json=wanted)).json()
        assert page["complete"]
        items: list[Any] = page["items"]
        return items
