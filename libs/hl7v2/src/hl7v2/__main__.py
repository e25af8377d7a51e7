"""HL7 v2 messages at the command line: check them, look at them, send them.

examples:
  python -m hl7v2 validate feed.hl7                          what is wrong, with its place in the message
  python -m hl7v2 validate --json batch.hl7 | jq .findings   one JSON object a message
  python -m hl7v2 show adt.hl7                               every value with its path
  python -m hl7v2 show --path PID-3.1 --path PID-5 adt.hl7   these values alone
  cat adt.hl7 | python -m hl7v2 show --json -                the message in JSON form
  python -m hl7v2 send --to localhost:2575 feed.hl7          one after the other, each when the last is acknowledged

A FILE holds a message, messages behind each other, batches (FHS, BHS), or MLLP frames as they were captured; segments
may end with CR, LF or both. - is the standard input.

exit status:
  0  all is well: no finding of severity error, every message accepted
  1  a message is wrong, or was not accepted
  2  the command line is wrong, or a file can not be read
  3  nobody could be reached (send)
"""

# The one module of this package that does I/O: files, the terminal, and the socket of `send`.
from __future__ import annotations

import argparse
import io
import json
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import hl7v2
from hl7v2 import mllp
from hl7v2.acknowledgment import Finding, codes_wanted
from hl7v2.message import Message
from hl7v2.message_file import read_message_file
from hl7v2.outline import outline, printable, title
from hl7v2.parser import ParseError, parse

