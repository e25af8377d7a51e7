"""The group commit, without sockets."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.models.errors import SuiteError
from common.runtime.keyring import StaticKeyRing
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.message import Receipt, TakenMessage


class PoisonedStore(MemoryIntake):
    """Cannot store one message, known by its size, whatever it is stored with."""

    poison_bytes = 0

    async def save_now(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        if any(len(message.sealed_body) == self.poison_bytes for message in messages):
            raise ValueError("synthetic: a value no database takes")
        return await super().save_now(messages)


class NoKeys:
    """A key ring that is away."""

    def __init__(self) -> None:
        self.asked = 0

    async def tenant(self, _: str) -> Any:
        self.asked += 1
        raise SuiteError("keys.unavailable")


async def test_a_message_that_cannot_be_stored_takes_no_other_with_it(
    running_gateway: Any, message: Callable[..., bytes]
) -> None:
    async with running_gateway(PoisonedStore()) as gateway:
        names = ["a", "b", "poison", "c", "d", "e", "f"]
        sealed = (await StaticKeyRing().tenant("any")).seal(message("poison"), record="", field="")
        gateway.store.poison_bytes = len(sealed)
        client = await gateway.client()
        await client.send(*(message(name) for name in names))
        codes = [await client.code() for _ in names]
        assert codes == [("AE" if name == "poison" else "AA", name) for name in names]
        assert len(gateway.store.messages) == 6
        client.close()


async def test_without_keys_nothing_is_stored_and_they_are_not_asked_for_every_message(
    running_gateway: Any, message: Callable[..., bytes]
) -> None:
    async with running_gateway() as gateway:
        keys = NoKeys()
        gateway.committer._key_source = keys
        client = await gateway.client()
        await client.send(*(message(str(number)) for number in range(20)))
        assert {(await client.code())[0] for _ in range(20)} == {"AE"}
        assert keys.asked == 1
        assert gateway.store.messages == {}
        client.close()


async def test_batches_are_bounded(running_gateway: Any, message: Callable[..., bytes]) -> None:
    async with running_gateway(batch_messages_max=10) as gateway:
        client = await gateway.client()
        await client.send(*(message(str(number)) for number in range(35)))
        assert [(await client.code())[1] for _ in range(35)] == [str(number) for number in range(35)]
        assert max(gateway.store.batches) <= 10
        assert sum(gateway.store.batches) == gateway.committer.counts.stored == 35
        client.close()


async def test_a_stop_commits_what_waits(running_gateway: Any, message: Callable[..., bytes]) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(*(message(str(number)) for number in range(50)))
        await client.code()
        client.writer.transport.abort()
        await asyncio.sleep(0)
        store = gateway.store
    assert len(store.messages) == 50
