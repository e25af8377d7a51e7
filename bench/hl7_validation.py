"""`python -m bench hl7-validation`: how fast HL7 messages are validated.

The floor is taking the bytes apart with the plainest code there is (split on CR, then on `|`), in the same run on the
same message; the messages are those of the library's corpus that have 1 to 11 KB. Parsing is part of what is measured.
"Fresh values" writes other names, numbers and times into every message, so that nothing that was kept of the one before
helps. hl7apy is measured beside it where it is installed; it is no dependency of ours.
"""

from __future__ import annotations

import importlib
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hl7v2
from bench.report import figure
from hl7v2.profile import compile_profile

CORPUS = Path(__file__).resolve().parents[1] / "libs" / "hl7v2" / "tests" / "corpus"
BYTES_MIN, BYTES_MAX = 1_000, 11_000
ROUNDS = 9
RATIO_MAX = 20.0
LARGE_MS_MAX = 10.0
IMPORT_MS_MAX = 50.0
_HEADER = b"MSH|^~\\&|T|H|P|P|20250909090909||MDM^T02^MDM_T02|TR|P|2.5\rEVN|T02|20250909090909\r"
_LARGE = (
    _HEADER + b"PID|1||8^^^H^MR||L^I\rPV1|1|I\rTXA|1|DS|FT|||||||||D|||||AU\rOBX|1|ED|PDF^Report^L||^AP^PDF^Base64^"
    + b"JVBERi0x" * 131_072 + b"||||||F\r"
)  # fmt: skip


def messages() -> dict[str, bytes]:
    """The messages of the corpus by name, in wire form."""
    found = {path.stem: path.read_bytes().replace(b"\n", b"\r") for path in sorted(CORPUS.glob("*.hl7"))}
    return {name: data for name, data in found.items() if BYTES_MIN <= len(data) <= BYTES_MAX}


def split(data: bytes) -> None:
    """The floor."""
    for segment in data.split(b"\r"):
        segment.split(b"|")


def validate(data: bytes) -> None:
    """What is measured: bytes in, findings out."""
    hl7v2.validate(hl7v2.parse(data))


def seconds(action: Callable[[bytes], None], variants: Sequence[bytes]) -> float:
    """The best mean of several rounds: everything else that the machine does only adds to it."""
    best = math.inf
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for data in variants:
            action(data)
        best = min(best, (time.perf_counter() - began) / len(variants))
    return best


def fresh(data: bytes, count: int) -> list[bytes]:
    """Copies of a message in which letters and digits of long values are others each time."""
    copies = []
    for number in range(count):
        shift = bytes(65 + (letter + number) % 26 for letter in range(26))
        table = bytes.maketrans(bytes(range(65, 91)), shift)
        copies.append(
            re.sub(rb"(?<=[|^])[A-Z]{5,}(?=[|^\r])", lambda match, table=table: match[0].translate(table), data)  # type: ignore[misc]
            .replace(b"2026", b"%04d" % (1900 + number % 120))
            .replace(b"555", b"%03d" % (number % 1000))
        )
    return copies


def geometric_mean(ratios: Sequence[float]) -> float:
    """As ratios are averaged."""
    return math.exp(statistics.mean(map(math.log, ratios)))


def figures() -> Iterator[dict[str, object]]:
    """All figures of this module."""
    corpus = messages()
    repeated, changing = [], []
    for data in corpus.values():
        validate(data)
        repeated.append(seconds(validate, [data] * 40) / seconds(split, [data] * 200))
        copies = fresh(data, 40)
        changing.append(seconds(validate, copies) / seconds(split, copies * 5))
    how = f"parse and validate against splitting on CR and |, geometric mean of {len(corpus)} messages of 1–11 KB"
    yield figure("HL7 validation", geometric_mean(repeated), "ratio", how, goal=RATIO_MAX)
    yield figure("HL7 validation, fresh values", geometric_mean(changing), "ratio", how, goal=RATIO_MAX)
    worst = max(zip(repeated, corpus, strict=True))
    yield figure("HL7 validation, slowest message", worst[0], "ratio", f"{worst[1]}: findings are written, too")
    assert hl7v2.validate(hl7v2.parse(_LARGE)) == []
    how = "parse and validate an MDM^T02 with one OBX-5 of 1 MB"
    yield figure("HL7 validation, 1 MB", seconds(validate, [_LARGE] * 3) * 1e3, "ms", how, goal=LARGE_MS_MAX)
    yield figure("HL7 import", import_ms(), "ms", "import hl7v2 in a new process, best of 5", goal=IMPORT_MS_MAX)
    yield figure("HL7 validation, first message", first_ms(corpus), "ms", "a new profile: its patterns are compiled")
    yield from peer(corpus)


def import_ms() -> float:
    """How long `import hl7v2` takes."""
    code = "import time; t = time.perf_counter(); import hl7v2; print((time.perf_counter() - t) * 1000)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def first_ms(corpus: dict[str, bytes]) -> float:
    """What the first message of a version costs, when everything has to be compiled."""
    message = hl7v2.parse(next(iter(corpus.values())))
    re.purge()
    began = time.perf_counter()
    hl7v2.validate(message, compile_profile({}))
    return (time.perf_counter() - began) * 1e3


def peer(corpus: dict[str, bytes]) -> Iterator[dict[str, object]]:
    """hl7apy's parsing and validation of the messages that it takes at all."""
    try:
        parser = importlib.import_module("hl7apy.parser")
        refusal = importlib.import_module("hl7apy.exceptions").HL7apyException
    except ImportError:
        return
    ratios, refused, refuses = [], 0, False
    for data in corpus.values():
        text = data.decode("utf-8", "replace")
        best = math.inf
        for _ in range(3):
            began = time.perf_counter()
            try:
                parser.parse_message(text, find_groups=True).validate()
                refuses = False
            except (refusal, AttributeError, KeyError, ValueError):
                refuses = True
            best = min(best, time.perf_counter() - began)
        refused += refuses
        ratios.append(best / seconds(split, [data] * 200))
    how = f"parse_message and validate; it refuses {refused} of {len(corpus)} messages, whose time counts until then"
    yield figure("HL7 validation by hl7apy", geometric_mean(ratios), "ratio", how)
