"""A listener's encoding: what messages are in whose MSH-18 says nothing."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

import hl7v2
from common.models.access import Role
from infrastructure.hl7_listening import Listening

Message = Callable[..., bytes]
RAW = {"content-type": "x-application/hl7-v2+er7"}
NAME = "Иванов^Пётр"


def _written(message: Message, control_id: str, *, codec: str, declared: str = "") -> bytes:
    text = message(control_id, charset=declared, name=NAME, sender="EPIC|КЛИНИКА").decode()
    return text.replace("EVN||", "EVN|A08|").encode(codec)


async def _stored(suite: Any, listening: Listening) -> Any:
    """The newest message as services read it."""
    (found,) = await listening.found(limit=1)
    async with suite.client(Role.SERVICE) as service:
        (item,) = (await service.post("/hl7/v1/messages:read", json={"ids": [found["id"]]})).json()["items"]
    async with suite.client(Role.PHI_REVIEWER) as reviewer:
        reason = {"reason": "a test"}
        shown = (await reviewer.post(f"/hl7/v1/messages/{found['id']}:read-body", json=reason)).json()
    assert shown["encoding"] == item["encoding"]
    return found, item


@pytest.mark.parametrize(
    ("encoding", "codec"), [("8859/5", "iso8859-5"), ("WINDOWS-1251", "cp1251"), ("UNICODE UTF-8", "utf-8")]
)
async def test_what_msh_18_does_not_say_the_connection_says(
    suite: Any, connect: Any, free_port: int, message: Message, encoding: str, codec: str
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(encoding=encoding, listening={"validation": {"when": "before"}})
    body = _written(message, "e-1", codec=codec)
    client = await connect(free_port)
    await client.send(body)
    answer = await client.answer()
    client.close()
    assert b"MSA|AA|e-1" in answer
    assert "КЛИНИКА".encode(codec) in answer  # the receiver of the reply, in the sender's own character set
    found, item = await _stored(suite, listening)
    assert (found["sending_facility"], item["encoding"]) == ("КЛИНИКА", encoding)
    assert not [one for one in found["findings"] if "charset" in str(one)]
    read = hl7v2.parse_assuming(base64.b64decode(item["body"]), item["encoding"])
    assert (bytes(read), read["PID-5.1"]) == (body, "Иванов")


async def test_what_msh_18_says_comes_first_and_a_lie_is_told(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(encoding="8859/5")
    assert await listening.send(_written(message, "e-1", codec="utf-8", declared="UNICODE UTF-8")) == [("AA", "e-1")]
    found, _ = await _stored(suite, listening)
    assert (found["sending_facility"], found["findings"]) == ("КЛИНИКА", [])
    assert await listening.send(_written(message, "e-2", codec="utf-8")) == [("AA", "e-2")]
    found, _ = await _stored(suite, listening)
    assert (found["sending_facility"], found["findings"]) == ("КЛИНИКА", ["charset-contradicted"])
    assert await listening.send(_written(message, "e-3", codec="cp1251", declared="UNICODE UTF-8")) == [("AA", "e-3")]
    found, _ = await _stored(suite, listening)
    assert "charset-contradicted" in found["findings"]


async def test_the_encoding_is_known_while_the_connection_is_paused(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(encoding="8859/5")
    assert await listening.send(_written(message, "e-1", codec="iso8859-5")) == [("AA", "e-1")]
    await listening.step("pause")
    await listening.wait_for("stopped")
    _, item = await _stored(suite, listening)
    assert item["encoding"] == "8859/5"


async def test_the_validator_checks_as_a_connection_does(
    suite: Any, connect: Any, free_port: int, message: Message
) -> None:
    listening = Listening(suite, connect, free_port)
    await listening.create(encoding="8859/5", listening={"validation": {"when": "after", "profile": "strict"}})
    body = _written(message, "e-1", codec="iso8859-5")
    async with suite.client(Role.VIEWER) as viewer:
        plain = await viewer.post("/hl7/v1/validate", content=body, headers=RAW)
        assert [one["path"] for one in plain.json()["items"][0]["findings"]] == ["MSH-18"]
        wanted = {"connection_id": listening.path.rpartition("/")[2]}
        as_there = await viewer.post("/hl7/v1/validate", content=body, headers=RAW, params=wanted)
        (item,) = as_there.json()["items"]
        assert (item["profile"]["name"], item["tolerated"]) == ("strict", [])
        both = await viewer.post("/hl7/v1/validate", content=body, headers=RAW, params={**wanted, "profile": "strict"})
        assert both.status_code == 422
