"""The HL7 Validator through the API: nothing is stored, no value comes back."""

import base64
from collections.abc import Callable
from typing import Any

import hl7v2
from common.models.access import Role

Message = Callable[..., bytes]
RAW = {"content-type": "x-application/hl7-v2+er7"}
CANARY = b"CANARYNAME"


def _message(message: Message, **changed: Any) -> bytes:
    return message("v-1", **changed).replace(b"EVN||", b"EVN|A08|")


async def _post(suite: Any, path: str, **request: Any) -> Any:
    async with suite.client(Role.VIEWER) as viewer:
        return await viewer.post(f"/hl7/v1/{path}", **request)


async def test_a_message_is_validated_and_not_kept(suite: Any, message: Message) -> None:
    good = _message(message)
    bad = good.replace(b"19700101", b"19701341").replace(b"TEST^SYNTHETIC", CANARY)
    first = (await _post(suite, "validate", content=good, headers=RAW)).json()["items"]
    assert [(one["valid"], one["control_id"], one["hl7_version"]) for one in first] == [(True, "v-1", "2.5.1")]
    answer = await _post(suite, "validate", content=bad, headers=RAW)
    (found,) = answer.json()["items"]
    (error,) = [one for one in found["findings"] if one["severity"] == "error"]
    assert (found["valid"], error["path"], error["code"]) == (False, "PID-7", "102")
    assert error["reference"]
    assert CANARY.decode() not in answer.text
    assert "19701341" not in answer.text
    async with suite.client(Role.DATA_STEWARD) as steward:
        assert (await steward.post("/hl7/v1/messages:search", json={})).json()["items"] == []


async def test_batches_and_json_lists(suite: Any, message: Message) -> None:
    good = _message(message)
    batch = b"FHS|^~\\&\rBHS|^~\\&\r" + good + good + b"BTS|2\rFTS|1\r"
    assert len((await _post(suite, "validate", content=batch, headers=RAW)).json()["items"]) == 2
    listed = {"messages": [base64.b64encode(one).decode() for one in (good, b"HELLO WORLD")]}
    items = (await _post(suite, "validate", json=listed)).json()["items"]
    assert [one["valid"] for one in items] == [True, False]
    assert items[1]["error_code"] == "hl7.unparsable"
    empty = await _post(suite, "validate", content=b"", headers=RAW)
    assert (empty.status_code, empty.json()["code"]) == (422, "hl7.unparsable")
    other = await _post(suite, "validate", content=good, headers={"content-type": "image/png"})
    assert other.status_code == 415


async def test_the_acknowledgement_is_shown(suite: Any, message: Message) -> None:
    good = _message(message)
    bad = good.replace(b"19700101", b"19701341")
    listed = {"messages": [base64.b64encode(one).decode() for one in (good, bad, b"HELLO WORLD")]}
    items = (await _post(suite, "acknowledge", json=listed)).json()["items"]
    assert [one["acknowledgment_code"] for one in items] == ["AA", "AE", "AR"]
    shown = [hl7v2.parse(base64.b64decode(one["acknowledgment"])) for one in items]
    assert [one["MSA-2"] for one in shown] == ["v-1", "v-1", "UNKNOWN"]
    assert (shown[1]["ERR-2.1"], shown[1]["ERR-2.3"], shown[1]["ERR-3.1"]) == ("PID", "7", "102")


async def test_what_a_message_holds_is_shown(suite: Any, message: Message) -> None:
    good = _message(message, name="NÚÑEZ^ALMA")
    listed = {"messages": [base64.b64encode(one).decode() for one in (good, b"HELLO WORLD")]}
    items = (await _post(suite, "parse", json=listed)).json()["items"]
    assert "NÚÑEZ" in str(items[0]["message"])
    assert bytes(hl7v2.from_json(items[0]["message"])) == good
    assert (items[1]["message"], items[1]["error_code"]) == (None, "hl7.unparsable")
