"""Senders that others wrote, or that behave so: python-hl7's blocking client, and one in the manner of HAPI."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import hl7
from hl7.client import MLLPClient

from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.message import Receipt, TakenMessage

Message = Callable[..., bytes]
START, END, LAST = b"\x0b", b"\x1c", b"\r"
WAIT_S = 10.0


class HapiSender:
    """One connection; a message at a time, in four writes (start, text, end, last); waits for the answer that names it.

    Who waits in vain, or whose connection broke, connects again and sends the same message.
    """

    def __init__(self, port: int, answer_timeout_s: float = WAIT_S) -> None:
        self._port = port
        self._answer_timeout_s = answer_timeout_s
        self._socket: socket.socket | None = None
        self.connections = 0
        self.tries = 0

    def send(self, body: bytes, control_id: str, tries_max: int = 100) -> str:
        """MSA-1 of the answer."""
        for _ in range(tries_max):
            self.tries += 1
            with suppress(OSError):
                return self._sent(body, control_id)
            self.close()
        raise AssertionError(f"{control_id} was sent {tries_max} times in vain")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _sent(self, body: bytes, control_id: str) -> str:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), self._answer_timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
        for part in (START, body, END, LAST):
            self._socket.sendall(part)
        return self._answer(self._socket, control_id)

    def _answer(self, endpoint: socket.socket, control_id: str) -> str:
        received = b""
        while not received.endswith(END + LAST):
            data = endpoint.recv(1)
            if not data:
                raise ConnectionError("the connection ended before the answer")
            received += data
        assert received.startswith(START)
        answer = hl7.parse(received[1:-2].decode())
        assert str(answer.segment("MSA")[2]) == control_id
        return str(answer.segment("MSA")[1])


class SlowFirst(MemoryIntake):
    """Stores its first batch only once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def save_now(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        await self.gate.wait()
        return await super().save_now(messages)


async def test_the_blocking_client_of_python_hl7(running_gateway: Any, message: Message) -> None:
    def send(port: int) -> list[tuple[str, str, str]]:
        codes = []
        with MLLPClient("127.0.0.1", port) as client:
            for number in range(5):
                body = message(f"py-{number}", name="Nuñez^Zoë")
                # It takes bytes, text, and a message it parsed itself (which it writes in its own way).
                forms = (body, body.decode(), hl7.parse(body.decode()))
                answer = hl7.parse(client.send_message(forms[number % 3]).strip(START + END + LAST).decode())
                codes.append((str(answer["MSA"][0][1]), str(answer["MSA"][0][2]), str(answer["MSH.F9.R1.C1"])))
        return codes

    async with running_gateway() as gateway:
        codes = await asyncio.to_thread(send, gateway.listener.port)
        assert codes == [("AA", f"py-{number}", "ACK") for number in range(5)]
        assert len(gateway.store.messages) == 5


async def test_a_sender_in_the_manner_of_hapi_keeps_its_connection(running_gateway: Any, message: Message) -> None:
    def send(sender: HapiSender) -> list[str]:
        return [sender.send(message(f"h-{number}"), f"h-{number}") for number in range(50)]

    async with running_gateway() as gateway:
        sender = HapiSender(gateway.listener.port)
        assert await asyncio.to_thread(send, sender) == ["AA"] * 50
        assert (sender.connections, sender.tries) == (1, 50)
        store = gateway.store
        store.away = True
        assert await asyncio.to_thread(sender.send, message("again"), "again") == "AE"
        store.away = False
        assert await asyncio.to_thread(sender.send, message("again"), "again") == "AA"
        assert (sender.connections, len(store.messages)) == (1, 51)
        sender.close()


async def test_who_waits_in_vain_and_sends_again_is_stored_once(running_gateway: Any, message: Message) -> None:
    store = SlowFirst()
    async with running_gateway(store) as gateway:
        sender = HapiSender(gateway.listener.port, answer_timeout_s=0.2)
        sending = asyncio.ensure_future(asyncio.to_thread(sender.send, message("twice"), "twice"))
        async with asyncio.timeout(WAIT_S):
            while gateway.listener.counters.frames < 3:
                await wait_a_turn()
        store.gate.set()
        assert await sending == "AA"
        assert sender.connections >= 3
        assert len(store.messages) == 1
        sender.close()


async def test_a_sender_goes_on_where_its_connection_was_cut(running_gateway: Any, message: Message) -> None:
    """Every connection is ended by the gateway while the sender waits or writes."""

    def send(sender: HapiSender) -> list[str]:
        return [sender.send(message(f"c-{number}"), f"c-{number}") for number in range(40)]

    async with running_gateway() as gateway:
        sender = HapiSender(gateway.listener.port)
        sending = asyncio.ensure_future(asyncio.to_thread(send, sender))
        async with asyncio.timeout(WAIT_S):
            while not sending.done():
                for protocol in list(gateway.listener.open) if sender.connections < 10 else ():
                    protocol.abort()
                await wait_a_turn()
        assert await sending == ["AA"] * 40
        assert len(gateway.store.messages) == 40
        assert sender.connections >= 10
        sender.close()


async def wait_a_turn() -> None:
    await asyncio.sleep(0.002)