WELL, WRONG, UNUSABLE, UNREACHED = 0, 1, 2, 3
INTERRUPTED: Final = 130
"""As a shell says it of a command that Ctrl-C ended."""
_RECEIVE_BYTES: Final = 65_536
_ANSWER_BYTES_MAX: Final = 1 << 20
_OTHER_ANSWERS_MAX: Final = 100
_PARSE_ERRORS: Final = {
    "empty": "a message, but there are no bytes",
    "no-msh": "a message that begins with MSH",
    "short-msh": "an MSH segment with its fields",
    "bad-delimiters": "usable delimiters in MSH-1 and MSH-2",
}
Validate = Callable[[Message, Any], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a file (number from 1; 0: the file around them), or why it is none."""

    file: str
    number: int
    message: Message | None
    findings: tuple[Finding, ...]


class Unusable(Exception):
    """What was asked for can not be done; the text says what and what to do."""


def main(
    arguments: Sequence[str] | None = None, *, standard_input: BinaryIO | None = None, validate: Validate | None = None
) -> int:
    """Run a command; gives the exit status. `validate` stands in for `hl7v2.validate`, which is loaded when needed."""
    options = _parser().parse_args(arguments)
    try:
        items = list(_items(options.files, standard_input or sys.stdin.buffer))
        if options.command == "validate":
            return _validate(options, items, validate or hl7v2.validate)
        return _show(options, items) if options.command == "show" else _send(options, items)
    except Unusable as problem:
        print(f"hl7v2: {problem}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:  # `… | head` has seen enough
        sys.stderr.close()
        return WELL
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hl7v2", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="validate | show | send")
    check = _command(
        commands, "validate", "check messages against the standard, or a site's profile",
        "Prints a line per finding: severity, code of HL7 table 0357, place, what is expected, what kind of value is\n"
        "there (never the value itself). Exits with 1 when there is an error; warnings are what sites live with.",
    )  # fmt: skip
    check.add_argument("--json", action="store_true", help="one JSON object a message: file, number, findings, …")
    check.add_argument("--profile", metavar="FILE", help="a site profile (YAML or JSON) that tightens or loosens rules")
    check.add_argument("--warnings", action="store_true", help="exit with 1 for warnings too")
    show = _command(
        commands, "show", "print what messages hold",
        "Prints every value with its path, as text: decoded, escape sequences replaced.",
    )  # fmt: skip
    show.add_argument("--json", action="store_true", help="one JSON object a message: its JSON form, without loss")
    show.add_argument("--path", action="append", default=[], help="only the value there (PID-5[2].1); may be repeated")
    send = _command(
        commands, "send", "send messages over MLLP and check their acknowledgments",
        "Sends one message after the other, byte for byte, and waits for the acknowledgment of each (by its MSA-2).\n"
        "Stops at the first that is not accepted, unless --keep-going. Exits with 3 when nobody could be reached.",
    )  # fmt: skip
    send.add_argument("--to", required=True, metavar="HOST:PORT", help="where to; an IPv6 address in brackets")
    send.add_argument("--json", action="store_true", help="one JSON object a message: outcome, code, …")
    send.add_argument(
        "--timeout-s", type=_seconds, default=10.0, metavar="S", help="to connect, and for each read (default 10)"
    )
    send.add_argument("--keep-going", action="store_true", help="go on behind a message that was not accepted")
    send.add_argument("--tls", action="store_true", help="over TLS; the server's certificate is always checked")
    send.add_argument("--ca", metavar="FILE", help="certificates to trust (PEM), instead of the machine's")
    send.add_argument("--certificate", metavar="FILE", help="ours (PEM), where the server demands one")
    send.add_argument("--key", metavar="FILE", help="the key of our certificate, where that file does not hold it")
    send.add_argument(
        "--server-name", metavar="NAME", help="the name in the server's certificate, where it is not HOST"
    )
    for command in (check, show, send):
        command.add_argument(
            "files", nargs="+", metavar="FILE",
            help="messages, batches or MLLP frames as they were captured; - is the standard input",
        )  # fmt: skip
    return parser


def _command(commands: Any, name: str, does: str, description: str) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    made: argparse.ArgumentParser = commands.add_parser(name, help=does, description=description, formatter_class=form)
    return made


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("expected a number of seconds, more than 0 and at most 3600")
    return value


def _items(names: Sequence[str], standard_input: BinaryIO) -> Iterator[Item]:
    for name in names:
        try:
            data = standard_input.read() if name == "-" else Path(name).read_bytes()
        except IsADirectoryError:
            raise Unusable(f"{name} is a directory: name the files in it, as in {name.rstrip('/')}/*.hl7") from None
        except OSError as error:
            raise Unusable(f"{name}: {error.strerror or error}") from None
        file = read_message_file(data)
        if file.findings:
            yield Item(name, 0, None, file.findings)
        if not file.messages:
            yield Item(name, 1, None, (_unreadable("empty"),))
        for number, body in enumerate(file.messages, 1):
            try:
                yield Item(name, number, parse(body), ())
            except ParseError as error:
                yield Item(name, number, None, (_unreadable(error.code),))


def _unreadable(code: str) -> Finding:
    return Finding("", "100", "error", _PARSE_ERRORS[code], code, "HL7 v2.5.1 §2.15.9")


# ---- validate


def _validate(options: argparse.Namespace, items: Sequence[Item], validate: Validate) -> int:
    profile = _profile(options.profile) if options.profile else None
    failing = {"error", "warning"} if options.warnings else {"error"}
    status = WELL
    for item in items:
        found = item.findings if item.message is None else tuple(validate(item.message, profile))
        if any(finding.severity in failing for finding in found):
            status = WRONG
        if options.json:
            _print_json({**_identity(item), "findings": [asdict(finding) for finding in found]})
        else:
            _print_findings(item, found)
    return status


def _profile(name: str) -> Any:
    text = _text_of(name)
    try:
        document = json.loads(text)
    except ValueError:
        document = _yaml(name, text)
    mistakes = hl7v2.profile_mistakes(document)
    if mistakes:
        raise Unusable("\n".join(f"{name}: {'.'.join(place) or 'the profile'}: {detail}" for place, detail in mistakes))
    return hl7v2.compile_profile(document)


def _yaml(name: str, text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise Unusable(f"{name}: no JSON, and PyYAML, which reads YAML, is not installed") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unusable(f"{name}: neither JSON nor YAML: {error}") from None


def _text_of(name: str) -> str:
    try:
        return Path(name).read_text("utf-8")
    except OSError as error:
        raise Unusable(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Unusable(f"{name}: a profile is text in UTF-8") from None


def _print_findings(item: Item, found: Sequence[Finding]) -> None:
    place = f"{item.file}#{item.number}" if item.number else item.file
    if not found:
        print(f"{place}: ok")
    for finding in found:
        said = f"{finding.severity} {finding.code} at {finding.path or 'the message'}: expected {finding.expected}"
        said += f", found {finding.found}" if finding.found else ""
        print(printable(f"{place}: {said}" + (f" ({finding.reference})" if finding.reference else "")))


def _identity(item: Item) -> dict[str, Any]:
    message = item.message
    if message is None:
        return {"file": item.file, "number": item.number}
    return {
        "file": item.file,
        "number": item.number,
        "type": "^".join(part for part in message.type if part),
        "control_id": message.control_id,
        "charset": message.codec,
        "tolerated": message.tolerated,
    }


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=not _shows_all_characters()), flush=True)


def _shows_all_characters() -> bool:
    """Whether the terminal (or what stands in for it) takes every character."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


# ---- show


def _show(options: argparse.Namespace, items: Sequence[Item]) -> int:
    status = WELL
    for item in items:
        if item.message is None:
            status = WRONG if any(finding.severity == "error" for finding in item.findings) else status
            for finding in item.findings:
                place = f"{item.file}#{item.number}" if item.number else item.file
                print(printable(f"{place}: expected {finding.expected}, found {finding.found}"), file=sys.stderr)
        elif options.path:
            values = _values(item.message, options.path)
            _print_json({**_identity(item), "values": values}) if options.json else _print_values(values)
        elif options.json:
            _print_json({"file": item.file, "number": item.number, **item.message.as_json()})
        else:
            print(f"{item.file}#{item.number}: {title(item.message)}")
            for line in outline(item.message):
                print(line)
    return status


def _values(message: Message, paths: Sequence[str]) -> dict[str, str]:
    try:
        return {path: message[path] for path in paths}
    except ValueError as error:
        raise Unusable(str(error)) from None


def _print_values(values: dict[str, str]) -> None:
    print("\t".join(printable(value) for value in values.values()))


# ---- send


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message that was sent: accepted, refused, unanswered, closed, not-sent, or unparsable."""

    outcome: str
    code: str = ""
    text: str = ""


class Unreached(Exception):
    """No connection."""


class Sender:
    """One connection after the other to one receiver. Blocking; every wait has the bound of `timeout_s`."""

    def __init__(self, host: str, port: int, timeout_s: float, context: ssl.SSLContext | None, name: str) -> None:
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._context = context
        self._name = name
        self._socket: socket.socket | None = None
        self._decoder = mllp.Decoder(frame_bytes_max=_ANSWER_BYTES_MAX)
        self._frames: list[bytes] = []

    def send(self, message: Message) -> Outcome:
        """Send one message and wait for its acknowledgment. Raises Unreached.

        Answers to other messages (late ones) are passed over: only MSA-2 tells what was acknowledged. A connection on
        which an answer is overdue is closed, so that it can not be taken for that of the next message.
        """
        wanted = codes_wanted(message, "AA")
        try:
            connection = self._connected()
            connection.sendall(mllp.encode(bytes(message)))
            return self._answer(connection, message.control_id) if wanted else Outcome("accepted", "", "none wanted")
        except TimeoutError:
            self.close()
            return Outcome("unanswered", "", f"no acknowledgment within {self._timeout_s:g} s")
        except OSError as error:
            self.close()
            return Outcome("closed", "", error.strerror or str(error))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._decoder = mllp.Decoder(frame_bytes_max=_ANSWER_BYTES_MAX)
        self._frames = []

    def _connected(self) -> socket.socket:
        if self._socket is None:
            try:
                self._socket = socket.create_connection(self._address, self._timeout_s)
                if self._context is not None:
                    self._socket = self._context.wrap_socket(self._socket, server_hostname=self._name)
            except OSError as error:
                self.close()
                host, port = self._address
                raise Unreached(f"{host}:{port}: {error.strerror or error}") from None
        return self._socket

    def _answer(self, connection: socket.socket, control_id: str) -> Outcome:
        for _ in range(_OTHER_ANSWERS_MAX):
            frame = self._frame(connection)
            if frame is None:
                self.close()
                return Outcome("closed", "", "the receiver closed the connection without an answer")
            try:
                answer = parse(frame)
            except ParseError as error:
                return Outcome("unparsable", "", _PARSE_ERRORS[error.code])
            if answer["MSA-2"] == control_id:
                code = answer["MSA-1"]
                return Outcome("accepted" if code in {"AA", "CA"} else "refused", code, _reason(answer))
        return Outcome("unanswered", "", f"{_OTHER_ANSWERS_MAX} answers, all to other messages")

    def _frame(self, connection: socket.socket) -> bytes | None:
        while not self._frames:
            data = connection.recv(_RECEIVE_BYTES)
            events = self._decoder.receive_data(data) if data else self._decoder.receive_eof()
            self._frames += [event.body for event in events if isinstance(event, mllp.Frame)]
            if not data and not self._frames:
                return None
        return self._frames.pop(0)


def _reason(answer: Message) -> str:
    """What a negative acknowledgment says: the user's message, the code, where; or the text of old versions."""
    parts = [answer["ERR-8"], answer["ERR-3.2"] or answer["ERR-3"], answer["ERR-2"], answer["ERR-1"], answer["MSA-3"]]
    return ", ".join(part for part in parts if part)


def _send(options: argparse.Namespace, items: Sequence[Item]) -> int:
    host, port = _address(options.to)
    sender = Sender(host, port, options.timeout_s, _context(options), options.server_name or host)
    stopped = False
    status = WELL
    try:
        for item in items:
            if item.message is None and not any(finding.severity == "error" for finding in item.findings):
                continue
            if item.message is None:
                outcome = Outcome("not-sent", "", f"expected {item.findings[0].expected}")
            else:
                outcome = (
                    Outcome("not-sent", "", "one before it was not accepted") if stopped else sender.send(item.message)
                )
            accepted = outcome.outcome == "accepted"
            status = status if accepted else WRONG
            stopped = stopped or not (accepted or options.keep_going)
            _print_outcome(options, item, outcome)
    except Unreached as problem:
        print(f"hl7v2: {problem}", file=sys.stderr)
        return UNREACHED
    finally:
        sender.close()
    return status


def _print_outcome(options: argparse.Namespace, item: Item, outcome: Outcome) -> None:
    if options.json:
        _print_json({**_identity(item), **asdict(outcome)})
        return
    said = " ".join(part for part in (outcome.outcome, outcome.code) if part)
    print(printable(f"{item.file}#{item.number}: {said}" + (f": {outcome.text}" if outcome.text else "")))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Unusable(f"--to {text}: expected HOST:PORT, with a port from 1 to 65535")
    return host, int(port)


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls:
        if options.ca or options.certificate or options.key or options.server_name:
            raise Unusable("--ca, --certificate, --key and --server-name are about TLS: add --tls")
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ValueError) as error:
        raise Unusable(f"--ca, --certificate or --key: {error}") from None
    return context


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without the letters of a name still shows it
    sys.exit(main())
