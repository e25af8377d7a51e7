"""JSON Patch (RFC 6902) on a resource: add, replace, remove, test, copy, move."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

OPERATIONS_MAX: Final = 100


class PatchError(Exception):
    """The patch is none, or does not fit; the text says why, without values."""


def apply_patch(document: dict[str, Any], operations: Any) -> dict[str, Any]:
    """A changed copy; raises PatchError."""
    if not isinstance(operations, list) or not 0 < len(operations) <= OPERATIONS_MAX:
        raise PatchError(f"a list of 1 to {OPERATIONS_MAX} operations is expected")
    changed: Any = copy.deepcopy(document)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise PatchError("an operation is an object with op and path")
        changed = _apply(changed, operation)
    if not isinstance(changed, dict):
        raise PatchError("the result is no resource")
    return changed


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation.get("op"), _pointer(operation["path"])
    if name in {"add", "replace", "test"} and "value" not in operation:
        raise PatchError("value is missing")
    if name == "test":
        if _get(document, path) != operation["value"]:
            raise PatchError("a test failed")
        return document
    if name in {"copy", "move"}:
        source = _pointer(operation.get("from"))
        value = copy.deepcopy(_get(document, source))
        if name == "move":
            _remove(document, source)
        return _add(document, path, value)
    if name == "add":
        return _add(document, path, operation["value"])
    if name == "replace":
        _remove(document, path)
        return _add(document, path, operation["value"])
    if name == "remove":
        _remove(document, path)
        return document
    raise PatchError("op is none of add, replace, remove, test, copy, move")


def _pointer(text: Any) -> list[str]:
    """The parts of a JSON Pointer (RFC 6901)."""
    if not isinstance(text, str) or not text.startswith("/"):
        raise PatchError("a path begins with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    if isinstance(holder, list):
        return holder[_index(holder, part, len(holder) - 1)]
    raise PatchError("a path leads nowhere")


def _index(holder: Sequence[Any], part: str, highest: int) -> int:
    if not (part.isascii() and part.isdecimal() and len(part) <= 4 and int(part) <= highest):
        raise PatchError("a path leads nowhere")
    return int(part)


def _get(document: Any, path: Sequence[str]) -> Any:
    for part in path:
        document = _child(document, part)
    return document


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    holder = _get(document, path[:-1])
    if isinstance(holder, dict):
        holder[path[-1]] = value
    elif isinstance(holder, list):
        at = len(holder) if path[-1] == "-" else _index(holder, path[-1], len(holder))
        holder.insert(at, value)
    else:
        raise PatchError("a path leads nowhere")
    return document


def _remove(document: Any, path: Sequence[str]) -> None:
    holder = _get(document, path[:-1])
    _child(holder, path[-1])
    if isinstance(holder, dict):
        del holder[path[-1]]
    else:
        del holder[int(path[-1])]
