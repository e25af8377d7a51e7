"""FHS/BHS batches in one MLLP frame: stored whole or not at all, and answered by a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hl7v2
from common.runtime.keyring import StaticKeyRing
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.message import Receipt, TakenMessage
from infrastructure.hl7_listening import Listening

Message = Callable[..., bytes]
BHS = b"BHS|^~\\&|EPIC|CLINIC|PS|HERE|20260301||||B-1\r"


def _batch(*messages: bytes, count: int | None = None) -> bytes:
    return BHS + b"".join(messages) + b"BTS|%d\r" % (len(messages) if count is None else count)


def _codes(answer: bytes) -> list[tuple[str, str]]:
    """MSA-1 and MSA-2 of each acknowledgement of a batch."""
    file = hl7v2.split_batch(answer)
    assert file.findings == ()
    assert file.batches[0].header.startswith(b"BHS|^~\\&|PS|HERE|EPIC|CLINIC|")
    assert file.batches[0].header.rstrip(b"\r").split(b"|")[11] == b"B-1"
    read = [hl7v2.parse(message) for message in file.messages]
    return [(message["MSA-1"], message["MSA-2"]) for message in read]


async def _answers(gateway: Any, *bodies: bytes) -> list[bytes]:
    client = await gateway.client()
    await client.send(*bodies)
    found = [await client.answer() for _ in bodies]
    client.close()
    return found


class PoisonedIntake(MemoryIntake):
    """Cannot store one message, known by its size."""

    poison_bytes = 0

    async def save_now(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        if any(len(message.sealed_body) == self.poison_bytes for message in messages):
            raise ValueError("synthetic: a value no database takes")
        return await super().save_now(messages)


async def test_a_batch_is_stored_in_one_commit_and_answered_as_one(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        (answer,) = await _answers(gateway, _batch(*(message(str(number)) for number in range(5))))
        assert _codes(answer) == [("AA", str(number)) for number in range(5)]
        assert gateway.store.batches == [5]
        assert len(gateway.store.messages) == 5


async def test_a_batch_larger_than_a_commit_is_still_one(running_gateway: Any, message: Message) -> None:
    async with running_gateway(batch_messages_max=3) as gateway:
        bodies = [message("a"), message("b"), _batch(*(message(str(number)) for number in range(7))), message("c")]
        client = await gateway.client()
        await client.send(*bodies)
        assert [await client.code() for _ in range(2)] == [("AA", "a"), ("AA", "b")]
        assert len(_codes(await client.answer())) == 7
        assert await client.code() == ("AA", "c")
        assert 7 in gateway.store.batches
        client.close()


async def test_duplicates_in_a_batch_and_of_it_are_stored_once(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        single = message("1")
        batch = _batch(single, message("2"), message("2"))
        first, again, alone = await _answers(gateway, batch, batch, single)
        assert _codes(first) == _codes(again) == [("AA", "1"), ("AA", "2"), ("AA", "2")]
        assert hl7v2.split_batch(first).messages == hl7v2.split_batch(again).messages
        assert hl7v2.split_batch(first).messages[0] == alone
        assert len(gateway.store.messages) == 2


async def test_one_message_that_cannot_be_stored_keeps_out_the_others(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        (answer,) = await _answers(gateway, _batch(message("1"), b"MSH|\r", message("3")))
        assert _codes(answer) == [("AE", "1"), ("AR", "UNKNOWN"), ("AE", "3")]
        assert gateway.store.messages == {}
        short = _batch(message("1"), message("2"), count=3)
        (answer,) = await _answers(gateway, short)
        assert _codes(answer) == [("AE", "1"), ("AE", "2")]
        assert gateway.store.messages == {}
    async with running_gateway(PoisonedIntake()) as gateway:
        keys = await StaticKeyRing().tenant("any")
        gateway.store.poison_bytes = len(keys.seal(message("poison"), record="", field=""))
        batch = _batch(message("1"), message("poison"), message("3"))
        client = await gateway.client()
        await client.send(message("b"), batch, message("a"))
        assert await client.code() == ("AA", "b")
        assert [code for code, _ in _codes(await client.answer())] == ["AE"] * 3
        assert await client.code() == ("AA", "a")
        assert len(gateway.store.messages) == 2
        client.close()


async def test_a_type_that_is_not_taken_is_rejected_in_its_place(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        (answer,) = await _answers(gateway, _batch(message("1"), message("2", kind="ZZZ^Z01"), message("3")))
        assert _codes(answer) == [("AA", "1"), ("AR", "2"), ("AA", "3")]
        assert len(gateway.store.messages) == 3


async def test_enhanced_mode_and_empty_batches(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        modes = [message("1", modes="AL|NE"), message("2", modes="NE|NE"), message("3", modes="AL|AL")]
        (answer,) = await _answers(gateway, _batch(*modes))
        assert _codes(answer) == [("CA", "1"), ("CA", "3"), ("AA", "3")]
        (empty,) = await _answers(gateway, BHS + b"BTS|0\r")
        assert _codes(empty) == []
        client = await gateway.client()
        await client.send(_batch(message("4", modes="NE|NE")), message("5"))
        assert await client.code() == ("AA", "5")  # nothing was wanted for the batch
        client.close()


async def test_two_messages_in_a_frame_are_two(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("1") + message("2"))
        assert [await client.code() for _ in range(2)] == [("AA", "1"), ("AA", "2")]
        assert len(gateway.store.messages) == 2
        client.close()


async def test_every_message_of_a_batch_is_found(suite: Any, connect: Any, free_port: int, message: Message) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "before"}})
    good = [message(f"f-{number}").replace(b"EVN||", b"EVN|A08|") for number in range(3)]
    bad = good[1].replace(b"19700101", b"19701341")
    client = await connect(free_port)
    await client.send(_batch(good[0], bad, good[2]))
    answer = await client.answer()
    client.close()
    assert _codes(answer) == [("AA", "f-0"), ("AE", "f-1"), ("AA", "f-2")]
    assert b"ERR||PID^1^7" in answer
    found = {row["control_id"]: row["state"] for row in await listening.found()}
    assert found == {"f-0": "received", "f-1": "rejected", "f-2": "received"}
