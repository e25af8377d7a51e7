"""Editing a message: what is changed, what comes out, and which fields differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import hl7v2
from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from hl7v2 import mllp

CHANGES_MAX: Final = 200
PATHS_SHOWN_MAX: Final = 500

# A line that is no segment may hold anything, and paths are kept and shown.
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}").fullmatch
_NO_SEGMENT: Final = "?"


@dataclass(frozen=True, slots=True)
class Change:
    """A value to write at a path; None writes the null (`""`)."""

    path: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """What a person wants: changes of fields, or a whole new body."""

    changes: tuple[Change, ...] = ()
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Edited:
    """A message before and after, and the paths that differ."""

    before: bytes
    after: bytes
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EditRecord:
    """What is kept of an edit: message `id` was made of message `edited_from`. `changed` are paths, never values."""

    id: str
    tenant: str
    edited_from: str
    connection_id: str
    changed: tuple[str, ...]
    author: str
    reason: str
    edited_at: datetime

    def as_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "edited_from": self.edited_from,
            "target": {
                "kind": "connection" if self.connection_id else "inbound",
                "connection_id": self.connection_id or None,
            },
            "changed": list(self.changed),
            "author": self.author,
            "reason": self.reason,
            "edited_at": instant_text(self.edited_at),
        }


def apply_edit(before: bytes, edit: Edit) -> Edited:
    """The message after an edit; a field that is not changed keeps its bytes.

    Raises SuiteError `request.invalid` naming the change that cannot be made, `hl7.unparsable` when fields of bytes
    that are no message are to be changed, `message.edit-unparsable`, `message.edit-unchanged`,
    `hl7.frame-bytes-inside`.
    """
    after = edit.body if edit.body is not None else _changed(before, edit.changes)
    message = _checked(after)
    if after == before:
        raise SuiteError("message.edit-unchanged")
    if mllp.START in after or mllp.END in after:
        raise SuiteError("hl7.frame-bytes-inside", "The message as edited.")
    return Edited(before, after, tuple(changed_paths(before, message))[:PATHS_SHOWN_MAX])


def _changed(before: bytes, changes: Sequence[Change]) -> bytes:
    try:
        message = hl7v2.parse(before)
    except hl7v2.ParseError as error:
        raise SuiteError("hl7.unparsable", "No field of it can be changed; send a whole new body.") from error
    wrong = []
    for index, change in enumerate(changes):
        try:
            message.set(change.path, change.value)
        except ValueError:
            wrong.append(_why(index, change, message.codec))
    if wrong:
        raise SuiteError("request.invalid", f"{len(wrong)} change(s) cannot be made.", fields=wrong)
    return bytes(message)


def _why(index: int, change: Change, codec: str) -> FieldError:
    """Why a change cannot be made; what `set` says of it may hold the value."""
    try:
        (change.value or "").encode(codec)
    except UnicodeError:
        expected = f"The message's character set ({codec}) cannot write it."
        return FieldError(f"/changes/{index}/value", "encoding", expected)
    expected = "Expected a place in a segment of the message, e.g. PID-5.1; MSH-1 and MSH-2 stay."
    return FieldError(f"/changes/{index}/path", "path", expected)


def _checked(after: bytes) -> hl7v2.Message:
    try:
        message = hl7v2.parse(after)
    except hl7v2.ParseError as error:
        raise SuiteError("message.edit-unparsable", f"{error.code}.") from error
    headers = sum(name in {"MSH", "FHS", "BHS"} for name in message.segment_names())
    if headers != 1:
        raise SuiteError("message.edit-unparsable", f"{headers} headers (MSH, BHS, FHS).")
    if not message.type[0]:
        raise SuiteError("message.edit-unparsable", "MSH-9.1 is empty.")
    return message


def changed_paths(before: bytes, after: hl7v2.Message) -> list[str]:
    """Fields that differ (`PID-5`), segments that came (`+NTE[2]`) or went (`-NTE[2]`), in the order of the message.

    Segments are compared by name and occurrence; of bytes that were no message everything has changed (`*`).
    """
    try:
        was = _fields(hl7v2.parse(before))
    except hl7v2.ParseError:
        return ["*"]
    now = _fields(after)
    found = []
    for key, fields in now.items():
        old = was.get(key)
        if old is None:
            found.append(f"+{key}")
            continue
        first = 1 if key.split("[")[0] in {"MSH", "BHS", "FHS"} else 0
        longest = range(1, max(len(fields), len(old)))
        found += [f"{key}-{number + first}" for number in longest if _at(fields, number) != _at(old, number)]
    return found + [f"-{key}" for key in was if key not in now]


def _at(fields: Sequence[bytes], number: int) -> bytes:
    return fields[number] if number < len(fields) else b""


def _fields(message: hl7v2.Message) -> dict[str, list[bytes]]:
    """The fields of each segment as bytes, under `PID` or `OBX[3]`."""
    separator = message.delimiters.field.encode(message.inner_codec)
    counted: dict[str, int] = {}
    found: dict[str, list[bytes]] = {}
    for index, text in enumerate(message.segment_names()):
        name = text if _SEGMENT(text) else _NO_SEGMENT
        counted[name] = counted.get(name, 0) + 1
        key = name if counted[name] == 1 else f"{name}[{counted[name]}]"
        found[key] = message.text_at(index).split(separator)
    return found
