"""`python -m bench.hl7_parsing`: how fast HL7 messages are read; one JSON line a figure, as `python -m bench` prints.

The floor is taking the bytes apart with the plainest code there is (split on CR, then on `|`), in the same run on the
same message, in turns, so that whatever else the machine does slows both. Messages are synthetic: those composed below,
and those of the library's corpus, of 1 to 11 KB each. python-hl7 is measured beside it where it is installed; it is no
dependency of ours.
"""

from __future__ import annotations

import importlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hl7v2
from bench.report import figure
from hl7v2 import mllp

CORPUS = Path(__file__).resolve().parents[1] / "libs" / "hl7v2" / "tests" / "corpus"
BYTES_MIN, BYTES_MAX = 1_000, 11_264
ROUNDS = 60
REPEATS = 100
READ_MAX, EVERY_FIELD_MAX, PEER_MIN = 0.25, 12.0, 500.0
LARGE_MS_MAX, IMPORT_MS_MAX = 1.0, 50.0
FRAME_BYTES = 100_000_000
FRAME_MEGABYTES_MAX = 3 * FRAME_BYTES / 1e6 + 200
Action = Callable[[bytes], object]


# ---- Messages


def _line(name: str, **fields: str) -> str:
    """A segment from its fields: `f3="x"` is field 3."""
    numbers = {int(key[1:]): value for key, value in fields.items()}
    return "|".join([name, *(numbers.get(number, "") for number in range(1, max(numbers) + 1))])


def _header(kind: str, charset: str = "") -> str:
    return (
        f"MSH|^~\\&|EPIC^1.2.840.114350^ISO|NORTH CLINIC|PRACTICE STUDIO|NORTH CLINIC|20260301093000-0600||{kind}"
        f"|EPIC-000{len(kind)}4711|P|2.5.1|||AL|NE|USA|{charset}".rstrip("|")
    )


_HOME = "100 MAIN ST^APT 7^SPRINGFIELD^IL^62701^USA"
_DOCTOR = "1234567893^HOUSE^GREGORY^^^DR^^^NPI"


def _patient(name: str = "RIVERA^ALMA^QUINN^^^^L") -> list[str]:
    identifiers = "MRN0012345^^^EPIC&1.2.840.114350&ISO^MR~999-00-1234^^^USSSA^SS~E77001^^^EPIC^PI"
    person = _line(
        "PID", f1="1", f3=identifiers, f5=name, f6="GARCIA^MARTA", f7="19800214", f8="F", f10="2106-3^White^CDCREC",
        f11=f"{_HOME}^H~PO BOX 9^^SPRINGFIELD^IL^62701^USA^M", f14="^WPN^PH^^1^217^5550101", f15="eng^English",
        f13="^PRN^PH^^1^217^5550100~^NET^Internet^alma.rivera@example.test", f16="M", f17="CAT",
        f18="ACC-778899^^^EPIC^AN", f22="2135-2^Hispanic or Latino^CDCREC", f24="N", f30="N",
    )  # fmt: skip
    visit = _line(
        "PV1", f1="1", f2="I", f3="4WEST^412^B^NORTH^^^^4", f4="E", f7=_DOCTOR, f8="1987654320^CUDDY^LISA^^^DR^^^NPI",
        f10="MED", f14="7", f18="IP", f19="V-20260301-17^^^EPIC^VN", f36="01", f39="NORTH", f44="20260301083000-0600",
    )  # fmt: skip
    return ["EVN|A01|20260301093000-0600||REG_UPDATE|CLERK7^CLARK^CARL", person, visit]


def _kin(count: int) -> list[str]:
    return [
        f"NK1|{number}|RIVERA^PAT{number}|SPO^Spouse^HL70063|{_HOME}|^PRN^PH^^1^217^555010{number}"
        "||EC^Emergency Contact^HL70131|20200101"
        for number in range(1, count + 1)
    ]


def _insurance(count: int) -> list[str]:
    return [
        f"IN1|{number}|PPO{number}^Preferred Plan^LOCAL|AET00{number}|AETNA|PO BOX 981106^^EL PASO^TX^79998"
        "|^^^^^800^5551234|GRP-5512|ACME INC|||20250101|20261231|||RIVERA^ALMA|SEL^Self^HL70063|19800214"
        f"|{_HOME}|Y|||1||||||||||||||W1122334455|||||||F"
        for number in range(1, count + 1)
    ]


