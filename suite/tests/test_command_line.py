"""Options become settings; what is wrong is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import suite.__main__ as program


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PS_PORT", "PS_DATA", "PS_HL7_LISTEN_PORT", "PS_ALLOWED_NETWORKS"):
        monkeypatch.setenv(name, "")
    program.apply(program.parse(["--port", "8081", "--mllp-port", "2576", "--data", "elsewhere"]))
    assert os.environ["PS_PORT"] == "8081"
    assert os.environ["PS_HL7_LISTEN_PORT"] == "2576"
    assert os.environ["PS_DATA"] == "elsewhere"
    assert "127.0.0.0/8" in os.environ["PS_ALLOWED_NETWORKS"].split(",")


def test_allowed_networks_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_ALLOWED_NETWORKS", "10.0.0.0/8")
    program.apply(program.parse([]))
    assert os.environ["PS_ALLOWED_NETWORKS"] == "10.0.0.0/8"


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.parse(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "demonstration practice" in shown
    assert "--mllp-port" in shown


def test_a_bad_port_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("PS_PORT", "PS_DATA", "PS_ALLOWED_NETWORKS"):
        monkeypatch.setenv(name, "")
    assert program.main(["--port", "66x61", "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("start.bad-setting: PS_PORT")
