"""Testing a connection, stage by stage, against receivers that are well and ones that are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import hl7v2
from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from hl7_gateway.adapters.tls_material import server_context
from hl7_gateway.core.answer_check import check_answer
from hl7_gateway.core.connection_configuration import TlsMaterial
from hl7_gateway.core.sample_messages import SAMPLES, Parties, echo_message, sample_message

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
WAIT_S = 10.0
STAGES = ["resolve", "connect", "tls", "echo", "acknowledgement", "samples"]
Start = Callable[..., Awaitable[Any]]


async def wait_until_closed(client: Any, path: str, port: int) -> None:
    """A listener that was active for a moment may have been opened before it was paused."""
    async with asyncio.timeout(WAIT_S):
        while (await client.get(path)).json()["live"]["state"] != "stopped" or not _is_free(port):  # noqa: ASYNC110 - another task closes it
            await asyncio.sleep(0.02)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def _test(suite: Any, port: int, *, asked: Any = None, sending: Any = None, **changed: Any) -> Any:
    """Make a paused connection (so that only the test connects) and test it: its stages by name."""
    configuration = {
        "name": "Out",
        "direction": "sender",
        "integration_id": INTEGRATION_ID,
        "host": "127.0.0.1",
        "port": port,
        "sending": {"ack_timeout_ms": 400, "connect_timeout_ms": 1000, **(sending or {})},
        **changed,
    }
    if configuration["direction"] == "listener":
        configuration["sending"] = None
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        made = await admin.post("/hl7/v1/connections", json={"configuration": configuration, "reason": "new"})
        assert made.status_code == 201, made.text
        path = made.headers["location"]
        await admin.post(f"{path}:pause", json={"reason": "only a test"})
        if configuration["direction"] == "listener":
            await wait_until_closed(admin, path, port)
    async with suite.client(Role.OPERATOR) as operator:
        response = await operator.post(f"{path}:test", json=asked or {})
    assert response.status_code == 200, response.text
    body = response.json()
    body["by_name"] = {stage["stage"]: stage for stage in body["stages"]}
    return body


def _statuses(tested: Any) -> list[str]:
    return [stage["status"] for stage in tested["stages"]]


async def test_a_receiver_that_is_well(suite: Any, receiver: Start) -> None:
    there = await receiver()
    tested = await _test(suite, there.port, asked={"samples": True})
    assert [stage["stage"] for stage in tested["stages"]] == STAGES
    assert _statuses(tested) == ["passed", "passed", "skipped", "passed", "passed", "passed"]
    assert tested["outcome"] == "passed"
    samples = tested["by_name"]["samples"]["evidence"]
    assert samples["accepted"] == [sample.charset for sample in SAMPLES]
    assert there.visits == 1
    assert {hl7v2.parse(body)["MSH-11"] for body in there.bodies} == {"T"}
    echo = hl7v2.parse(there.bodies[0])
    assert (echo.type[0], echo.segments("PID")) == ("NMQ", [])


async def test_the_samples_are_sent_only_when_asked_for(suite: Any, receiver: Start) -> None:
    there = await receiver()
    tested = await _test(suite, there.port)
    assert tested["by_name"]["samples"]["status"] == "skipped"
    assert len(there.bodies) == 1


async def test_our_own_gateway_as_the_receiver(suite: Any) -> None:
    """It rejects a network management query: that is an answer, and a hint."""
    tested = await _test(suite, suite.mllp_port, asked={"samples": True})
    assert _statuses(tested) == ["passed", "passed", "skipped", "passed", "passed", "passed"]
    checked = tested["by_name"]["acknowledgement"]["evidence"]
    assert checked["acknowledgment_code"] == "AR"
    assert [finding["severity"] for finding in checked["findings"]] == ["warning"]


async def silent(visit: Any, control_id: str) -> None:
    pass


async def closing(visit: Any, control_id: str) -> None:
    visit.close()


async def foreign(visit: Any, control_id: str) -> None:
    visit.answer("AA", "somebody-else")


async def junk(visit: Any, control_id: str) -> None:
    visit.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def nonsense(visit: Any, control_id: str) -> None:
    visit.writer.write(b"\x0bHELLO WORLD\x1c\r")


@pytest.mark.parametrize(
    ("behaviour", "stage", "code"),
    [
        (silent, "echo", "hl7.no-acknowledgment"),
        (closing, "echo", "hl7.connection-cut"),
        (junk, "echo", "hl7.no-acknowledgment"),
        (nonsense, "acknowledgement", "hl7.acknowledgment-unreadable"),
        (foreign, "acknowledgement", "hl7.acknowledgment-foreign"),
    ],
)
async def test_a_receiver_that_is_not_well(suite: Any, receiver: Start, behaviour: Any, stage: str, code: str) -> None:
    there = await receiver(behaviour)
    tested = await _test(suite, there.port, asked={"samples": True})
    found = tested["by_name"][stage]
    assert (tested["outcome"], found["status"], found["code"]) == ("failed", "failed", code)
    assert found["next_step"]
    assert tested["by_name"]["samples"]["status"] == "skipped"


async def test_nobody_there(suite: Any, free_port: int) -> None:
    tested = await _test(suite, free_port)
    assert _statuses(tested) == ["passed", "failed", *["skipped"] * 4]
    assert tested["by_name"]["connect"]["code"] == "peer.connect"


async def test_a_name_that_does_not_resolve_and_an_address_that_is_not_allowed(suite: Any) -> None:
    tested = await _test(suite, 6661, host="nowhere.invalid")
    assert tested["by_name"]["resolve"]["code"] in {"peer.dns", "peer.timeout"}
    refused = await _test(suite, 6661, host="169.254.169.254", name="Metadata")
    assert refused["by_name"]["resolve"]["code"] == "peer.address-refused"


async def test_tls_stages(suite: Any, receiver: Start, authority: Any) -> None:
    there = await receiver(tls=server_context(TlsMaterial(*authority.issue(), authority.pem), mutual=False))
    trusted = await _test(suite, there.port, tls={"mode": "tls", "ca_pem": authority.pem})
    assert _statuses(trusted) == ["passed", "passed", "passed", "passed", "passed", "skipped"]
    assert trusted["by_name"]["tls"]["evidence"]["protocol"].startswith("TLSv1.")
    stranger = type(authority)()
    unknown = await _test(suite, there.port, name="Stranger", tls={"mode": "tls", "ca_pem": stranger.pem})
    assert (unknown["by_name"]["tls"]["code"], unknown["by_name"]["echo"]["status"]) == ("peer.tls", "skipped")
    plain = await receiver()
    no_tls = await _test(suite, plain.port, name="Plain", tls={"mode": "tls", "ca_pem": authority.pem})
    assert no_tls["by_name"]["tls"]["code"] == "peer.tls"


async def test_character_sets_that_a_receiver_does_not_take_are_named(suite: Any, receiver: Start) -> None:
    async def latin_only(visit: Any, control_id: str) -> None:
        message = hl7v2.parse(visit.receiver.bodies[-1])
        taken = message["MSH-18"] in {"", "ASCII", "8859/1"}
        visit.answer("AA" if taken else "AE", control_id)

    there = await receiver(latin_only)
    tested = await _test(suite, there.port, asked={"samples": True})
    samples = tested["by_name"]["samples"]
    assert (samples["status"], samples["code"]) == ("failed", "hl7.refused-error")
    assert samples["evidence"]["accepted"] == ["ASCII", "8859/1"]
    assert "8859/1" in samples["next_step"]
    assert len(samples["evidence"]["samples"]) == len(SAMPLES)


async def test_a_listener_is_tested_for_its_port(suite: Any, free_port: int) -> None:
    tested = await _test(suite, free_port, direction="listener")
    assert tested["stages"][0]["stage"] == "listen"
    assert tested["stages"][0]["code"] == "connection.not-listening"


async def test_a_misspelt_wish_is_refused(suite: Any, receiver: Start) -> None:
    there = await receiver()
    made = await _test(suite, there.port)
    async with suite.client(Role.OPERATOR) as operator:
        bad = await operator.post(f"/hl7/v1/connections/{made['connection_id']}:test", json={"sample": True})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/sample")


def test_every_sample_says_its_name_in_its_character_set(at: Any) -> None:
    for sample in SAMPLES:
        message = hl7v2.parse(sample_message(sample, Parties(), now=at, control_id="X1"))
        assert message.tolerated == []
        assert (message["MSH-18"], message.control_id, message["MSH-11"]) == (sample.charset, "X1", "T")
        family, given = sample.name.split("^")
        assert (message["PID-5.1"], message["PID-5.2"]) == (family, given)


def test_names_of_the_parties_are_escaped(at: Any) -> None:
    parties = Parties(receiving_application="A|B", receiving_facility="C^D")
    message = hl7v2.parse(echo_message(parties, now=at, control_id="X1"))
    assert (message["MSH-5"], message["MSH-6"], message["MSH-3"]) == ("A|B", "C^D", "PRACTICESTUDIO")


@pytest.mark.parametrize(
    ("answer", "paths"),
    [
        (b"MSH|^~\\&|EPIC|C|PRACTICESTUDIO|TEST|2026||ACK^N01|9|T|2.5.1\rMSA|AA|X1\r", []),
        (b"MSH|^~\\&|OTHER|C|PRACTICESTUDIO|TEST|2026||ACK|9|T|2.3\rMSA|CA|X1\r", ["MSH-3", "MSH-12"]),
        (b"MSH|^~\\&|EPIC|C|X|Y|2026||ORU||T|2.5.1\rMSA|AE|X1\r", ["MSH-9", "MSH-10", "MSH-5", "MSA-1"]),
        (b"MSH|^~\\&|EPIC|C|PRACTICESTUDIO|TEST|2026||ACK|9|T|2.5.1\rMSA|OK|X2\r", ["MSA-1", "MSA-2"]),
        (b"HELLO WORLD", [""]),
    ],
)
def test_what_is_said_of_an_acknowledgement(at: Any, answer: bytes, paths: list[str]) -> None:
    sent = hl7v2.parse(echo_message(Parties(receiving_application="EPIC"), now=at, control_id="X1"))
    assert [finding.path for finding in check_answer(sent, answer)] == paths
