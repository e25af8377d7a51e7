"""The listener on real sockets, with a store that can be taken away."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hl7.mllp import open_hl7_connection

import hl7v2
from common.models.errors import SuiteError
from common.runtime.keyring import StaticKeyRing
from common.testing import OTHER_TENANT
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.message import Receipt, TakenMessage
from hl7_gateway.core.senders import sender_table

Message = Callable[..., bytes]
WAIT_S = 5.0


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - counters have no event to wait for
            await asyncio.sleep(0.005)


async def control_id(stored: TakenMessage) -> str:
    """MSH-10 of what was stored."""
    keys = await StaticKeyRing().tenant(stored.tenant)
    return hl7v2.parse(keys.open(stored.sealed_body, record=stored.id, field="body")).control_id


class GatedStore(MemoryIntake):
    """Saves only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def save_now(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        self.entered.set()
        await self.gate.wait()
        return await super().save_now(messages)


async def test_a_message_is_stored_and_then_acknowledged(running_gateway: Any, message: Message) -> None:
    store = GatedStore()
    async with running_gateway(store) as gateway:
        client = await gateway.client()
        await client.send(message("a-1"))
        async with asyncio.timeout(WAIT_S):
            await store.entered.wait()
        assert gateway.journal.answers == {}
        store.gate.set()
        answer = await client.answer()
        assert b"MSA|AA|a-1" in answer
        (stored,) = store.messages.values()
        assert stored.state == "received"
        assert b"TEST^SYNTHETIC" not in stored.sealed_body
        how = gateway.journal.answer_of(stored.id)
        assert (how.codes, how.response_bytes) == (("AA",), len(answer) + 3)
        client.close()


async def test_a_sender_written_by_others_is_acknowledged(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        reader, writer = await open_hl7_connection("127.0.0.1", gateway.listener.port, encoding="utf-8")
        for number in range(3):
            writer.writemessage(_parsed(message(f"py-{number}")))
            await writer.drain()
            async with asyncio.timeout(WAIT_S):
                answer = await reader.readmessage()
            assert (str(answer.segment("MSA")[1]), str(answer.segment("MSA")[2])) == ("AA", f"py-{number}")
        writer.close()


def _parsed(body: bytes) -> Any:
    import hl7

    return hl7.parse(body.decode())


async def test_a_repetition_is_answered_as_the_first_time(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client, other = await gateway.client(), await gateway.client()
        await client.send(message("d-1"))
        first = await client.answer()
        await other.send(message("d-1"), message("d-1"), message("d-1", name="OTHER^NAME"))
        assert [await other.answer(), await other.answer()] == [first, first]
        assert await other.answer() != first
        assert len(gateway.store.messages) == 2
        client.close()
        other.close()


async def test_many_connections_share_a_commit_and_keep_their_order(running_gateway: Any, message: Message) -> None:
    store = GatedStore()
    async with running_gateway(store) as gateway:
        clients = [await gateway.client() for _ in range(10)]
        for number, client in enumerate(clients):
            await client.send(*(message(f"{number}-{turn}") for turn in range(5)))
        await wait_until(lambda: gateway.listener.counters.frames == 50)
        store.gate.set()
        for number, client in enumerate(clients):
            codes = [await client.code() for _ in range(5)]
            assert codes == [("AA", f"{number}-{turn}") for turn in range(5)]
            client.close()
        assert len(store.batches) <= 3


async def test_a_silent_peer_is_probed_and_one_that_is_gone_is_counted(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("k-1"))
        assert await client.code() == ("AA", "k-1")
        (protocol,) = gateway.listener.open
        endpoint = protocol._transport.get_extra_info("socket")
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [endpoint.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 15, 4, 120_000]
        transport = protocol._transport
        protocol.connection_lost(TimeoutError(errno.ETIMEDOUT, "no answer to the probes"))
        counters = gateway.listener.counters
        assert (counters.connections_keep_alive_failed, counters.connections_reset) == (1, 0)
        assert gateway.listener.open == set()
        transport.abort()
        client.close()


async def test_a_peer_that_went_away_disturbs_nobody(running_gateway: Any, message: Message) -> None:
    store = GatedStore()
    async with running_gateway(store) as gateway:
        gone, stays = await gateway.client(), await gateway.client()
        await gone.send(message("gone"))
        await stays.send(message("stays"))
        await wait_until(lambda: gateway.listener.counters.frames == 2)
        # A reset, as when the peer's process dies with its machine; a mere end of stream is still answered.
        gone.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.writer.transport.abort()
        await wait_until(lambda: len(gateway.listener.open) == 1)
        store.gate.set()
        assert await stays.code() == ("AA", "stays")
        assert {await control_id(row) for row in store.messages.values()} == {"gone", "stays"}
        stays.close()


async def test_a_store_that_is_away_is_never_acknowledged_positively(running_gateway: Any, message: Message) -> None:
    store = MemoryIntake()
    async with running_gateway(store) as gateway:
        client = await gateway.client()
        store.away = True
        await client.send(message("1"), message("2", modes="AL|AL"))
        assert await client.code() == ("AE", "1")
        assert await client.code() == ("CE", "2")
        store.away = False
        await client.send(message("1"))
        assert await client.code() == ("AA", "1")
        assert gateway.journal.exchanges[0].error_code == "hl7.store-failed"
        client.close()


async def test_a_store_that_hangs_is_given_up_on(running_gateway: Any, message: Message) -> None:
    store = GatedStore()
    async with running_gateway(store, store_timeout_s=0.3) as gateway:
        client = await gateway.client()
        await client.send(message("1"))
        assert await client.code() == ("AE", "1")
        store.gate.set()
        await client.send(message("1"))
        assert await client.code() == ("AA", "1")
        client.close()


async def test_enhanced_mode(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("1", modes="AL|AL"), message("2", modes="NE|NE"), message("3", modes="AL|NE"))
        assert [await client.code() for _ in range(3)] == [("CA", "1"), ("AA", "1"), ("CA", "3")]
        client.close()


@pytest.mark.parametrize(("kind", "error"), [("BAR^P01", b"200"), ("ADT^A37", b"201"), ("ADT", b"201"), ("", b"200")])
async def test_a_type_that_is_not_taken_is_rejected_and_kept(
    running_gateway: Any, message: Message, kind: str, error: bytes
) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("t", kind=kind))
        answer = await client.answer()
        assert b"MSA|AR|t" in answer
        assert error in answer
        (stored,) = gateway.store.messages.values()
        assert (stored.state, stored.rejection) == ("rejected", "hl7.type-unsupported")
        client.close()


async def test_an_unknown_sender_is_rejected_and_the_exchange_told(
    running_gateway: Any, message: Message, integration: Any
) -> None:
    known = integration(1, senders=[{"application": "EPIC", "facility": "CLINIC"}])
    async with running_gateway(integrations=[known]) as gateway:
        client = await gateway.client()
        await client.send(message("1", sender="WHO|KNOWS"), message("2"))
        assert [await client.code(), await client.code()] == [("AR", "1"), ("AA", "2")]
        refused = gateway.journal.exchanges[0]
        assert (refused.error_code, refused.tenant, refused.channel) == ("hl7.sender-unknown", known.tenant, None)
        gateway.senders.known = False
        await client.send(message("3", sender="WHO|KNOWS"))
        assert await client.code() == ("AE", "3")
        client.close()


async def test_a_sender_that_two_practices_claim_is_nobodys(
    running_gateway: Any, message: Message, integration: Any
) -> None:
    async with running_gateway(integrations=[integration(1), integration(2, tenant=OTHER_TENANT)]) as gateway:
        client = await gateway.client()
        await client.send(message("1"))
        assert await client.code() == ("AR", "1")
        gateway.senders.now = sender_table([integration(1)])
        await client.send(message("1"))
        assert await client.code() == ("AA", "1")
        client.close()


@pytest.mark.parametrize(
    "body", [b"", b"HELLO WORLD", b"PID|1||4711\r", b"MSH", b"MSH|", bytes(range(1, 11)), b"\xff\xfe\x00" * 50]
)
async def test_what_is_no_message_is_rejected_and_the_connection_lives(
    running_gateway: Any, message: Message, body: bytes
) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(body)
        assert (await client.code())[0] == "AR"
        await client.send(message("after"))
        assert await client.code() == ("AA", "after")
        assert gateway.journal.exchanges[0].error_code == "hl7.unparsable"
        client.close()


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "", "ASCII", "8859/1", "nonsense"])
async def test_non_ascii_is_taken_whatever_is_declared(running_gateway: Any, message: Message, charset: str) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("n", name="Nuñez^Zoë^李", charset=charset))
        assert await client.code() == ("AA", "n")
        client.close()


