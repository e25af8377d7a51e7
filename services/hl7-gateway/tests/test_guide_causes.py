"""Each cause of the troubleshooting guide's HL7 chapter that a message can show: the validator names it, with a remedy.

Connection settings and interruptions leave no trace in a message; `:test` and `unmatched-senders` answer for those, and
here what a capture shows of them (framing, TLS, HTTP) does.
"""

from collections.abc import Callable
from typing import Any

import pytest

from common.models.access import Role

Message = Callable[..., bytes]
RAW = {"content-type": "x-application/hl7-v2+er7"}

Change = Callable[[bytes], bytes]
CAUSES: dict[str, tuple[Change, str, str, str]] = {  # what is done to a good message → path, code, words of the remedy
    "message structure: no MSH": (lambda good: good[4:], "MSH", "100", "MSH"),
    "message structure: XML instead": (lambda _: b"<ADT_A01><MSH/></ADT_A01>", "MSH", "100", "ER7"),
    "message structure: JSON instead": (lambda _: b'{"MSH": 1}', "MSH", "100", "base64"),
    "an unknown type": (lambda good: good.replace(b"ADT^A08", b"ADX^A08"), "MSH-9.1", "200", "MSH-9"),
    "a type the gateway does not take": (lambda good: good.replace(b"ADT^A08", b"BAR^P01"), "MSH-9.1", "200", "sender"),
    "segment order": (
        lambda good: good.replace(b"PV1|1|O\r", b"").replace(b"PID|", b"PV1|1|O\rPID|"), "PV1", "100", "order",
    ),
    "segment cardinality": (lambda good: good + b"PV1|2|O\r", "PV1[2]", "100", "repeating"),
    "a missing segment": (lambda good: good.replace(b"PV1|1|O\r", b""), "PV1", "100", "optional"),
    "delimiters": (lambda good: good.replace(b"MSH|^~\\&|", b"MSH|^~~&|"), "MSH-2", "100", "encoding characters"),
    "no delimiters": (lambda _: b"MSH|", "MSH-1", "100", "header"),
    "encoding: not declared": (
        lambda good: good.replace(b"UNICODE UTF-8", b"").replace(b"TEST^", "NÚÑEZ^".encode()), "MSH-18", "102",
        "connection's encoding",
    ),
    "encoding: declared wrongly": (
        lambda good: good.replace(b"UNICODE UTF-8", b"8859/1").replace(b"TEST^", "NÚÑEZ^".encode()), "MSH-18", "102",
        "MSH-18",
    ),
    "encoding: a set that nobody knows": (
        lambda good: good.replace(b"UNICODE UTF-8", b"KLINGON").replace(b"TEST^", "NÚÑEZ^".encode()), "MSH-18", "102",
        "MSH-18",
    ),
    "special characters: encoded twice": (
        lambda good: good.replace(b"TEST^", "NÚÑEZ^".encode().decode("latin-1").encode()), "MSH-18", "102", "MSH-18",
    ),
    "special characters: lost": (lambda good: good.replace(b"TEST^", "N\ufffdEZ^".encode()), "MSH-18", "102", "MSH-18"),
    "a required field": (lambda good: good.replace(b"4711^^^EPIC^MR", b""), "PID-3", "101", "required"),
    "a field's length": (
        lambda good: good.replace(b"0101|F", b"0101|F" + b"|" * 11 + b"1" * 60), "PID-19", "104", "Shorten",
    ),
    "a data type": (lambda good: good.replace(b"19700101", b"01/01/1970"), "PID-7", "102", "YYYYMMDD"),
    "a table value": (lambda good: good.replace(b"19700101|F", b"19700101|Q"), "PID-8", "103", "Map the code"),
    "an identifier without authority": (
        lambda good: good.replace(b"4711^^^EPIC^MR", b"4711"), "PID-3.4", "101", "master data",
    ),
    "an identifier without a number": (
        lambda good: good.replace(b"4711^^^EPIC^MR", b"^^^EPIC^MR"), "PID-3.1", "101", "master data",
    ),
    "transport: an HTTP client on the port": (lambda _: b"POST / HTTP/1.1\r\n", "MSH", "100", "HTTP"),
    "transport: TLS where none is expected": (lambda _: b"\x16\x03\x01\x02\x00\x01", "MSH", "100", "tls.mode"),
}  # fmt: skip


@pytest.fixture
def good(message: Message) -> bytes:
    return message("v-1").replace(b"EVN||", b"EVN|A08|")


async def _validated(suite: Any, body: bytes) -> Any:
    async with suite.client(Role.VIEWER) as viewer:
        answer = await viewer.post("/hl7/v1/validate", content=body, headers=RAW)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_good_message_has_nothing_to_tell(suite: Any, good: bytes) -> None:
    shown = await _validated(suite, good)
    assert (shown["items"][0]["findings"], shown["around"]) == ([], [])


async def test_each_cause_is_named_with_a_remedy(suite: Any, good: bytes) -> None:
    for cause, (change, path, code, words) in CAUSES.items():
        (item,) = (await _validated(suite, change(good)))["items"]
        named = [one for one in item["findings"] if (one["path"], one["code"]) == (path, code)]
        assert named, (cause, item["findings"])
        assert any(words in one["remedy"] for one in named), (cause, named)
        assert all(one["remedy"] for one in item["findings"]), cause


async def test_framing_is_named_in_a_capture(suite: Any, good: bytes) -> None:
    framed = await _validated(suite, b"\x0b" + good + b"\x1c\r")
    assert (framed["items"][0]["valid"], framed["around"]) == (True, [])
    for capture in (b"\x0b" + good, b"junk\x0b" + good + b"\x1c\r", b"\x0b" + good + b"\x1c"):
        shown = await _validated(suite, capture)
        assert any("0x0B" in one["remedy"] for one in shown["around"]), capture[:5]
    short = b"BHS|^~\\&|A|B\r" + good + b"BTS|3\r"
    (finding,) = (await _validated(suite, short))["around"]
    assert (finding["path"], finding["expected"]) == ("BTS-1", "1")