def _results(count: int) -> list[str]:
    order = (
        "OBR|1|ORD-1^EPIC|FIL-1^LAB|24323-8^Comprehensive metabolic panel^LN|||202602281200-0600|||||||||"
        f"{_DOCTOR}||||||202603010800-0600||LAB|F"
    )
    results = [
        f"OBX|{number}|NM|{2300 + number}-{number % 10}^Analyte {number} [Mass/volume] in Serum^LN||{number * 1.5:.1f}"
        f"|mg/dL^milligrams per deciliter^UCUM|10.0-99.0|{'H' if number % 4 else 'N'}|||F|||202602281200-0600"
        "||TECH7^TECH^TOM"
        for number in range(1, count + 1)
    ]
    return ["ORC|RE|ORD-1^EPIC|FIL-1^LAB||CM", order, *results]


def composed() -> dict[str, bytes]:
    """Messages as practices get them, by name."""
    times = "20260310140000-0600^20260310143000-0600"
    appointment = (
        f"SCH|AP-771^EPIC|AP-771^EPIC||||ROUTINE^Routine visit|FOLLOWUP^Follow-up|OFFICE|30|MIN|^^30^{times}||||||||||"
        f"{_DOCTOR}||||Booked"
    )
    resources = [
        "RGS|1|A",
        "AIS|1|A|OV30^Office visit 30^LOCAL|20260310140000-0600|||30|MIN",
        "AIL|1|A|NORTH^EXAM3^^NORTH",
        f"AIP|1|A|{_DOCTOR}|ATT|||20260310140000-0600",
    ]
    history = [
        f"ORC|RE||IZ-1\rRXA|0|1|2024{number:02}15||{number + 100}^Vaccine {number}^CVX|0.5|mL^^UCUM"
        f"||01^Historical^NIP001||||||LOT{number}|20271231|MSD^Merck^MVX|||CP|A"
        for number in range(1, 13)
    ]
    charges = [
        f"FT1|{number}|T-{number}|B-7|20260301|20260301|CG|9921{number}^Office visit^C4|||1|150.00||||MED|||O"
        f"|J06.9^URI^I10|{_DOCTOR}"
        for number in range(1, 5)
    ]
    note = " ".join(["The patient is well, sleeps well, and was told to come again in two weeks."] * 45)
    pages = [
        f"OBX|{number}|TX|11506-3^Progress note^LN||{line}||||||F" for number, line in enumerate(note.split(". "), 1)
    ]
    document = ["TXA|1|CN|TX|20260301|||||||D-1||||||AU", f"OBX|1|FT|11506-3^Progress note^LN||{note}||||||F"]
    accented = "NÚÑEZ^ÁLMA^^^^^L"
    messages = {
        "ADT A01": [_header("ADT^A01^ADT_A01"), *_patient(), *_kin(2), "AL1|1|DA|70618^Penicillin^RXNORM|SV|Rash"],
        "ADT A08": [_header("ADT^A08^ADT_A01"), *_patient(), *_kin(3), *_insurance(3), "DG1|1||I10^Hypertension^I10"],
        "ADT A08 UTF-8": [_header("ADT^A08", "UNICODE UTF-8"), *_patient(accented), *_kin(1), *_insurance(1)],
        "SIU S12": [_header("SIU^S12^SIU_S12"), appointment, *_patient()[1:], *resources],
        "DFT P03": [_header("DFT^P03^DFT_P03"), *_patient(), *charges],
        "VXU V04": [_header("VXU^V04^VXU_V04"), *_patient()[1:], *history],
        "ORU R01": [_header("ORU^R01^ORU_R01"), *_patient()[1:], *_results(20)],
        "ORU R01 panels": [_header("ORU^R01^ORU_R01"), *_patient()[1:], *_results(56)],
        "ORU R01 note": [_header("ORU^R01^ORU_R01"), *_patient()[1:], *_results(0), *pages],
        "MDM T02": [_header("MDM^T02^MDM_T02"), *_patient(), *document],
    }
    found = {name: "".join(f"{line}\r" for line in lines).encode() for name, lines in messages.items()}
    latin = [_header("ORU^R01^ORU_R01", "8859/1"), *_patient(accented)[1:], *_results(8)]
    return {**found, "ORU R01 8859/1": "".join(f"{line}\r" for line in latin).encode("latin-1")}


