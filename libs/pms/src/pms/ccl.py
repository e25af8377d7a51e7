"""Oracle Health's CCL: its messages, a lexical check of a script, and MPage answers that failed with HTTP 200.

Messages look like `%CCL-E-9-MY_PROGRAM(12,5)…{token}text`. The check of a script is no compiler: it knows quotes,
comments, brackets, block words, `end` and `go`, record structures as the script defines them, and declarations. What
it does not look at is said in `NOT_CHECKED`. Nothing of a script or message is repeated but names of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pms.source import Source

SCRIPT_CHARACTERS_MAX: Final = 200_000
FINDINGS_MAX: Final = 200
NOT_CHECKED: Final = (
    "tables, columns and joins of the Millennium database",
    "types of values and numbers of arguments",
    "names of functions, options of WITH, and included or executed programs",
    "record structures and variables that come from a calling program or an include file",
    "strings delimited by anything but ', \" and ^",
)
_SEVERITIES: Final[Mapping[str, str]] = {
    "F": "fatal", "E": "error", "W": "warning", "I": "information", "S": "success",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CclNumber:
    """One message number: what it says, and what to look at."""

    number: int
    meaning: str
    next_step: str
    source: Source = Source.SECOND_HAND


NUMBERS: Final[dict[int, CclNumber]] = {
    row.number: row
    for row in (
        CclNumber(6, "Unexpected end of line.", "Close the quote, bracket or statement that is open there."),
        CclNumber(9, "Unexpected symbol.", "Look at the token named and at the word before it."),
        CclNumber(
            43,
            "The script cannot be executed.",
            "Compile it in this domain; check its name and the user's right to it.",
        ),
        CclNumber(44, "It cannot be dropped because it does not exist.", "Harmless before the first compilation."),
        CclNumber(151, "A variable is not defined.", "Declare the variable before it is read."),
        CclNumber(
            260, "Invalid member of a record structure.", "Compare the member's name with the record's definition."
        ),
    )
}
_MESSAGE: Final = re.compile(
    r"%CCL-(?P<severity>[A-Z])-(?P<number>\d{1,6})-(?P<program>[A-Za-z0-9_:$]{1,64})"
    r"(?:\((?P<line>\d{1,7}),(?P<column>\d{1,7})\))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CclMessage:
    """One message. Line and column are CCL's own, None when it gives none."""

    severity: str
    number: int
    program: str
    line: int | None
    column: int | None

    @property
    def known(self) -> CclNumber | None:
        """The row of its number."""
        return NUMBERS.get(self.number)

    def as_json(self) -> dict[str, Any]:
        """The message as the API shows it, without its free text."""
        row = self.known
        return {
            "severity": self.severity,
            "number": self.number,
            "program": self.program,
            "line": self.line,
            "column": self.column,
            "meaning": row.meaning if row else None,
            "next_step": row.next_step if row else "Look the number up in the vendor's list of CCL messages.",
        }


def messages_in(text: str) -> list[CclMessage]:
    """Every CCL message of a text, in order; at most `FINDINGS_MAX`."""
    found = []
    for match in _MESSAGE.finditer(text):
        line, column = match["line"], match["column"]
        severity = _SEVERITIES.get(match["severity"].upper(), "unknown")
        found.append(
            CclMessage(
                severity, int(match["number"]), match["program"].upper(), int(line) if line else None,
                int(column) if column else None,
            )
        )  # fmt: skip
        if len(found) == FINDINGS_MAX:
            break
    return found


