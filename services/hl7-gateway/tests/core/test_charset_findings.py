"""What the bytes say against MSH-18."""

import pytest

import hl7v2
from hl7_gateway.core.charset_findings import charset_findings


@pytest.mark.parametrize(
    ("charset", "name", "kinds"),
    [
        ("UNICODE UTF-8", b"Ren\xe9e", ["not-decodable"]),
        ("UNICODE UTF-8", "Renée".encode(), []),
        ("8859/1", "Renée".encode(), ["utf-8-sequences"]),
        ("8859/1", b"Ren\xe9e", []),
        ("UNICODE UTF-8", "RenÃ©e".encode(), ["encoded-twice"]),
        ("UNICODE UTF-8", b"Renee", []),
    ],
)
def test_each_kind_of_evidence_is_a_warning_without_the_characters(charset: str, name: bytes, kinds: list[str]) -> None:
    header = f"MSH|^~\\&|A|B|C|D|20260301||ADT^A08^ADT_A01|1|P|2.5.1||||||{charset}\rPID|1||7||".encode()
    found = charset_findings(hl7v2.parse(header + name + b"\r"))
    assert [one.found.split(":")[0] for one in found] == kinds
    assert all((one.path, one.severity) == ("MSH-18", "warning") for one in found)
    assert not any("Ren" in one.found for one in found)