def corpus() -> dict[str, bytes]:
    """The messages of the library's corpus in wire form, where it is there."""
    found = {path.stem: path.read_bytes().replace(b"\n", b"\r") for path in sorted(CORPUS.glob("*.hl7"))}
    return {name: data for name, data in found.items() if BYTES_MIN <= len(data) <= BYTES_MAX}


# ---- What is measured


def split(data: bytes) -> None:
    """The floor."""
    for segment in data.split(b"\r"):
        segment.split(b"|")


def read(data: bytes) -> None:
    """Parse, and read what decides where a message goes."""
    message = hl7v2.parse(data)
    message["MSH-9"]
    message["MSH-10"]
    message["PID-5"]


def every_field(data: bytes) -> None:
    """Parse, and read every field once, segment by segment."""
    for segment in hl7v2.parse(data):
        segment.values()


def every_path(paths: Sequence[str]) -> Action:
    """Parse, and read every field once, each by its path."""

    def action(data: bytes) -> None:
        message = hl7v2.parse(data)
        for path in paths:
            message[path]

    return action


def paths_of(data: bytes) -> list[str]:
    """The paths of all fields of a message."""
    return [
        f"{segment.key}-{number}" for segment in hl7v2.parse(data) for number in range(1, len(segment.values()) + 1)
    ]


def seconds(actions: Sequence[Action], data: bytes, *, rounds: int = ROUNDS, repeats: int = REPEATS) -> list[float]:
    """The best mean of each action, taken in turns: everything else that the machine does only adds to it."""
    best = [math.inf] * len(actions)
    for _ in range(rounds):
        for number, action in enumerate(actions):
            began = time.perf_counter()
            for _ in range(repeats):
                action(data)
            best[number] = min(best[number], (time.perf_counter() - began) / repeats)
    return best


def geometric_mean(ratios: Sequence[float]) -> float:
    """As ratios are averaged."""
    return math.exp(statistics.mean(map(math.log, ratios)))


def ratios(messages: dict[str, bytes], label: str) -> Iterator[dict[str, object]]:
    """Ours against the floor, over messages."""
    found: dict[str, list[float]] = {"read": [], "fields": [], "paths": []}
    for data in messages.values():
        assert BYTES_MIN <= len(data) <= BYTES_MAX, len(data)
        floor, ours = seconds([split, read], data)
        found["read"].append(ours / floor)
        _, fields, paths = seconds([split, every_field, every_path(paths_of(data))], data, rounds=15, repeats=20)
        found["fields"].append(fields / floor)
        found["paths"].append(paths / floor)
    over = f"against splitting on CR and |, geometric mean of {len(messages)} {label} messages of 1–11 KB"
    how = f"parse, read MSH-9, MSH-10, PID-5 {over}"
    yield figure(f"HL7 parsing, {label}", geometric_mean(found["read"]), "ratio", how, goal=READ_MAX)
    worst = max(zip(found["read"], messages, strict=True))
    yield figure(
        f"HL7 parsing, slowest {label} message", worst[0], "ratio", f"{worst[1]}, {len(messages[worst[1]])} bytes"
    )
    how = f"parse, read every field once by Segment.values() {over}"
    yield figure(f"HL7 every field, {label}", geometric_mean(found["fields"]), "ratio", how, goal=EVERY_FIELD_MAX)
    how = f"parse, read every field once by its path {over}"
    yield figure(f"HL7 every path, {label}", geometric_mean(found["paths"]), "ratio", how)


