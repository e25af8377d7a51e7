"""Files of many messages: nothing is lost, whatever the file; counts are checked."""

from __future__ import annotations

import codecs
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7v2.batch import header_of

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
HEAD = "|^~\\&|EPIC|DEMO|PS|HOME|20260301||a comment||B1\r"


def one(number: int) -> str:
    return f"MSH|^~\\&|EPIC|DEMO|PS|HOME|2026||ADT^A08^ADT_A01|C{number}|P|2.5.1\rPID|1||{number}\r"


def codes(text: str) -> list[tuple[str, str]]:
    file = hl7v2.split_batch(text.encode())
    assert bytes(file) == text.encode()
    return [(finding.path, finding.code) for finding in file.findings]


def test_a_file_of_two_batches() -> None:
    text = f"FHS{HEAD}BHS{HEAD}{one(1)}{one(2)}BTS|2\rBHS{HEAD}{one(3)}BTS|1|done\rFTS|2\r"
    file = hl7v2.split_batch(text.encode())
    assert (bytes(file), file.findings) == (text.encode(), ())
    assert [[hl7v2.parse(message).control_id for message in batch.messages] for batch in file.batches] == [
        ["C1", "C2"],
        ["C3"],
    ]
    header = header_of(file.header)
    assert (header["FHS-1"], header["FHS-3"], header["FHS-9"], header["FHS-11"]) == ("|", "EPIC", "a comment", "B1")
    assert header_of(file.batches[0].header)["BHS-11"] == "B1"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_messages_behind_each_other(end: str) -> None:
    file = hl7v2.split_batch((one(1) + "\r" + one(2)).replace("\r", end).encode())
    assert [hl7v2.parse(message)["PID-3"] for message in file.messages] == ["1", "2"]
    assert file.findings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"BHS{HEAD}{one(1)}BTS|2\r", [("BTS-1", "102")]),
        (f"BHS{HEAD}{one(1)}BTS|many\r", [("BTS-1", "102")]),
        (f"BHS{HEAD}{one(1)}BTS\r", []),
        (f"FHS{HEAD}BHS{HEAD}{one(1)}BTS|1\rFTS|3\r", [("FTS-1", "102")]),
        (f"BHS{HEAD}{one(1)}", [("BTS", "100")]),
        (f"{one(1)}BTS|1\r", [("BHS", "100")]),
        (f"FHS{HEAD}{one(1)}", [("FTS", "100")]),
        (f"{one(1)}FTS|1\r", [("FHS", "100")]),
        (f"FHS{HEAD}{one(1)}FTS|1\r{one(2)}", [("MSH", "100")]),
        (f"FHS{HEAD}{one(1)}FHS{HEAD}{one(2)}FTS|2\r", [("FHS", "100")]),
        (f"garbage\r{one(1)}", [("MSH[1]", "100")]),
        (f"BHS{HEAD}{one(1)}BTS|1\rBHS{HEAD}{one(2)}BTS|4\r", [("BTS[2]-1", "102")]),
    ],
)
def test_what_is_wrong_with_a_file(text: str, expected: list[tuple[str, str]]) -> None:
    assert codes(text) == expected


def test_one_message_that_is_none_does_not_take_the_others_with_it() -> None:
    file = hl7v2.split_batch((one(1) + "MSH|^^^^|broken\r" + one(2)).encode())
    read = list(file.parsed())
    assert [one.control_id if isinstance(one, hl7v2.Message) else one.code for one in read] == [
        "C1",
        "bad-delimiters",
        "C2",
    ]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_files_in_other_encodings(codec: str) -> None:
    text = f"FHS{HEAD}BHS{HEAD}{one(1)}{one(2)}BTS|2\rFTS|1\r".replace("EPIC", "ÉPIC")
    file = hl7v2.split_batch(text.encode(codec))
    assert (bytes(file), file.findings) == (text.encode(codec), ())
    assert [hl7v2.parse(message)["MSH-3"] for message in file.messages] == ["ÉPIC", "ÉPIC"]


def test_a_composed_file_is_read_back() -> None:
    messages = [hl7v2.parse(one(number).encode()) for number in (1, 2)]
    data = hl7v2.compose_batch(messages, now=NOW, control_id="B|1", sender=("EPIC", "DEMO"), receiver=("PS", "HOME"))
    file = hl7v2.split_batch(data)
    assert (file.findings, file.messages) == ((), tuple(map(bytes, messages)))
    header = header_of(file.header)
    assert (header["FHS-3"], header["FHS-6"], header["FHS-7"], header["FHS-11"]) == (
        "EPIC",
        "HOME",
        "20260301093000+0000",
        "B|1",
    )
    assert hl7v2.split_batch(hl7v2.compose_batch([], now=NOW, control_id="B2")).findings == ()


@pytest.mark.parametrize("body", [b"PID|1\r", one(1).encode("utf-16"), codecs.BOM_UTF8 + one(1).encode()])
def test_what_would_be_lost_in_a_batch_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="begins with the bytes MSH"):
        hl7v2.compose_batch([body], now=NOW, control_id="B1")
    with pytest.raises(ValueError, match="zone"):
        hl7v2.compose_batch([], now=NOW.replace(tzinfo=None), control_id="B1")


LINES = st.sampled_from(
    [
        "FHS|^~\\&|",
        "BHS|^~\\&|",
        "MSH|^~\\&|A",
        "MSH",
        "PID|1",
        "BTS|1",
        "BTS",
        "FTS|1",
        "FTSX",
        "",
        "junk",
        "\x1a",
        "é",
    ]
)


@given(
    st.lists(st.tuples(LINES, st.sampled_from(["\r", "\n", "\r\n"])), max_size=15), st.sampled_from(["utf-8", "utf-16"])
)
def test_a_file_is_the_sum_of_its_pieces(lines: list[tuple[str, str]], codec: str) -> None:
    data = "".join(text + end for text, end in lines).encode(codec)
    file = hl7v2.split_batch(data)
    assert bytes(file) == data
    assert all(finding.severity == "error" for finding in file.findings)
    assert len(list(file.parsed())) == len(file.messages)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file(data: bytes) -> None:
    for body in (data, b"FHS|^~\\&|" + data, b"\xff\xfe" + data, b"M\x00S\x00H\x00|\x00" + data):
        assert bytes(hl7v2.split_batch(body)) == body


def test_a_count_may_be_left_out() -> None:
    for trailer in (b"BTS\r", b"BTS|\r", b"BTS||all of them\r", b"BTS| 1 \r"):
        assert hl7v2.split_batch(b"BHS|^~\\&|\rMSH|^~\\&|A\r" + trailer).findings == ()


def test_a_message_without_its_last_end_is_given_one() -> None:
    data = hl7v2.compose_batch([b"MSH|^~\\&|A", b"MSH|^~\\&|B\r", b"MSH|^~\\&|C\n"], now=NOW, control_id="1")
    assert hl7v2.split_batch(data).messages == (b"MSH|^~\\&|A\r", b"MSH|^~\\&|B\r", b"MSH|^~\\&|C\n")
