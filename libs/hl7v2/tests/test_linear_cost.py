"""A hostile message costs no more than its length: eight times as much of anything takes some eight times as long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import count
from time import thread_time

import pytest

import hl7v2
from hl7v2.deidentification import Pseudonyms
from hl7v2.message_file import read_message_file
from hl7v2.outline import outline

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HEAD = b"MSH|^~\\&|A|B|C|D|2026||ORU^R01^ORU_R01|C1|P|2.5.1\rPID|1||1||A^B\rOBR|1|||A\r"


def read(data: bytes) -> None:
    message = hl7v2.parse(data)
    message["PID-3[2].4"]
    for segment in message:
        segment.values()
    assert bytes(message) == data


def validate(data: bytes) -> None:
    message = hl7v2.parse(data)
    hl7v2.acknowledge(message, "AE", hl7v2.validate(message))


def show(data: bytes) -> None:
    for _ in outline(hl7v2.parse(data)):
        pass


def to_json_and_back(data: bytes) -> None:
    assert bytes(hl7v2.from_json(hl7v2.parse(data).as_json())) == data


def deidentify(data: bytes) -> None:
    numbers = count()
    hl7v2.deidentify(hl7v2.parse(data), Pseudonyms(lambda: f"N{next(numbers)}"), today=date(2026, 3, 1))


def split(data: bytes) -> None:
    read_message_file(data)


CASES: dict[str, tuple[Callable[[bytes], None], Callable[[int], bytes]]] = {
    "set ids that never fit": (validate, lambda n: HEAD + b"OBX|7|ST|A||x||||||F\r" * n),
    "findings in every segment": (validate, lambda n: HEAD + b"OBX|1|NM|A||x|\r" * n),
    "groups": (validate, lambda n: HEAD + b"OBR|1|||A\rOBX|1|ST|A||x||||||F\r" * n),
    "names of the sender's": (validate, lambda n: HEAD + b"".join(b"%d|1\r" % number for number in range(n))),
    "repetitions to check": (validate, lambda n: HEAD + b"NTE|1||" + b"x~" * n + b"\r"),
    "repetitions of MSH-18": (validate, lambda n: HEAD[:-30] + b"|" * 6 + b"ASCII~" * n + b"\r" + HEAD),
    "segments": (read, lambda n: HEAD + b"OBX|1|ST|A||x\r" * n),
    "line feeds": (read, lambda n: HEAD + b"OBX|1|ST|A||x\n\n" * n),
    "hexadecimal escapes": (read, lambda n: HEAD + b"NTE|1||" + b"\\X41\\" * n + b"\r"),
    "escapes that do not end": (read, lambda n: HEAD + b"NTE|1||" + b"\\X41\\\\" * n + b"\r"),
    "repetitions to show": (show, lambda n: HEAD + b"NTE|1||" + b"x~" * n + b"\r"),
    "subcomponents to show": (show, lambda n: HEAD + b"NTE|1||a^" + b"x&" * n + b"\r"),
    "values in JSON": (to_json_and_back, lambda n: HEAD + b"NTE|1||" + b"x~a^b&c~" * n + b"\r"),
    "files in a file": (split, lambda n: b"FHS|^~\\&\rBHS|^~\\&\rBTS|0\rFTS|1\r" * n),
    "frames in a file": (split, lambda n: b"\x0bMSH|^~\\&|A\r\x1c\r" * n),
    "what is left": (deidentify, lambda n: HEAD + b"OBX|1|ST|A||x\r" * n),
}


@pytest.mark.parametrize("name", CASES)
def test_eight_times_as_much_takes_no_more_than_its_share(name: str) -> None:
    action, made = CASES[name]

    def cost(size: int) -> float:
        data, took = made(size), []
        for _ in range(3):
            began = thread_time()
            action(data)
            took.append(thread_time() - began)  # not the clock: others may be busy
        return min(took)

    # Linear is 8, quadratic was 50 and more.
    assert cost(16_000) < 28 * cost(2_000) + 0.01
