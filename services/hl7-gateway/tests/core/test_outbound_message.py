"""What a message must have, and what a connection makes of it; batches taken apart."""

from typing import Any

import pytest

import hl7v2
from common.models.errors import SuiteError
from common.models.identifier_systems import IdentifierSystem
from hl7_gateway.core.batch import messages_of
from hl7_gateway.core.connection_configuration import ConnectionDocument
from hl7_gateway.core.outbound_message import order_key, prepare

ONE = "MSH|^~\\&|PS|HERE|EPIC|CLINIC|20260301||ADT^A08|c1|P|2.5.1{}\rPID|1||4711^^^EPIC^MR||Núñez^José\r"
SYSTEMS = (IdentifierSystem("EPIC", "urn:oid:1.2.3"),)


def configuration(**changed: Any) -> ConnectionDocument:
    base = {"name": "Out", "direction": "sender", "integration_id": "int_x", "host": "hl7.example", "port": 6661}
    return ConnectionDocument.model_validate({**base, **changed})


def message(rest: str = "", encoding: str = "utf-8") -> bytes:
    return ONE.format(rest).encode(encoding)


def test_a_message_is_sent_as_it_is() -> None:
    body = message("||||||UNICODE UTF-8")
    prepared = prepare(body, configuration(), SYSTEMS, number=1)
    assert prepared.body == body
    assert (prepared.header.control_id, prepared.header.operation) == ("c1", "ADT^A08")
    assert prepared.patient == "urn:oid:1.2.3|4711"


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("auto", "|||NE|AL", ("NE", "AL")),
        ("original", "|||AL|AL", ("", "")),
        ("original", "", ("", "")),
        ("enhanced", "", ("AL", "AL")),
        ("enhanced", "|||AL|NE", ("AL", "NE")),
    ],
)
def test_the_acknowledgement_mode_is_written_into_the_header(mode: str, before: str, after: tuple[str, str]) -> None:
    sent = hl7v2.parse(prepare(message(before), configuration(acknowledgment_mode=mode), (), number=1).body)
    assert (sent["MSH-15"], sent["MSH-16"]) == after
    assert sent["PID-5.1"] == "Núñez"


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("8859/1", "iso8859-1"), ("UNICODE UTF-8", "utf-8"), ("GB 18030-2000", "gb18030")],
)
def test_another_encoding_is_written_and_declared(encoding: str, codec: str) -> None:
    for body in (message("||||||UNICODE UTF-8"), message("||||||8859/1", "iso8859-1"), message("", "cp1252")):
        sent = prepare(body, configuration(encoding=encoding), (), number=1).body
        assert "Núñez^José".encode(codec) in sent
        read = hl7v2.parse(sent)
        assert (read["MSH-18"], read["PID-5.1"], read["MSH-10"]) == (encoding, "Núñez", "c1")


@pytest.mark.parametrize(
    ("body", "changed", "code"),
    [
        (b"HELLO WORLD", {}, "hl7.unparsable"),
        (b"", {}, "hl7.unparsable"),
        (b"MSH|^~\\&|PS|HERE|EPIC|CLINIC|20260301||ADT^A08||P|2.5.1\r", {}, "hl7.field-missing"),
        (message() + b"OBX|" + b"x" * 2000 + b"\r", {"frame_bytes_max": 1024}, "hl7.frame-too-large"),
        (message() + b"NTE|\x0b\r", {}, "hl7.frame-bytes-inside"),
        (message() + b"NTE|\x1c\rPV1|1\r", {}, "hl7.frame-bytes-inside"),
        (
            message("||||||UNICODE UTF-8").replace("José".encode(), "李".encode()),
            {"encoding": "8859/1"},
            "hl7.encoding-impossible",
        ),
    ],
)
def test_what_cannot_be_sent_is_named_without_its_contents(body: bytes, changed: dict[str, Any], code: str) -> None:
    with pytest.raises(SuiteError) as refused:
        prepare(body, configuration(**changed), (), number=3)
    assert refused.value.code == code
    assert str(refused.value.detail).startswith("Message 3")
    assert "Núñez" not in str(refused.value)


def test_the_key_that_keeps_its_order() -> None:
    assert order_key("patient", "obm_1", "p" * 26) == "p" * 26
    assert order_key("patient", "obm_1", None) == order_key("patient", "obm_2", None)
    assert order_key("connection", "obm_1", "p" * 26) == order_key("connection", "obm_2", None)
    assert order_key("none", "obm_1", "p" * 26) != order_key("none", "obm_2", "p" * 26)


def test_a_batch_is_taken_apart() -> None:
    first, second = b"MSH|^~\\&|a\rPID|1\r", b"MSH|^~\\&|b\rPID|2\rPV1|1\r"
    assert messages_of(first) == [first]
    assert messages_of(first + second) == [first, second]
    file = b"FHS|^~\\&|x\rBHS|^~\\&|x\r" + first + second + b"BTS|2\rFTS|1\r"
    assert messages_of(file) == [first, second]
    assert messages_of(b"\xef\xbb\xbf" + file) == [first, second]
    assert messages_of(file.replace(b"\r", b"\r\n")) == [first.replace(b"\r", b"\r\n"), second.replace(b"\r", b"\r\n")]
    assert messages_of(b"junk\r" + first) == [b"junk\r", first]
    assert messages_of(b"FHS|^~\\&|x\rFTS|0\r") == []
    spaced = b"\rMSH|^~\\&|a\r\r\rPID|1\r\r"
    assert messages_of(spaced) == [spaced]
    assert messages_of(first + b"\r\r" + second) == [first, second]
    assert messages_of(b"") == []
    wide = "MSH|^~\\&|a\rPID|1\r".encode("utf-16")
    assert messages_of(wide) == [wide]
