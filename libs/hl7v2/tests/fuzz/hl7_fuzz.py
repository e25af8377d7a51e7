"""A fuzzing target: whatever the bytes, nothing but named errors and events, and nothing lost.

python libs/hl7v2/tests/fuzz/hl7_fuzz.py --runs 100000 --seed 7     a seeded random loop; the same seed is the same run
python libs/hl7v2/tests/fuzz/hl7_fuzz.py --atheris [libFuzzer's]    guided by coverage, where atheris is installed

An input that breaks a promise is printed as Python bytes, to be made a test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import count
from random import Random

import hl7v2
from hl7v2 import mllp
from hl7v2.acknowledgment import codes_wanted
from hl7v2.deidentification import Pseudonyms
from hl7v2.message_file import read_message_file
from hl7v2.outline import outline, title

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TODAY = date(2026, 3, 1)
FRAME_BYTES_MAX = 64
PATHS = (
    "MSH-1",
    "MSH-2",
    "MSH-9",
    "MSH-10",
    "MSH-18",
    "PID-3[2].4.2",
    "PID-5",
    "PID-5.1",
    "OBX[2]-5",
    "ZZZ-1",
    "EVN-1",
)
TEXTS = ("x", "a|b^c&d~e\\f", "line\r\nline", "\x0b\x1c\x00", "é山", "")


def check(data: bytes) -> None:
    """Everything that the library promises of any bytes. Raises AssertionError, or what was not to be raised."""
    check_frames(data)
    file = hl7v2.split_batch(data)
    assert bytes(file) == data
    read_message_file(data)
    try:
        message = hl7v2.parse(data)
    except hl7v2.ParseError:
        return
    check_reading(data, message)
    check_answers(message)
    check_writing(data)


def check_frames(data: bytes) -> None:
    """Frames are the same in one piece and byte by byte, and a message that is framed comes out again."""
    whole, single = mllp.Decoder(frame_bytes_max=FRAME_BYTES_MAX), mllp.Decoder(frame_bytes_max=FRAME_BYTES_MAX)
    at_once = [*whole.receive_data(data), *whole.receive_eof()]
    by_byte = [event for byte in data for event in single.receive_data(bytes([byte]))] + single.receive_eof()
    assert kept(at_once) == kept(by_byte)
    body = data.replace(mllp.START, b"").replace(b"\x1c", b"")
    assert mllp.Decoder().receive_data(mllp.encode(body)) == [mllp.Frame(body)]


def kept(events: Sequence[object]) -> list[object]:
    """Events without what may depend on the chunks."""
    return [
        type(event) if isinstance(event, mllp.FrameTooLarge | mllp.MissingStart) else event
        for event in events
        if not isinstance(event, mllp.JunkBeforeStart)
    ]


def check_reading(data: bytes, message: hl7v2.Message) -> None:
    """Reading changes nothing, and does not depend on its order."""
    lazily = {path: message[path] for path in PATHS}
    segments = [(segment.key, segment.values()) for segment in message]
    again = hl7v2.parse(data)
    assert [(segment.key, segment.values()) for segment in again] == segments
    assert {path: again[path] for path in reversed(PATHS)} == {path: lazily[path] for path in reversed(PATHS)}
    assert again.codec == message.codec
    assert message.charset_report().codec == message.codec
    assert title(message)
    assert all(line.isprintable() for line in outline(message))
    assert bytes(message) == data
    assert bytes(hl7v2.from_json(message.as_json())) == data
    assert b"".join(text + end for text, end in zip(*message.segment_bytes(), strict=True)) in data


def check_answers(message: hl7v2.Message) -> None:
    """Every message can be checked, answered (with what the check found) and de-identified."""
    found = hl7v2.validate(message)
    told = hl7v2.acknowledge(message, "AE", found, now=NOW, control_id="OURS")
    assert told["MSA-1"] == "AE"
    assert bool(found) is (len(told.segments("ERR")) > 0)
    for code in ("AA", "AE", "AR"):
        codes_wanted(message, code)
        finding = hl7v2.Finding("PID-3[2].1", "101", "error", "an id", "", "")
        reply = hl7v2.acknowledge(message, code, [finding], now=NOW, control_id="OURS")
        assert reply["MSA-1"] == code
        assert reply.segment_names() == ["MSH", "MSA", "ERR"]
    numbers = count(1)
    left = hl7v2.deidentify(message, Pseudonyms(lambda: f"N{next(numbers)}"), today=TODAY)
    assert bytes(left).isascii()


def check_writing(data: bytes) -> None:
    """What is written is read again, and nothing else changes."""
    for path in ("PID-5[2].1.2", "MSH-10", "OBX[2]-5"):
        for text in TEXTS:
            message = hl7v2.parse(data)
            others = [bytes(segment) for segment in message if segment.key != path.split("-", maxsplit=1)[0]]
            try:
                message.set(path, text)
            except ValueError:
                assert bytes(message) == data
                continue
            assert message[path] == text
            assert [bytes(one) for one in message if one.key != path.split("-", maxsplit=1)[0]] == others


SEEDS = (
    (
        b"MSH|^~\\&|A|B|C|D|2026||ADT^A08^ADT_A01|C1|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
        b'PID|1||9^^^E&1&I^MR~8||N\xc3\xba\\T\\^A|""\rOBX|1|ST|A||x\rOBX|2|ST|B||\\X0D\\\rZPI|own\r'
    ),
    b"MSH$*%?@$A$B$$$2026$$ADT*A01$X$P$2.3$$$$$$8859/1\nPID$1$$1*2@3%4$$?F?\xfa\n",
    "MSH|^~\\&|A|B||||||||||||||UNICODE\rPID|1||9||Nú".encode("utf-16"),
    b"MSH|^~\\&|A||||||||||||||||~ISO IR87\rPID|1||\x1b$B;3ED\x1b(B\rOBX|1\rOBX|2\r",
    b"FHS|^~\\&|\rBHS|^~\\&|\rMSH|^~\\&|A\rPID|1\rBTS|1\rFTS|1\r",
    b"junk\x0bMSH|^~\\&|A\rPID|1\r\x1c\r\x0bMSH\x1c\x0bMSH|^~\\&|B\r\x1c\n",
    b"MSH|^~\\&|A||||||||||||||||GB 18030-2000\r\nPID|1||\xcd\xf5\x8130\x84\r\nOBX|1\r\nOBX|2",
)
TOKENS = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"|",
        b"^",
        b"~",
        b"\\",
        b"&",
        b"#",
        b"\x0b",
        b"\x1c",
        b"\x1c\r",
        b"\x00",
        b"\x80",
        b"\x85",
    ),
    *(b"\x1b$B", b"\x1b(B", b'""', b"\\X", b"\\C2D42\\", b"\\M2442\\", b"\\.br\\", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"MSH", b"PID|", b"OBX", b"\rMSH|^~\\&|", b"8859/2", b"UNICODE", b"~ISO IR159", b"KS X 1001", b"CNS 11643-1992"),
    *(b"\xc3\xa9", b"\xa4"),
)


def inputs(random: Random, runs: int) -> Iterator[bytes]:
    """Messages that were cut, doubled, spliced and mistreated."""
    for _ in range(runs):
        data = bytearray(random.choice(SEEDS))
        for _ in range(random.randrange(12)):
            place = random.randrange(len(data) + 1)
            change = random.randrange(6)
            if change == 0:
                data[place : place + random.randrange(9)] = b""
            elif change == 1:
                data[place:place] = random.choice(TOKENS)
            elif change == 2:
                data[place : place + 1] = bytes([random.randrange(256)])
            elif change == 3:
                data[place:place] = data[random.randrange(len(data) + 1) :][: random.randrange(40)]
            elif change == 4:
                other = random.choice(SEEDS)
                data[place:] = other[random.randrange(len(other)) :]
            else:
                data[place:place] = random.randbytes(random.randrange(5))
        yield bytes(data)


def loop(runs: int, seed: int, target: Callable[[bytes], None] = check) -> bytes | None:
    """The first input that breaks a promise, None when all keep it."""
    for data in inputs(Random(seed), runs):
        try:
            target(data)
        except Exception:
            sys.stderr.write(f"seed {seed} broke a promise with {data!r}\n")
            raise
    return None


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if options.atheris:
        import atheris  # type: ignore[import-not-found, unused-ignore]

        atheris.Setup([sys.argv[0], *rest], atheris.instrument_func(check))
        atheris.Fuzz()
        return 0
    loop(options.runs, options.seed)
    sys.stdout.write(f"{options.runs} inputs of seed {options.seed}: every promise kept\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
