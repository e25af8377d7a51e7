"""python -m hl7v2: what it prints and how it exits."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import hl7v2
from hl7v2 import mllp
from hl7v2.__main__ import main

WAIT_S = 20.0
REFERENCE = "(HL7 v2.5.1 §2.15.9)"


def message(number: int = 1, modes: str = "||") -> bytes:
    return (
        f"MSH|^~\\&|EPIC|DEMO|PS|HOME|2026||ADT^A08^ADT_A01|C{number}|P|2.5.1|{modes}\r"
        'PID|1||9^^^EPIC&1.2&ISO^MR~8||O\\T\\x^Alma|"" |||||\x07\r'
    ).encode()


def stored(folder: Path, data: bytes) -> str:
    path = folder / "feed.hl7"
    path.write_bytes(data)
    return str(path)


def checked(message: hl7v2.Message, profile: Any) -> Sequence[hl7v2.Finding]:
    """A validator that wants PV1, and warns of message C2."""
    if message.control_id == "C2":
        return [hl7v2.Finding("PID-8", "103", "warning", "a code of table 0001", "text", "HL7 v2.5.1 §3.4.2.8")]
    return [] if "PV1" in message.segment_names() else [hl7v2.Finding("PV1", "100", "error", "a segment PV1", "", "")]


def run(*arguments: str, standard_input: bytes = b"") -> int:
    return main(arguments, standard_input=io.BytesIO(standard_input), validate=checked)


def test_validate_says_what_is_wrong_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = stored(tmp_path, message(1) + message(2) + message(3) + b"PV1|1|O\r")
    assert run("validate", name) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{name}#1: error 100 at PV1: expected a segment PV1",
        f"{name}#2: warning 103 at PID-8: expected a code of table 0001, found text (HL7 v2.5.1 §3.4.2.8)",
        f"{name}#3: ok",
    ]


def test_validate_exits_by_severity(tmp_path: Path) -> None:
    warned = stored(tmp_path, message(2))
    assert (run("validate", warned), run("validate", "--warnings", warned)) == (0, 1)


def test_validate_as_json_a_line_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", "--json", "-", standard_input=message(1) + message(2)) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["file"], first["number"], first["type"], first["control_id"]) == ("-", 1, "ADT^A08^ADT_A01", "C1")
    assert (first["findings"][0]["path"], second["findings"][0]["severity"]) == ("PV1", "warning")


def test_validate_a_batch_with_a_wrong_count(capsys: pytest.CaptureFixture[str]) -> None:
    head = b"|^~\\&|EPIC|DEMO|PS|HOME|2026\r"
    batch = b"BHS" + head + message(3) + b"PV1|1\rBTS|7\r"
    assert run("validate", "-", standard_input=batch) == 1
    assert capsys.readouterr().out.splitlines() == [
        "-: error 102 at BTS-1: expected 1, found another number (HL7 v2.5.1 §2.10.3)",
        "-#1: ok",
    ]


@pytest.mark.parametrize(
    ("data", "lines", "status"),
    [
        (mllp.encode(message(3) + b"PV1|1\r") * 2, ["-#1: ok", "-#2: ok"], 0),
        (
            b"noise" + mllp.encode(message(3) + b"PV1|1\r"),
            ["-: warning 100 at the message: expected nothing between frames, found 5 bytes (MLLP)", "-#1: ok"],
            0,
        ),
        (
            b"\x0bMSH|cut",
            [
                "-: error 100 at the message: expected 0x1C 0x0D behind every message, found 7 bytes without it (MLLP)",
                f"-#1: error 100 at the message: expected a message, but there are no bytes, found empty {REFERENCE}",
            ],
            1,
        ),
        (
            b"HELLO WORLD",
            [
                "-: error 100 at MSH[1]: expected a segment FHS, BHS or MSH, found something else (HL7 v2.5.1 §2.10.3)",
                f"-#1: error 100 at the message: expected a message that begins with MSH, found no-msh {REFERENCE}",
            ],
            1,
        ),
    ],
    ids=["frames", "noise", "cut", "none"],
)
def test_validate_captured_frames_and_what_is_none(
    data: bytes, lines: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", "-", standard_input=data) == status
    assert capsys.readouterr().out.splitlines() == lines


def test_show_every_value_with_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "-", standard_input=message()) == 0
    out = capsys.readouterr().out
    assert out.startswith("-#1: ADT^A08^ADT_A01, control id C1, version 2.5.1, ascii\nMSH\n  MSH-1              |\n")
    values = dict(line.split(None, 1) for line in out.splitlines() if line.startswith("  PID"))
    assert values == {
        "PID-1": "1",
        "PID-3[1].1": "9",
        "PID-3[1].4.1": "EPIC",
        "PID-3[1].4.2": "1.2",
        "PID-3[1].4.3": "ISO",
        "PID-3[1].5": "MR",
        "PID-3[2]": "8",
        "PID-5.1": "O&x",
        "PID-5.2": "Alma",
        "PID-6": '"" ',
        "PID-11": "\\x07",
    }


def test_show_single_values_and_the_json_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "--path", "PID-5.1", "--path", "MSH-10", "-", standard_input=message() + message(2)) == 0
    assert capsys.readouterr().out == "O&x\tC1\nO&x\tC2\n"
    assert run("show", "--json", "--path", "MSH-10", "-", standard_input=message()) == 0
    assert json.loads(capsys.readouterr().out)["values"] == {"MSH-10": "C1"}
    assert run("show", "--json", "-", standard_input=message()) == 0
    assert bytes(hl7v2.from_json(json.loads(capsys.readouterr().out))) == message()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "no-such-file"], "no-such-file: No such file"),
        (["show", "--path", "PID", "-"], "not a path into a message"),
        (["send", "--to", "nowhere", "-"], "expected HOST:PORT"),
        (["send", "--to", "localhost:0", "-"], "expected HOST:PORT"),
        (["send", "--to", "localhost:1", "--ca", "x", "-"], "add --tls"),
        (["send", "--to", "localhost:1", "--tls", "--ca", "no-such-file", "-"], "--ca"),
        (["validate", "--profile", "no-such-file", "-"], "no-such-file"),
    ],
)
def test_what_can_not_be_done_is_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(*arguments, standard_input=message()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["show"], ["fly", "-"], ["send", "-"], ["send", "--timeout-s", "0", "-"]])
def test_a_wrong_command_line_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert "usage: python -m hl7v2" in capsys.readouterr().err


def test_the_module_runs_as_a_program_and_explains_itself() -> None:
    program = [sys.executable, "-m", "hl7v2"]
    shown = subprocess.run([*program, "show", "-"], input=message(), capture_output=True, check=True, timeout=WAIT_S)
    assert b"PID-5.2            Alma" in shown.stdout
    told = subprocess.run([*program, "--help"], capture_output=True, check=True, timeout=WAIT_S, text=True).stdout
    assert all(word in told for word in ("examples:", "exit status:", "validate", "show", "send"))


# ---- send

Reply = Callable[[hl7v2.Message], bytes | None]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def acknowledge(received: hl7v2.Message, code: str = "AA", *findings: hl7v2.Finding) -> bytes:
    return mllp.encode(bytes(hl7v2.acknowledge(received, code, findings, now=NOW, control_id="OURS")))


class Receiver:
    """An MLLP receiver on the loopback: answers as it is told, and remembers what came."""

    def __init__(self, reply: Reply, context: ssl.SSLContext | None = None) -> None:
        self._reply = reply
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port: int = self._listener.getsockname()[1]
        self.received: list[str] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain:
                plain.settimeout(WAIT_S)
                self.connections += 1
                try:
                    self._talk(self._context.wrap_socket(plain, server_side=True) if self._context else plain)
                except OSError:
                    continue

    def _talk(self, connection: socket.socket) -> None:
        decoder = mllp.Decoder()
        with connection:
            while data := connection.recv(65_536):
                for event in decoder.receive_data(data):
                    assert isinstance(event, mllp.Frame)
                    read = hl7v2.parse(event.body)
                    self.received.append(read.control_id)
                    answer = self._reply(read)
                    if answer is None:
                        return
                    connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT_S)


@contextmanager
def receiver(reply: Reply, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = Receiver(reply, context)
    try:
        yield server
    finally:
        server.close()


def send(server: Receiver, data: bytes, *more: str) -> int:
    return run("send", "--to", f"127.0.0.1:{server.port}", *more, "-", standard_input=data)


def test_send_waits_for_each_acknowledgment(capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(acknowledge) as server:
        assert send(server, message(1) + message(2)) == 0
        assert (server.received, server.connections) == (["C1", "C2"], 1)
    assert capsys.readouterr().out == "-#1: accepted AA\n-#2: accepted AA\n"


@pytest.mark.parametrize(("more", "status", "received"), [((), 1, ["C1"]), (("--keep-going",), 1, ["C1", "C2"])])
def test_a_refused_message_stops_the_rest_unless_told_otherwise(
    more: tuple[str, ...], status: int, received: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    finding = hl7v2.Finding("PID-3", "101", "error", "a patient id", "", "")
    with receiver(
        lambda read: acknowledge(read, "AE", finding) if read.control_id == "C1" else acknowledge(read)
    ) as server:
        assert send(server, message(1) + message(2), *more) == status
        assert server.received == received
    first, second = capsys.readouterr().out.splitlines()
    assert first == "-#1: refused AE: a patient id, Required field missing, PID^1^3^1"
    assert second == ("-#2: accepted AA" if more else "-#2: not-sent: one before it was not accepted")


def test_a_late_acknowledgment_is_not_taken_for_this_ones(capsys: pytest.CaptureFixture[str]) -> None:
    late = acknowledge(hl7v2.parse(message(7)), "AE")
    with receiver(lambda read: late + acknowledge(read)) as server:
        assert send(server, message(1) + message(2), "--json") == 0
    assert [json.loads(line)["code"] for line in capsys.readouterr().out.splitlines()] == ["AA", "AA"]


def test_no_answer_in_time_closes_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(lambda read: b"" if read.control_id == "C1" else acknowledge(read)) as server:
        assert send(server, message(1) + message(2), "--timeout-s", "0.2", "--keep-going") == 1
        assert server.connections == 2
    assert capsys.readouterr().out.splitlines() == [
        "-#1: unanswered: no acknowledgment within 0.2 s",
        "-#2: accepted AA",
    ]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda read: None, "closed: the receiver closed the connection without an answer"),
        (lambda read: mllp.encode(b"OK"), "unparsable: a message that begins with MSH"),
        (lambda read: acknowledge(read, "CR"), "refused CR"),
    ],
)
def test_other_ends_of_a_message(reply: Reply, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(reply) as server:
        assert send(server, message()) == 1
    assert capsys.readouterr().out == f"-#1: {said}\n"


def test_a_message_that_wants_no_answer_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(lambda read: b"") as server:
        assert send(server, message(1, "||NE|NE")) == 0
    assert "none wanted" in capsys.readouterr().out


def test_nobody_there_exits_with_three(capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(acknowledge) as server:
        port = server.port
    assert run("send", "--to", f"127.0.0.1:{port}", "-", standard_input=message()) == 3
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("receiver.test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def test_over_tls_the_certificate_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with receiver(acknowledge, context) as server:
        assert send(server, message(1), "--tls", "--ca", str(path)) == 0
        assert send(server, message(2), "--tls", "--ca", str(path), "--server-name", "receiver.test") == 0
        assert send(server, message(3), "--tls", "--ca", str(path), "--server-name", "another.test") == 3
        assert send(server, message(4), "--tls") == 3
        assert server.received == ["C1", "C2"]
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err


def in_a_process(*arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hl7v2", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False)


def test_a_terminal_without_the_letters_of_a_name_still_shows_it(tmp_path: Path) -> None:
    name = stored(tmp_path, message().replace(b"Alma", "Núñez".encode()).replace(b"|2.5.1|||", b"|2.5.1||||||UTF-8"))
    shown = in_a_process("show", "--path", "PID-5.2", name, encoding="ascii")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, b"N\\xfa\\xf1ez\n", b"")
    shown = in_a_process("show", "--json", "--path", "PID-5.2", name, encoding="ascii")
    assert json.loads(shown.stdout)["values"] == {"PID-5.2": "Núñez"}
    assert "Núñez".encode() in in_a_process("show", "--json", name, encoding="utf-8").stdout


def test_a_directory_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", f"{tmp_path}/") == 2
    assert (
        capsys.readouterr().err == f"hl7v2: {tmp_path}/ is a directory: name the files in it, as in {tmp_path}/*.hl7\n"
    )


@pytest.mark.parametrize("seconds", ["x", "0", "-1", "nan", "3601"])
def test_what_is_no_time_out_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("send", "--to", "localhost:1", "--timeout-s", seconds, "-")
    assert ended.value.code == 2
    assert "expected a number of seconds, more than 0 and at most 3600" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "show", "send"])
def test_every_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.split("\n\n")[1].split()) > 8


def test_a_profile_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "profile").write_bytes(b"\xff\xfe\x00")
    assert run("validate", "--profile", str(tmp_path / "profile"), "-", standard_input=message()) == 2
    assert run("validate", "--profile", str(tmp_path / "none"), "-", standard_input=message()) == 2
    assert capsys.readouterr().err == (
        f"hl7v2: {tmp_path}/profile: a profile is text in UTF-8\nhl7v2: {tmp_path}/none: No such file or directory\n"
    )
