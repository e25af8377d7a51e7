"""Listeners as configuration, in the module as the host runs it: each setting does what it says."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from common.models.access import Role
from common.testing import OTHER_TENANT
from infrastructure.hl7_listening import INTEGRATION_ID, WAIT_S, Listening

Message = Callable[..., bytes]


async def test_a_listener_takes_messages_of_its_integration(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create()
    assert await listening.send(message("a-1", sender="NOBODY|KNOWS")) == [("AA", "a-1")]
    connection_id = listening.path.rpartition("/")[2]
    (found,) = await listening.found(connection_id=connection_id)
    assert (found["control_id"], found["integration_id"], found["channel"]) == ("a-1", INTEGRATION_ID, "Front desk")
    assert found["connection"]["id"] == connection_id
    assert (await listening.live())["counters"]["frames"] == 1
    async with suite.client(Role.OPERATOR) as operator:
        tested = (await operator.post(f"{listening.path}:test", json={})).json()
    assert tested["stages"][0]["status"] == "passed", tested


async def test_pausing_closes_the_port_and_resuming_opens_it(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create()
    client = await connect(free_port)
    await client.send(message("p-1"))
    assert await client.code() == ("AA", "p-1")
    await listening.step("pause")
    await listening.wait_for("stopped")
    assert await client.ended()
    client.close()
    await listening.step("resume")
    await listening.wait_for("listening")
    assert await listening.send(message("p-2")) == [("AA", "p-2")]


async def test_a_change_loses_no_message(suite: Any, connect: Any, free_port: int, message: Message) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create()
    client = await connect(free_port)
    body = message("c-1")
    await client.raw(b"\x0b" + body[:40])  # a frame in hand is read to its end
    async with asyncio.timeout(WAIT_S):
        while (await listening.live())["counters"]["bytes_received"] < 41:
            await client.raw(b"")
    await listening.change(frame_bytes_max=2048)
    await client.raw(body[40:] + b"\x1c\r")
    assert await client.code() == ("AA", "c-1")
    assert await client.ended()
    client.close()
    await listening.wait_for("listening")
    assert await listening.send(message("c-2", name="X" * 3000)) == [("AR", "UNKNOWN")]
    assert [row["control_id"] for row in await listening.found()] == ["c-1"]


async def test_validation_before_the_acknowledgement(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "before"}})
    good = message("v-1").replace(b"EVN||", b"EVN|A08|")
    bad = good.replace(b"|v-1|", b"|v-2|").replace(b"19700101", b"19701341")
    client = await connect(free_port)
    await client.send(good, bad)
    assert await client.code() == ("AA", "v-1")
    answer = await client.answer()
    client.close()
    assert b"\rMSA|AE|v-2" in answer
    assert b"ERR||PID^1^7" in answer
    assert b"19701341" not in answer
    (rejected,) = await listening.found(state="rejected")
    assert (rejected["control_id"], rejected["acknowledgment_code"]) == ("v-2", "AE")
    errors = [one for one in rejected["findings"] if isinstance(one, dict) and one["severity"] == "error"]
    assert [one["path"] for one in errors] == ["PID-7"]
    assert rejected["findings"][-1] == "hl7.invalid"


async def test_validation_after_the_acknowledgement(suite: Any, connect: Any, free_port: int, message: Message) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"validation": {"when": "after"}})
    assert await listening.send(message("v-3").replace(b"19700101", b"19701341")) == [("AA", "v-3")]
    (found,) = await listening.found(control_id="v-3")
    assert found["state"] == "received"
    assert "PID-7" in [one["path"] for one in found["findings"] if isinstance(one, dict)]


async def test_only_allowed_peers_connect_and_send_as_who_they_are(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"allowed_peers": [{"network": "10.0.0.0/8"}]})
    client = await connect(free_port)
    assert await client.ended()
    client.close()
    assert (await listening.live())["counters"]["connections_not_allowed"] == 1
    row = {"network": "127.0.0.0/8", "application": "EPIC", "facility": "CLINIC"}
    await listening.change(listening={"allowed_peers": [row]})
    await listening.wait_for("listening")
    other = message("o-2", sender="OTHER|CLINIC")
    codes = await listening.send(message("o-1"), other, message("o-3"))
    assert codes == [("AA", "o-1"), ("AR", "o-2"), ("AA", "o-3")]
    async with suite.client(Role.VIEWER) as viewer:
        (unmatched,) = (await viewer.get("/hl7/v1/unmatched-senders")).json()["items"]
    assert (unmatched["sending_application"], unmatched["count"]) == ("OTHER", 1)
    assert unmatched["error_code"] == "hl7.peer-not-allowed"
    assert unmatched["add"] == {"allowed_peers": {"application": "OTHER", "facility": "CLINIC"}}
    async with suite.client(Role.VIEWER, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get("/hl7/v1/unmatched-senders")).json()["items"] == []


async def test_one_peer_may_not_take_all_connections(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(listening={"connections_per_peer_max": 2})
    clients = [await connect(free_port) for _ in range(2)]
    for number, client in enumerate(clients):
        await client.send(message(f"m-{number}"))
        assert await client.code() == ("AA", f"m-{number}")
    third = await connect(free_port)
    assert await third.ended()
    assert (await listening.live())["counters"]["connections_refused"] == 1
    for client in (*clients, third):
        client.close()


async def test_the_acknowledgement_mode_and_the_duplicate_rule(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(
        acknowledgment_mode="original", listening={"duplicate_rule": "sender-control-id"}, ordering_key="connection"
    )
    asked = message("d-1", modes="AL|NE")
    assert await listening.send(asked, message("d-1", name="OTHER^NAME")) == [("AA", "d-1"), ("AA", "d-1")]
    assert len(await listening.found(control_id="d-1")) == 1
    await listening.change(acknowledgment_mode="enhanced", listening={"duplicate_rule": "off"})
    await listening.wait_for("listening")
    again = message("d-2")
    assert await listening.send(again, again) == [("CA", "d-2"), ("CA", "d-2")]
    assert len(await listening.found(control_id="d-2")) == 2


async def test_mutual_tls_names_the_sender(
    suite: Any, connect: Any, free_port: int, message: Message, authority: Any
) -> None:
    listening = Listening(suite, connect, free_port)
    certificate, key = authority.issue()
    mine, my_key = authority.issue("sender.example")
    stranger, stranger_key = authority.issue("stranger.example")
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(mine)).hexdigest()
    await listening.create(
        tls={"mode": "mutual", "certificate_pem": certificate, "private_key_pem": key, "ca_pem": authority.pem},
        listening={"allowed_peers": [{"certificate_subject": "sender.example", "certificate_sha256": sha256}]},
    )

    async def sent(shown: str | None, shown_key: str, folder: Any) -> bytes:
        context = ssl.create_default_context(cadata=authority.pem)
        if shown is not None:
            pem = folder / "shown.pem"
            pem.write_text(shown + shown_key)
            context.load_cert_chain(pem)
        reader, writer = await asyncio.open_connection("127.0.0.1", free_port, ssl=context)
        writer.write(b"\x0b" + message("t-1") + b"\x1c\r")
        try:
            async with asyncio.timeout(WAIT_S):
                return await reader.readuntil(b"\x1c\r")
        except (asyncio.IncompleteReadError, OSError):
            return b""
        finally:
            writer.close()

    folder = suite.runtime.settings.data
    assert b"MSA|AA|t-1" in await sent(mine, my_key, folder)
    assert await sent(stranger, stranger_key, folder) == b""
    assert await sent(None, "", folder) == b""
    live = await listening.live()
    assert (live["counters"]["connections_not_allowed"], live["counters"]["connections_tls_refused"]) == (1, 1)
    assert live["tls_refusals"] == {"no-certificate": 1}


async def test_a_port_that_is_taken_meanwhile_is_named_and_had_later(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create()
    await listening.step("pause")
    await listening.wait_for("stopped")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", free_port))
        other.listen(1)
        await listening.step("resume")
        assert (await listening.wait_for("failed"))["error_code"] == "connection.port-in-use"
    await listening.wait_for("listening")
    assert await listening.send(message("q-1")) == [("AA", "q-1")]
