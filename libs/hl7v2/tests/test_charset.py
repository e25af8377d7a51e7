"""Character sets: what MSH-18 says, what the bytes say, and what is written back."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2

DECLARED = [
    "", "ASCII", "8859/1", "UNICODE UTF-8", "UNICODE", "UTF-32", "GB 18030-2000", "BIG-5", "KS X 1001", "SHIFT_JIS",
    "~ISO IR87", "ISO IR87", "EUC-JP", "EBCDIC",
]  # fmt: skip


def sent(declared: str, name: str, codec: str = "utf-8") -> bytes:
    text = f"MSH|^~\\&|A|B|C|D|2026||ADT^A08^ADT_A01|C1|P|2.5.1||||||{declared}\rPID|1||9||{name}^Alma\rZPI|own\r"
    return text.encode(codec)


@pytest.mark.parametrize(
    ("declared", "written", "name", "read_as", "note"),
    [
        ("UNICODE", "utf-8", "Nunez", "ascii", "charset-contradicted"),
        ("UNICODE", "utf-8", "Nunez2", "ascii", "charset-contradicted"),
        ("UNICODE", "utf-8", "Núñez", "utf-8", "charset-contradicted"),
        ("UNICODE", "cp1252", "Núñez", "cp1252", "charset-contradicted"),
        ("8859/1", "cp1252", "O’Brien", "cp1252", "charset-contradicted"),
        ("KS X 1001", "utf-8", "山田é", "utf-8", "charset-contradicted"),
        ("GB 18030-2000", "utf-8", "王小明", "utf-8", "charset-contradicted"),
        ("", "utf-16-le", "Núñez", "utf-16-le", "charset-undeclared"),
        ("8859/1", "utf-16-be", "Núñez", "utf-16-be", "charset-contradicted"),
        ("~ISO IR87", "iso2022_jp", "山田", "iso2022_jp_ext", None),
        ("ASCII~ISO IR87~ISO IR159", "iso2022_jp", "山田", "iso2022_jp_ext", None),
        ("SHIFT_JIS", "cp932", "髙橋", "cp932", None),
        ("BIG-5", "big5", "王小明", "cp950", None),
        ("ISO IR100", "latin-1", "Núñez", "iso8859-1", None),
    ],
)
def test_what_is_declared_is_held_against_the_bytes(
    declared: str, written: str, name: str, read_as: str, note: str | None
) -> None:
    data = sent(declared, name, written)
    read = hl7v2.parse(data)
    assert (read["PID-5.1"], read["PID-5.2"], read["ZPI-1"]) == (name, "Alma", "own")
    assert (read.codec, read.tolerated) == (read_as, [note] if note else [])
    assert read.type == ("ADT", "A08", "ADT_A01")
    assert bytes(read) == data


@pytest.mark.parametrize(
    ("mark", "declared", "codec"),
    [
        (codecs.BOM_UTF8, "UNICODE UTF-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "UNICODE", "utf-16-le"),
        (codecs.BOM_UTF16_BE, "UNICODE", "utf-16-be"),
    ],
)
def test_an_edit_keeps_the_byte_order_mark_and_the_byte_order(mark: bytes, declared: str, codec: str) -> None:
    written = hl7v2.parse(mark + sent(declared, "Núñez", codec))
    assert written.tolerated == ["byte-order-mark"]
    written.set("PID-5.1", "Søn")
    assert bytes(written) == mark + sent(declared, "Søn", codec)


def test_an_edit_keeps_other_segments_in_their_own_spelling() -> None:
    # ESC $ @ and ESC $ B both switch to the same characters; whoever wrote one of them gets it back.
    data = sent("~ISO IR87", "X", "ascii").replace(b"X^", b"\x1b$@;3ED\x1b(B^")
    written = hl7v2.parse(data)
    assert written["PID-5.1"] == "山田"
    written.set("ZPI-1", "new")
    assert bytes(written) == data.replace(b"own", b"new")


def test_escaped_bytes_are_in_the_messages_own_charset() -> None:
    assert hl7v2.parse(sent("8859/1", r"N\XFA\n"))["PID-5.1"] == "Nún"
    assert hl7v2.parse(sent("UNICODE UTF-8", r"N\XC3BA\n"))["PID-5.1"] == "Nún"


def test_an_escape_that_does_not_end_is_kept_and_said_once_it_is_read() -> None:
    read = hl7v2.parse(sent("", r"N\Fez"))
    assert read.tolerated == []
    assert (read["PID-5.1"], read["PID-5.1"], read.tolerated) == (r"N\Fez", r"N\Fez", ["escape-unterminated"])


def test_a_senseless_declaration_is_unknown() -> None:
    assert hl7v2.parse(sent("X" * 100_000, "Nunez")).tolerated == ["charset-unknown"]


@given(st.sampled_from(DECLARED), st.binary(max_size=60))
def test_any_bytes_under_any_declaration_are_kept_and_can_be_edited(declared: str, name: bytes) -> None:
    data = sent(declared, "@@").replace(b"@@", name)
    written = hl7v2.parse(data)
    assert bytes(written) == data
    assert written["ZPI-1"] == "own"
    written.set("ZPI-1", "new")
    assert bytes(written) == data.removesuffix(b"own\r") + b"new\r"
    assert hl7v2.parse(bytes(written))["ZPI-1"] == "new"


@given(st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]), st.binary(max_size=60))
def test_any_bytes_behind_a_byte_order_mark_give_a_message(codec: str, rest: bytes) -> None:
    marks = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    data = marks[codec] + "MSH|^~\\&|A|B".encode(codec) + rest
    read = hl7v2.parse(data)
    assert bytes(read) == data
    assert isinstance(read["MSH-5"], str)
