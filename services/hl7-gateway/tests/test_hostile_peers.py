"""Peers that hold the gateway's places: each is ended and named, and the others go on meanwhile."""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any

import pytest

Message = Callable[..., bytes]
WAIT_S = 20.0
LOG = "hl7_gateway.listener"


async def test_peers_that_drip_are_cut_and_the_others_do_not_wait(
    running_gateway: Any, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOG)
    async with running_gateway(frame_timeout_s=0.5, idle_timeout_s=60.0) as gateway:
        dripping, good = [await gateway.client() for _ in range(20)], await gateway.client()
        counters, turn = gateway.listener.counters, 0
        async with asyncio.timeout(WAIT_S):
            for client in dripping:
                await client.raw(b"\x0bMSH|^~\\&|")
            while counters.connections_slow < len(dripping):
                turn += 1
                for client in dripping:
                    client.writer.write(b"x")  # one byte at a time keeps no frame alive
                await good.send(message(f"good-{turn}"))
                assert await good.code() == ("AA", f"good-{turn}")
            for client in dripping:
                assert await client.ended()
        assert (counters.connections_slow, counters.frames_cut, counters.frames) == (20, 20, turn)
        assert [row.msg for row in caplog.records if row.name == LOG] == ["connection ended: frame too slow"] * 20
        assert len(gateway.store.messages) == turn
        good.close()


async def test_the_eleventh_client_is_ended_and_the_log_says_which_limit(
    running_gateway: Any, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOG)
    async with running_gateway(connections_max=10) as gateway:
        clients = [await gateway.client() for _ in range(10)]
        for number, client in enumerate(clients):
            await client.send(message(f"c-{number}"))
            assert await client.code() == ("AA", f"c-{number}")
        eleventh = await gateway.client()
        assert await eleventh.ended()
        (line,) = [row for row in caplog.records if row.name == LOG]
        assert line.msg == "connection refused: too many"
        told = vars(line)
        assert (told["setting"], told["limit"], told["port"]) == ("connections_max", 10, gateway.listener.port)
        assert gateway.listener.counters.connections_refused == 1
        for number, client in enumerate(clients):
            await client.send(message(f"d-{number}"))
            assert await client.code() == ("AA", f"d-{number}")


@pytest.mark.parametrize(
    ("number", "counter"),
    [
        (errno.ETIMEDOUT, "connections_keep_alive_failed"),
        (errno.EHOSTUNREACH, "connections_keep_alive_failed"),  # a neighbour without power, with an answer on its way
        (errno.ENETUNREACH, "connections_keep_alive_failed"),
        (errno.ECONNRESET, "connections_reset"),
    ],
)
async def test_a_peer_that_is_gone_is_told_from_one_that_resets(
    running_gateway: Any, message: Message, number: int, counter: str
) -> None:
    async with running_gateway() as gateway:
        client = await gateway.client()
        await client.send(message("1"))
        assert await client.code() == ("AA", "1")
        (protocol,) = gateway.listener.open
        transport = protocol._transport
        protocol.connection_lost(OSError(number, "as the system says it"))
        counters = gateway.listener.counters
        lost = {name: getattr(counters, name) for name in ("connections_keep_alive_failed", "connections_reset")}
        assert lost == {**dict.fromkeys(lost, 0), counter: 1}
        assert gateway.listener.open == set()
        transport.abort()
