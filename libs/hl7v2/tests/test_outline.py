"""Messages for a person at a terminal."""

from __future__ import annotations

import hl7v2
from hl7v2.outline import outline, title

MESSAGE = (
    "MSH|^~\\&|EPIC|DEMO^1.2&x|||2026||ADT^A08|C1|P|2.5.1||||||UNICODE UTF-8\r"
    'PID|1||123^^^EPIC&1.2.3&ISO^MR~9||Núñez\\T\\Søn^Alma&B^""|""||a&b||\x1b[2J\r'
    "ZPI\r"
)


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in outline(hl7v2.parse(text.encode()))]


def test_every_value_has_its_path() -> None:
    shown = lines(MESSAGE)
    assert shown[:5] == ["MSH", "MSH-1 |", "MSH-2 ^~\\&", "MSH-3 EPIC", "MSH-4.1 DEMO"]
    assert shown[5:7] == ["MSH-4.2.1 1.2", "MSH-4.2.2 x"]
    assert shown[shown.index("PID") :] == [
        "PID", "PID-1 1", "PID-3[1].1 123", "PID-3[1].4.1 EPIC", "PID-3[1].4.2 1.2.3", "PID-3[1].4.3 ISO",
        "PID-3[1].5 MR", "PID-3[2] 9", "PID-5.1 Núñez&Søn", "PID-5.2.1 Alma", "PID-5.2.2 B", 'PID-5.3 "" (delete)',
        'PID-6 "" (delete)', "PID-8.1.1 a", "PID-8.1.2 b", "PID-10 \\x1b[2J", "ZPI",
    ]  # fmt: skip


def test_the_shown_paths_lead_to_the_shown_values() -> None:
    message = hl7v2.parse(MESSAGE.replace("\x1b", "").encode())
    for line in outline(message):
        path, _, value = line.strip().partition(" ")
        if value.strip() and "delete" not in value:
            assert message[path] == value.strip()


def test_a_long_value_is_cut_and_said_so() -> None:
    assert lines(f"MSH|^~\\&|A\rOBX|1||||{'x' * 501}\r")[-1].endswith("x … (501 characters)")
    assert lines("MSH|^~|A^B\rPID|a&b\r")[-1] == "PID-1 a&b"


def test_the_title_says_what_it_is() -> None:
    assert title(hl7v2.parse(b"MSH|^~\\&|A")) == (
        "no message type, control id missing, version missing, ascii, tolerated: missing-final-cr"
    )
