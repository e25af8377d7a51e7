"""Messages as JSON and back: the same bytes, whatever they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2

ADT = (
    "MSH|^~\\&|EPIC|DEMO|PS|DEMO|2026||ADT^A08^ADT_A01|C1|P|2.5.1||||||UNICODE UTF-8\r"
    'PID|1||123^^^EPIC&1.2.3&ISO^MR~9||Núñez\\T\\Søn^Alma^""|a\\X0D\\b|""|\\H\\x|a\tb||\r'
    "PID\rZPI|own|\r"
)


def again(data: bytes) -> dict[str, Any]:
    """The JSON form, once it has been through JSON and back."""
    document = json.loads(json.dumps(hl7v2.parse(data).as_json()))
    assert bytes(hl7v2.from_json(document)) == data
    return document


def test_the_form() -> None:
    document = again(ADT.encode())
    assert (document["type"], document["charset"], document["delimiters"]) == (
        ["ADT", "A08", "ADT_A01"],
        "utf-8",
        "|^~\\&",
    )
    header, patient, bare, own = document["segments"]
    assert header["fields"][:3] == ["|", "^~\\&", "EPIC"]
    assert patient == {
        "name": "PID",
        "fields": [
            "1",
            "",
            [["123", "", "", ["EPIC", "1.2.3", "ISO"], "MR"], "9"],
            "",
            [["Núñez&Søn", "Alma", None]],
            "a\rb",
            None,
            {"raw": "\\H\\x", "text": "x"},
            {"raw": "a\tb", "text": "a\tb"},
            "",
            "",
        ],
    }
    assert (bare, own) == ({"name": "PID", "fields": []}, {"name": "ZPI", "fields": ["own", ""]})


@pytest.mark.parametrize(
    "data",
    [
        ADT.replace("\r", "\n").encode(),
        ADT.replace("\r", "\r\n").encode()[:-2],
        ADT.encode("utf-16"),
        ADT.encode("utf-16-be"),
        b"\xef\xbb\xbf" + ADT.encode(),
        ADT.replace("UNICODE UTF-8", "8859/1").encode("latin-1"),
        ADT.replace("UNICODE UTF-8", "8859/1").encode("latin-1") + b"ZZZ|\xff\xfe\r",
        ADT.encode() + b"ZZZ|\xff\xfe\r\r\r",
        ADT.encode("utf-16-le") + b"\x00\xd8\r\x00Z",
        b"MSH|^~\\&|A|B|C|D|2026||ADT|C1|P|2.3||||||~ISO IR87\rPID|1||\x1b$@;3ED\x1b(B\rZZZ|\x1b$B;3\r",
        b"MSH#*%?@#A#B##########\rPID#1*2@3%4##?F?x\r",
        b"MSH|^|A|B\\^~&|a^b\rPID|x~y\r",
    ],
)
def test_every_message_comes_back_byte_for_byte(data: bytes) -> None:
    assert again(data)["segments"]


@given(
    st.binary(max_size=120), st.sampled_from(["UNICODE UTF-8", "8859/1", "~ISO IR87", "GB 18030-2000", "UNICODE", ""])
)
def test_any_bytes_come_back(rest: bytes, declared: str) -> None:
    head = f"MSH|^~\\&|A|B|C|D|2026||ADT|C1|P|2.3||||||{declared}".encode()
    for data in (head + b"\rPID|" + rest, b"\xff\xfe" + head.decode().encode("utf-16-le") + rest):
        assert again(data)["delimiters"] == "|^~\\&"


MSH = {"name": "MSH", "fields": ["|", "^~\\&", "A"]}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "document"),
        ({"segments": {}}, "segments"),
        ({"segments": [1]}, r"segments\[0\]"),
        ({"segments": [MSH], "charset": "no-such"}, "charset"),
        ({"segments": [MSH], "charset": "utf-16"}, "charset"),
        ({"segments": [MSH], "charset": 1}, "charset"),
        ({"segments": [MSH], "charset": "hex"}, "charset"),
        ({"segments": [MSH], "delimiters": "|^^"}, "delimiters"),
        ({"segments": [MSH], "delimiters": None}, "delimiters"),
        ({"segments": [{**MSH, "fields": ["$", "^~"]}]}, r"segments\[0\]\.fields\[0\]"),
        ({"segments": [{**MSH, "fields": ["|", None]}]}, r"segments\[0\]\.fields\[1\]"),
        ({"segments": [{**MSH, "fields": ["|", "^~|x"]}]}, r"segments\[0\]\.fields\[1\]"),
        ({"segments": [MSH, {"name": "PID", "fields": "1"}]}, r"segments\[1\]\.fields"),
        ({"segments": [MSH, {"name": "P|D", "fields": []}]}, r"segments\[1\]\.name"),
        ({"segments": [MSH, {"name": "PID", "fields": [], "end": "x"}]}, r"segments\[1\]\.end"),
        ({"segments": [MSH, {"name": "PID", "base64": "?"}]}, r"segments\[1\]\.base64"),
        ({"segments": [MSH, {"name": "PID", "base64": 1}]}, r"segments\[1\]\.base64"),
        ({"segments": [MSH, {"name": "PID", "fields": [5]}]}, r"segments\[1\]\.fields\[0\]"),
        ({"segments": [MSH, {"name": "PID", "fields": [[]]}]}, r"segments\[1\]\.fields\[0\]"),
        ({"segments": [MSH, {"name": "PID", "fields": [[[[["deep"]]]]]}]}, r"fields\[0\]\[0\]\[0\]\[0\]"),
        ({"segments": [MSH, {"name": "PID", "fields": [{"raw": "a\rZZZ|x"}]}]}, r"fields\[0\]\.raw"),
        ({"segments": [MSH, {"name": "PID", "fields": [{"raw": "a|b"}]}]}, r"fields\[0\]\.raw"),
        ({"segments": [MSH, {"name": "PID", "fields": ["漢"]}], "charset": "ascii"}, r"segments\[1\]"),
    ],
)
def test_what_is_no_message_is_refused_by_its_place(document: object, where: str) -> None:
    with pytest.raises(hl7v2.JsonFormError, match=f"{where}: expected"):
        hl7v2.from_json(document)


def test_a_text_can_not_leave_its_field() -> None:
    document = {"segments": [MSH, {"name": "PID", "fields": ["a|b^c~d&e\\f\rZZZ|x", None]}]}
    read = hl7v2.from_json(document)
    assert read.segment_names() == ["MSH", "PID"]
    assert read["PID-1"] == "a|b^c~d&e\\f\rZZZ|x"
    assert read.field("PID-2").state is hl7v2.FieldState.NULL


VALUES = st.recursive(
    st.none() | st.text(max_size=5) | st.integers() | st.booleans(),
    lambda deeper: (
        st.lists(deeper, max_size=3) | st.dictionaries(st.sampled_from(["raw", "text", "x"]), deeper, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=4), VALUES, VALUES)
def test_any_document_is_a_message_or_a_named_error(fields: list[object], end: object, charset: object) -> None:
    segment = {"name": "PID", "fields": fields, **({"end": end} if end is not None else {})}
    document = {"segments": [MSH, segment], **({"charset": charset} if charset is not None else {})}
    try:
        names = hl7v2.from_json(document).segment_names()
    except (hl7v2.JsonFormError, hl7v2.ParseError):
        names = ["MSH"]
    assert names[0] == "MSH"
