"""`python -m simulator capture FILE…`: the shape of HL7 files as JSON, without their contents."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from simulator.core.shape import capture, messages_in, shape_json

FILE_BYTES_MAX: Final = 1024**3


def run(arguments: Sequence[str]) -> int:
    """The exit status: 0 captured, 1 a file could not be read or held no message."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator capture",
        description="Read HL7 files (messages, batches, MLLP captures) and write the shape of their feed as JSON: what "
        "is counted, never a value. A feed of the simulator can play it.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="HL7 files, in the order they came")
    parser.add_argument("--output", type=Path, help="where to write the shape; by default to the standard output")
    asked = parser.parse_args(arguments)
    try:
        shape = capture(_messages(asked.files))
    except OSError as error:
        sys.stderr.write(f"cannot read {error.filename}: {error.strerror}\n")
        return 1
    if not shape.messages:
        sys.stderr.write("no HL7 message in it: expected messages that begin with MSH\n")
        return 1
    text = orjson.dumps(shape_json(shape), option=orjson.OPT_INDENT_2) + b"\n"
    if asked.output is None:
        sys.stdout.buffer.write(text)
    else:
        asked.output.write_bytes(text)
    return 0


def _messages(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise OSError(27, f"larger than {FILE_BYTES_MAX} bytes; split it", str(path))
        yield from messages_in(path.read_bytes())
