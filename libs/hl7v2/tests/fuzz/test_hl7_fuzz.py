"""The fuzzing target keeps its promises for a while, and would notice a broken one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest

TARGET = Path(__file__).with_name("hl7_fuzz.py")
fuzz = run_path(str(TARGET))


@pytest.mark.parametrize("seed", [11, 12])
def test_seeded_inputs_break_no_promise(seed: int) -> None:
    assert fuzz["loop"](400, seed) is None


def test_a_broken_promise_is_told_with_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(data: bytes) -> None:
        assert b"MSH" not in data

    with pytest.raises(AssertionError):
        fuzz["loop"](50, 1, refuse)
    assert "seed 1 broke a promise with b'" in capsys.readouterr().err


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = (list(fuzz["inputs"](fuzz["Random"](seed), 20)) for seed in (3, 3, 4))
    assert first == again != other


def test_it_runs_without_a_fuzzer() -> None:
    command = [sys.executable, str(TARGET), "--runs", "50"]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    assert told.stdout == "50 inputs of seed 1: every promise kept\n"