def peer(messages: dict[str, bytes]) -> Iterator[dict[str, object]]:
    """python-hl7 on the same messages."""
    try:
        hl7 = importlib.import_module("hl7")
    except ImportError:
        return

    def theirs(data: bytes) -> None:
        message = hl7.parse(data)
        str(message.segment("MSH")[9])
        str(message.segment("MSH")[10])
        str(message.segment("PID")[5])

    found = []
    utf_8 = [data for data in messages.values() if b"8859/1" not in data]  # it reads no other character set
    for data in utf_8:
        ours, other = seconds([read, theirs], data, rounds=5, repeats=3)
        (ours,) = seconds([read], data, rounds=20)
        found.append(other / ours)
    how = (
        f"time of python-hl7 {hl7.__version__} / ours, parse and read the same, geometric mean of {len(utf_8)} messages"
    )
    yield figure("HL7 parsing against python-hl7", geometric_mean(found), "ratio", how, at_least=PEER_MIN)


def large() -> Iterator[dict[str, object]]:
    """One message of 1 MB, and a frame of 100 MB."""
    head = _header("MDM^T02^MDM_T02") + "\rPID|1||8^^^H^MR||RIVERA^ALMA\rPV1|1|I\rTXA|1|DS|FT|||||||||D|||||AU\r"
    body = head.encode() + b"OBX|1|ED|PDF^Report^L||^AP^PDF^Base64^" + b"JVBERi0x" * 131_072 + b"||||||F\r"
    parsed, whole = seconds([hl7v2.parse, read], body, rounds=20, repeats=10)
    yield figure("HL7 parsing, 1 MB", parsed * 1e3, "ms", "parse an MDM^T02 with one OBX-5 of 1 MB", goal=LARGE_MS_MAX)
    yield figure("HL7 parsing, 1 MB, read", whole * 1e3, "ms", "the same, and read MSH-9, MSH-10, PID-5")
    accented = body.replace(b"RIVERA", "RÍVERA".encode()).replace(b"|P|2.5.1", b"|P|2.5.1||||||UNICODE UTF-8")
    (whole,) = seconds([read], accented, rounds=20, repeats=5)
    yield figure("HL7 parsing, 1 MB of UTF-8, read", whole * 1e3, "ms", "the same with a name beyond ASCII")
    code = (
        "import resource, hl7v2; from hl7v2 import mllp\n"
        f"body = b'MSH|^~\\\\&|A|B|C|D|2026||MDM^T02|C1|P|2.5.1\\rOBX|1|ED|||' + b'A' * {FRAME_BYTES} + b'\\r'\n"
        "frame = mllp.encode(body); del body\n"
        f"decoder = mllp.Decoder(frame_bytes_max={2 * FRAME_BYTES})\n"
        "pieces = (frame[at:at + 65536] for at in range(0, len(frame), 65536))\n"
        "found = [event for piece in pieces for event in decoder.receive_data(piece)]\n"
        "message = hl7v2.parse(found[0].body); assert message['MSH-10'] == 'C1'\n"
        f"print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * 1.048576 - {FRAME_BYTES} / 1e6)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    how = (
        f"peak memory: decode a frame of {FRAME_BYTES / 1e6:g} MB in pieces of 64 KB and parse, less the sender's copy"
    )
    yield figure("HL7 frame of 100 MB", float(run.stdout), "MB", how, goal=FRAME_MEGABYTES_MAX)


def frames() -> Iterator[dict[str, object]]:
    """MLLP decoding against the floor."""
    data = composed()["ADT A01"]
    framed = mllp.encode(data)
    floor, whole = seconds([split, lambda _: mllp.Decoder().receive_data(framed)], data)
    yield figure(
        "MLLP decoding", whole / floor, "ratio", f"a frame of {len(data)} bytes in one piece, against splitting it"
    )
    code = "import time; t = time.perf_counter(); import hl7v2; print((time.perf_counter() - t) * 1000)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
    best = min(float(run.stdout) for run in runs)
    yield figure("HL7 library, import", best, "ms", "import hl7v2 in a new process, best of 5", goal=IMPORT_MS_MAX)


def figures() -> Iterator[dict[str, object]]:
    """All figures of this module."""
    yield from ratios(composed(), "composed")
    if corpus():
        yield from ratios(corpus(), "corpus")
    yield from peer(composed())
    yield from large()
    yield from frames()


def main() -> int:
    """Exit status 1 when a goal was missed."""
    missed = False
    for line in figures():
        missed = missed or line["met"] is False
        print(json.dumps(line, ensure_ascii=False), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
