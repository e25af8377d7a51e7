"""Character sets: what MSH-18 says, what the bytes say, and what is written back."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7v2.charset import codec_of, encode

assert codec_of("CNS 11643") == "euc_tw"  # makes the codec known, which the tests write with
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


@pytest.mark.parametrize(
    ("spelling", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"), ("utf8", "utf-8"), ("Unicode (UTF-8)", "utf-8"), ("UTF-8 UNICODE", "utf-8"),
        ("ISO IR 192", "utf-8"), ("AL32UTF8", "utf-8"), ("8859/1", "iso8859-1"), ("iso-8859-1", "iso8859-1"),
        ("ISO_8859-1", "iso8859-1"), ("88591", "iso8859-1"), ("8859-15", "iso8859-15"), ("Latin-1", "iso8859-1"),
        ("ISO_IR 100", "iso8859-1"), ("WE8ISO8859P1", "iso8859-1"), ("windows-1252", "cp1252"), ("Cp1252", "cp1252"),
        ("US-ASCII", "ascii"), ("ISO IR6", "ascii"), ("GB18030", "gb18030"), ("GB2312", "gb18030"), ("BIG-5", "cp950"),
        ("KS X 1001", "euc_kr"), ("KSC5601", "euc_kr"), ("ISO IR87", "iso2022_jp_ext"), ("ISO 2022 IR 87",
        "iso2022_jp_ext"), ("JIS X 0202", "iso2022_jp_ext"), ("Shift-JIS", "cp932"), ("UNICODE UTF-32", "utf-32"),
        ("CNS 11643-1992", "euc_tw"), ("EBCDIC", None),
    ],
)  # fmt: skip
def test_spellings(spelling: str, codec: str | None) -> None:
    assert codec_of(spelling) == codec


@pytest.mark.parametrize("part", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15])
def test_every_part_of_8859(part: int) -> None:
    name = {5: "Иванов", 6: "محمد", 7: "Παπαδόπουλος", 8: "כהן"}.get(part, "Jäger")
    data = sent(f"8859/{part}", name, f"iso8859-{part}")
    read = hl7v2.parse(data)
    assert (read["PID-5.1"], read.codec, read.tolerated) == (name, f"iso8859-{part}", [])
    read.set("PID-5.1", "Á" if part < 5 else "A")
    assert hl7v2.parse(bytes(read))["PID-5.2"] == "Alma"


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("UNICODE UTF-32", "utf-32-le", "Núñez 山田"),
        ("UNICODE UTF-32", "utf-32-be", "Núñez 山田"),
        ("ISO IR14", "cp932", "ﾔﾏﾀﾞ"),
        ("ISO IR14~ISO IR87~ISO IR159", "iso2022_jp_ext", "山田丂"),
        ("GB 18030-2000", "gb18030", "王小明𠀀"),
        ("KS X 1001", "euc_kr", "김철수"),
        ("KS X 1001", "cp949", "똠"),
        ("~GB 18030-2000", "gb18030", "王小明"),
        ("CNS 11643-1992", "euc_tw", "王小明龘"),
        ("8859/1~8859/2", "iso8859-1", "Núñez"),
        ("ASCII~8859/2", "iso8859-2", "Nováček"),
    ],
)
def test_character_sets_of_the_world(declared: str, codec: str, name: str) -> None:
    data = sent(declared, name, codec)
    read = hl7v2.parse(data)
    assert (read["PID-5.1"], read["PID-5.2"], read["ZPI-1"], read.codec) == (name, "Alma", "own", codec)
    assert read.tolerated == (["charset-contradicted"] if codec == "cp949" else [])
    assert bytes(read) == data
    read.set("ZPI-1", "new")
    again = hl7v2.parse(bytes(read))
    assert (again["PID-5.1"], again["ZPI-1"]) == (name, "new")


@pytest.mark.parametrize(("declared", "codec"), [("~ISO IR87", "iso2022_jp"), ("GB 18030-2000", "gb18030")])
def test_the_first_character_beyond_ascii_may_be_written(declared: str, codec: str) -> None:
    written = hl7v2.parse(sent(declared, "X"))
    written.set("PID-5.1", "山田")
    assert (written["PID-5.1"], bytes(written)) == ("山田", sent(declared, "山田", codec))


def test_a_byte_order_mark_of_utf_32() -> None:
    data = codecs.BOM_UTF32_LE + sent("", "Núñez", "utf-32-le")
    read = hl7v2.parse(data)
    assert (read["PID-5.1"], read.codec, read.tolerated) == (
        "Núñez",
        "utf-32-le",
        ["byte-order-mark", "charset-undeclared"],
    )


def test_windows_letters_under_the_name_of_8859_2() -> None:
    read = hl7v2.parse(sent("8859/2", "Š\x9cpiegel", "iso8859-2").replace(b"\x9cp", b"\x9ap"))
    assert (read.codec, read.tolerated) == ("cp1250", ["charset-contradicted"])


def test_an_edit_keeps_the_broken_bytes_of_other_segments() -> None:
    data = b"\xff\xfe" + sent("UNICODE", "X", "utf-16-le").replace(b"X\x00^\x00", b"\x00\xd8^\x00") + b"\x00"
    written = hl7v2.parse(data)
    written.set("ZPI-1", "new")
    assert bytes(written) == data.replace("own".encode("utf-16-le"), "new".encode("utf-16-le"))


def test_a_field_that_is_utf_8_as_declared_is_read_so_whatever_else_is_broken() -> None:
    data = sent("UNICODE UTF-8", "Núñez").replace(b"own", b"\xff")
    read, other = hl7v2.parse(data), hl7v2.parse(data)
    assert (read["PID-5.1"], read["ZPI-1"], read.tolerated) == ("Núñez", "ÿ", ["charset-contradicted"])
    assert (other.codec, other["PID-5.1"], other.segments("PID")[0].values()[4]) == ("cp1252", "Núñez", "Núñez^Alma")


@pytest.mark.parametrize(
    ("data", "evidence", "is_broken"),
    [
        (sent("UNICODE UTF-8", "Núñez"), [], False),
        (sent("", "plain"), [], False),
        (sent("8859/1", "Núñez"), [("utf-8-sequences", 2, 1)], False),
        (sent("ASCII", "Núñez"), [("not-decodable", 4, 1), ("utf-8-sequences", 2, 1)], False),
        (sent("8859/1", "O’Brien", "cp1252"), [("windows-characters", 1, 1)], False),
        (sent("UNICODE UTF-8", "NÃºÃ±ez"), [("encoded-twice", 1, 1)], True),
        (sent("UNICODE UTF-8", "O’Brien".encode().decode("cp1252")), [("encoded-twice", 1, 1)], True),
        (sent("UNICODE UTF-8", "N\ufffdez"), [("replacement-character", 1, 1)], True),
        (sent("UNICODE UTF-8", "Â° Ã"), [("encoded-twice", 1, 0)], True),
        (sent("UNICODE", "Núñez", "utf-16-le"), [], False),
    ],
)
def test_the_report_names_evidence_and_changes_nothing(
    data: bytes, evidence: list[tuple[str, int, int]], is_broken: bool
) -> None:
    read = hl7v2.parse(data)
    name = read["PID-5.1"]
    report = read.charset_report()
    start = data.find(b"|9||") + 4
    found = [(one.kind, one.times, one.offset - start) for one in report.evidence]
    assert (found, report.is_broken) == (evidence, is_broken)
    assert (report.codec, report.note) == (read.codec, next(iter(read.tolerated), None))
    assert (bytes(read), read["PID-5.1"]) == (data, name)


@given(st.sampled_from(DECLARED), st.binary(max_size=60))
def test_any_bytes_have_a_report(declared: str, name: bytes) -> None:
    data = sent(declared, "@@").replace(b"@@", name)
    report = hl7v2.parse(data).charset_report()
    assert all(one.times > 0 and 0 <= one.offset <= 2 * len(data) for one in report.evidence)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xa1\xa1\xc4\xa1\xfd\xcb", "\u3000一籲"),
        (b"\x8e\xa2\xa1\xa1\x8e\xa2\xf2\xc4", "乂龘"),
        (b"\x8e\xa1\xc4\xa1|A", "一|A"),
    ],
)
def test_characters_of_cns_11643(raw: bytes, text: str) -> None:
    assert codec_of("CNS 11643") == "euc_tw"
    assert raw.decode("euc_tw") == text
    assert text.encode("euc_tw").decode("euc_tw") == text


@given(st.binary(max_size=40), st.text(max_size=20))
def test_what_cns_11643_lacks_is_an_error_or_replaced(raw: bytes, text: str) -> None:
    codec_of("CNS 11643")
    read = raw.decode("euc_tw", "replace")
    assert raw.isascii() is (read == raw.decode("ascii", "replace") and "\ufffd" not in read)
    assert text.encode("euc_tw", "replace").decode("euc_tw")[:1] in {text[:1], "?"}
    with pytest.raises(UnicodeError):
        b"\x8e\xa3\xa1\xa1".decode("euc_tw")
    with pytest.raises(ValueError, match="cannot be written"):
        encode("é", "euc_tw")


def test_two_bytes_of_an_east_asian_set_are_not_taken_for_utf_8() -> None:
    data = "MSH|^~\\&|A|B|C|D|2026||ADT|C1|P|2.5||||||GB 18030-2000\rPID|1||9||模\r".encode("gb18030")
    assert data.decode("utf-8")
    read = hl7v2.parse(data)
    assert (read["PID-5"], read.tolerated) == ("模", [])