async def test_bytes_outside_frames_are_counted_and_not_logged(
    running_gateway: Any, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.raw(b"SMITH^JANE GET / HTTP/1.1\r\n\r\n")
        await client.send(message("j"))
        assert await client.code() == ("AA", "j")
        assert gateway.listener.counters.bytes_outside_frames == 29
        assert "SMITH" not in caplog.text
        client.close()


async def test_a_frame_over_the_cap_is_rejected_and_the_connection_closed(
    running_gateway: Any, message: Message
) -> None:
    async with running_gateway(frame_bytes_max=2000) as gateway:
        client = await gateway.client()
        await client.send(message("small"))
        await client.raw(b"\x0bMSH|^~\\&|" + b"x" * 5000)
        assert await client.code() == ("AA", "small")
        assert (await client.code())[0] == "AR"
        assert await client.ended()
        assert gateway.listener.counters.frames_too_large == 1
        other = await gateway.client()
        await other.send(message("next"))
        assert await other.code() == ("AA", "next")
        other.close()


async def test_a_frame_cut_by_the_next_one_is_counted(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.raw(b"\x0bMSH|half")
        await client.send(message("whole"))
        assert await client.code() == ("AA", "whole")
        assert gateway.listener.counters.frames_cut == 1
        client.close()


async def test_one_byte_at_a_time(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        for byte in b"\x0b" + message("slowly") + b"\x1c\r":
            await client.raw(bytes([byte]))
        assert await client.code() == ("AA", "slowly")
        client.close()


async def test_slow_and_idle_connections_are_closed(running_gateway: Any, message: Message) -> None:
    async with running_gateway(frame_timeout_s=0.1, idle_timeout_s=0.4) as gateway:
        slow, idle = await gateway.client(), await gateway.client()
        await slow.raw(b"\x0bMSH|")
        assert await slow.ended()
        await idle.send(message("i"))
        assert await idle.code() == ("AA", "i")
        assert await idle.ended()
        counters = gateway.listener.counters
        assert (counters.connections_slow, counters.connections_idle) == (1, 1)


async def test_one_connection_too_many_is_closed_and_counted(running_gateway: Any, message: Message) -> None:
    async with running_gateway(connections_max=1) as gateway:
        first = await gateway.client()
        await first.send(message("1"))
        assert await first.code() == ("AA", "1")
        second = await gateway.client()
        assert await second.ended()
        assert gateway.listener.counters.connections_refused == 1
        first.close()
        await wait_until(lambda: not gateway.listener.open)
        third = await gateway.client()
        await third.send(message("3"))
        assert await third.code() == ("AA", "3")
        third.close()


@pytest.mark.parametrize("bound", [{"connection_waiting_messages_max": 4}, {"waiting_bytes_max": 1024}])
async def test_a_full_gateway_stops_reading_and_drops_nothing(
    running_gateway: Any, message: Message, bound: dict[str, int]
) -> None:
    store = GatedStore()
    async with running_gateway(store, **bound) as gateway:
        clients = [await gateway.client() for _ in range(2)]
        bodies = [message(f"{number}", name="X" * 5000) for number in range(200)]
        writing = [asyncio.ensure_future(client.send(*bodies)) for client in clients]
        await wait_until(lambda: gateway.listener.counters.reading_paused > 0)
        assert gateway.listener.counters.frames < 400
        store.gate.set()
        for client in clients:
            assert [await client.code() for _ in bodies] == [("AA", str(number)) for number in range(200)]
        await asyncio.gather(*writing)
        for client in clients:
            client.close()


async def test_a_stop_finishes_the_frame_in_hand(running_gateway: Any, message: Message) -> None:
    async with running_gateway() as gateway:
        client, idle = await gateway.client(), await gateway.client()
        frame = b"\x0b" + message("last") + b"\x1c\r"
        await client.raw(frame[:50])
        await wait_until(lambda: gateway.listener.counters.bytes_received == 50)
        stopping = asyncio.ensure_future(gateway.listener.stop(WAIT_S))
        assert await idle.ended()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", gateway.listener.port)
        await client.raw(frame[50:])
        assert await client.code() == ("AA", "last")
        assert await client.ended()
        await stopping
        assert len(gateway.store.messages) == 1


async def test_a_port_in_use_is_named(running_gateway: Any) -> None:
    async with running_gateway() as gateway:
        taken = gateway.listener
        again = type(taken)("127.0.0.1", taken.port, taken.receiver, taken.clock, taken.limits)
        with pytest.raises(SuiteError, match=f"127.0.0.1:{taken.port}") as caught:
            await again.start()
        assert caught.value.code == "start.port-in-use"