@dataclass(frozen=True, slots=True)
class ScriptFinding:
    """One finding in a script, with its place (both from 1) and the CCL number it would end in, where one is known."""

    rule: str
    severity: str
    line: int
    column: int
    what: str
    ccl_number: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as the API shows it."""
        return {name: getattr(self, name) for name in ("rule", "severity", "line", "column", "what", "ccl_number")}


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int
    column: int


_QUOTES: Final = "'\"^"
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\d+(?:\.\d+)?|->|\S")


def check_script(script: str) -> list[ScriptFinding]:
    """What is wrong with a script, in order of place; at most `FINDINGS_MAX`. Never raises."""
    tokens, found = _tokens(script[:SCRIPT_CHARACTERS_MAX])
    if not found:  # behind an open quote or comment nothing else can be told
        found += _brackets(tokens)
        found += _blocks(tokens)
        found += _ends(tokens)
        found += _members(tokens)
        found += _undeclared(tokens)
        found += _with(tokens)
    return sorted(found, key=lambda row: (row.line, row.column, row.rule))[:FINDINGS_MAX]


def _tokens(script: str) -> tuple[list[_Token], list[ScriptFinding]]:
    tokens: list[_Token] = []
    line, start, at = 1, 0, 0
    while at < len(script):
        character = script[at]
        if character == "\n":
            line, start = line + 1, at + 1
            at += 1
        elif character.isspace():
            at += 1
        elif character == ";":
            at = _find(script, "\n", at, len(script))
        elif script.startswith("/*", at) or character in _QUOTES:
            comment = character == "/"
            end = script.find("*/" if comment else character, at + (2 if comment else 1))
            column = at - start + 1
            if end < 0:
                rule, what = (
                    ("comment-open", "This comment is never closed.") if comment
                    else ("quote-open", "This quote is never closed.")
                )  # fmt: skip
                return tokens, [ScriptFinding(rule, "error", line, column, what, 6)]
            if not comment:
                tokens.append(_Token('""', line, column))
            after = end + (2 if comment else 1)
            breaks = script.count("\n", at, after)
            if breaks:
                line, start = line + breaks, script.rfind("\n", at, after) + 1
            at = after
        else:
            match = _WORD.match(script, at)
            text = match.group() if match else character
            tokens.append(_Token(text.lower(), line, at - start + 1))
            at += len(text)
    return tokens, []


def _find(text: str, wanted: str, start: int, otherwise: int) -> int:
    at = text.find(wanted, start)
    return otherwise if at < 0 else at


_PAIRS: Final = {")": "(", "]": "[", "}": "{"}


def _brackets(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    opened: list[_Token] = []
    for token in tokens:
        if token.text in _PAIRS.values():
            opened.append(token)
        elif token.text in _PAIRS:
            if not opened or opened[-1].text != _PAIRS[token.text]:
                yield ScriptFinding(
                    "bracket-unopened", "error", token.line, token.column, f"`{token.text}` closes nothing.", 9
                )
                return
            opened.pop()
    for token in opened:
        yield ScriptFinding("bracket-open", "error", token.line, token.column, f"`{token.text}` is never closed.", 6)


_BLOCKS: Final = {"endif": "if", "endfor": "for", "endwhile": "while", "endcase": "case"}


def _blocks(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    opened: list[_Token] = []
    for token in tokens:
        if token.text in _BLOCKS.values():
            opened.append(token)
        elif token.text in _BLOCKS:
            if not opened or opened[-1].text != _BLOCKS[token.text]:
                expected = f"end{opened[-1].text}" if opened else "none"
                yield ScriptFinding(
                    "block-unopened", "error", token.line, token.column,
                    f"`{token.text}` ends no block that is open here (expected: {expected}).", 9,
                )  # fmt: skip
                return
            opened.pop()
    for token in opened:
        yield ScriptFinding(
            "block-open", "error", token.line, token.column, f"`{token.text}` has no `end{token.text}`.", 9
        )


_STOPS: Final = frozenset({"go", "create", "drop"})


def _ends(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    """`drop program x go`, `create program x … end go`; a script without a program ends in `go`, too."""
    words = [token.text for token in tokens]
    if not tokens:
        yield ScriptFinding("script-empty", "error", 1, 1, "There is no statement in the script.")
        return
    for index, token in enumerate(tokens):
        if words[index : index + 2] == ["create", "program"]:
            following = _next(words, ["create", "program"], index + 2)
            body = words[index:following]
            if "end" not in body:
                yield ScriptFinding("end-missing", "error", token.line, token.column, "The program has no `end`.", 6)
            elif "go" not in body[len(body) - 1 - body[::-1].index("end") :]:
                yield ScriptFinding(
                    "go-missing", "error", token.line, token.column, "The program's `end` is not followed by `go`.", 6
                )
        elif words[index : index + 2] == ["drop", "program"]:
            following = next((at for at in range(index + 2, len(words)) if words[at] in _STOPS), len(words))
            if following == len(words) or words[following] != "go":
                yield ScriptFinding(
                    "go-missing", "error", token.line, token.column, "`drop program` is not followed by `go`.", 9
                )
    if "program" not in words and words[-1] != "go":
        last = tokens[-1]
        yield ScriptFinding("go-missing", "error", last.line, last.column, "The script does not end in `go`.", 6)


def _next(words: Sequence[str], wanted: Sequence[str], start: int) -> int:
    width = len(wanted)
    return next((at for at in range(start, len(words)) if list(words[at : at + width]) == list(wanted)), len(words))


def _records(tokens: Sequence[_Token]) -> dict[str, frozenset[str]]:
    """record name → names of its members at all levels, as `record x ( 1 member = type … )` defines them."""
    words = [token.text for token in tokens]
    found: dict[str, frozenset[str]] = {}
    index = 0
    while index < len(words) - 2:
        if words[index] != "record" or words[index + 2] != "(" or not words[index + 1].isidentifier():
            index += 1
            continue
        name, depth, members = words[index + 1], 0, set()
        for at in range(index + 2, len(words)):
            index = at
            depth += {"(": 1, ")": -1}.get(words[at], 0)
            if depth == 0:
                break
            if words[at].isdigit() and at + 1 < len(words) and words[at + 1].isidentifier() and words[at - 1] != "[":
                members.add(words[at + 1])
        found[name] = frozenset(members)
    return found


def _members(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    records = _records(tokens)
    for index, token in enumerate(tokens):
        if token.text not in records or index + 1 >= len(tokens) or tokens[index + 1].text != "->":
            continue
        for member in _path(tokens, index + 2):
            if member.text not in records[token.text]:
                yield ScriptFinding(
                    "member-unknown", "error", member.line, member.column,
                    f"The record `{token.text[:64]}` has no member `{member.text[:64]}`.", 260,
                )  # fmt: skip


# An index is a name or a short sum; without a bound, brackets in brackets would be read again and again.
_INDEX_TOKENS_MAX: Final = 64


def _path(tokens: Sequence[_Token], at: int) -> Iterator[_Token]:
    """The member names of `a[…].b.c`, from the first on."""
    while at < len(tokens) and tokens[at].text.isidentifier():
        yield tokens[at]
        at += 1
        if at < len(tokens) and tokens[at].text == "[":
            depth, last = 0, at + _INDEX_TOKENS_MAX
            while at < min(len(tokens), last):
                depth += {"[": 1, "]": -1}.get(tokens[at].text, 0)
                at += 1
                if depth == 0:
                    break
        if at >= len(tokens) or tokens[at].text != ".":
            return
        at += 1


# Set by the system, not by a script.
_SYSTEM: Final = frozenset({"curqual", "stat", "trace", "message", "reqinfo", "logical", "reply", "request", "compile"})


def _undeclared(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    words = [token.text for token in tokens]
    declared = {words[at + 1] for at in range(len(words) - 1) if words[at] in {"declare", "record"}} | _SYSTEM
    told: set[str] = set()
    for index, token in enumerate(tokens[:-2]):
        name, following = words[index + 1], words[index + 2]
        if token.text != "set" or following != "=" or not name.isidentifier() or name in declared | told:
            continue
        told.add(name)
        place = tokens[index + 1]
        yield ScriptFinding(
            "variable-undeclared", "warning", place.line, place.column,
            f"`{name[:64]}` is set and nowhere declared: where it is read before, it is not defined.", 151,
        )  # fmt: skip


def _with(tokens: Sequence[_Token]) -> Iterator[ScriptFinding]:
    """A WITH clause belongs to the statement before it; behind `go`, or at the beginning, there is none."""
    for index, token in enumerate(tokens):
        if token.text == "with" and (index == 0 or tokens[index - 1].text == "go"):
            yield ScriptFinding(
                "with-misplaced", "error", token.line, token.column, "This `with` belongs to no statement.", 9
            )


class MPageStatus(StrEnum):
    """How a call of an MPage ended."""

    SUCCESS = "success"
    NO_DATA = "no-data"
    FAILED = "failed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class MPageAnswer:
    """`RECORD_DATA.STATUS_DATA.STATUS`, whatever the HTTP status was; `messages` are CCL's inside the answer."""

    status: MPageStatus
    letter: str
    messages: tuple[CclMessage, ...] = ()


def parse_mpage(body: bytes) -> MPageAnswer:
    """Only S is success; Z (nothing found) is assumed to be told apart from F. Never raises."""
    messages = tuple(messages_in(body[:SCRIPT_CHARACTERS_MAX].decode("utf-8", "replace")))
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return MPageAnswer(MPageStatus.FAILED if messages else MPageStatus.UNREADABLE, "", messages)
    status: Any = document
    for name in ("RECORD_DATA", "STATUS_DATA", "STATUS"):
        status = _member(status, name)
    if not isinstance(status, str) or not re.fullmatch(r"[A-Za-z]", status.strip()):
        return MPageAnswer(MPageStatus.UNREADABLE, "", messages)
    letter = status.strip().upper()
    known = {"S": MPageStatus.SUCCESS, "Z": MPageStatus.NO_DATA}
    return MPageAnswer(known.get(letter, MPageStatus.FAILED), letter, messages)


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return None
    return next((inner for key, inner in value.items() if isinstance(key, str) and key.upper() == name), None)
