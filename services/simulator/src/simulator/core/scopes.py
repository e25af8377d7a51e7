"""SMART scopes, v1 (`system/Patient.read`) and v2 (`system/Patient.rs`), as far as they decide about reading."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SCOPE: Final = re.compile(r"(?:system|user)/(\*|[A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)(?:\?.*)?")


def _parse(scope: str) -> tuple[str, frozenset[str]] | None:
    match = _SCOPE.fullmatch(scope)
    if match is None or not match[2]:
        return None
    rights = {"read": "rs", "write": "cud", "*": "cruds"}.get(match[2], match[2])
    return match[1], frozenset(rights)


def allows(scopes: Iterable[str], resource: str, right: str) -> bool:
    """Whether scopes give the right (`r` read, `s` search) to a resource type."""
    for scope in scopes:
        parsed = _parse(scope)
        if parsed and parsed[0] in {"*", resource} and right in parsed[1]:
            return True
    return False


def is_v1(scope: str) -> bool:
    """Whether a scope is of SMART v1: `.read`, `.write` or `.*`."""
    return scope.rpartition(".")[2] in {"read", "write", "*"}


def granted(requested: Iterable[str], registered: Iterable[str]) -> tuple[str, ...]:
    """The requested scopes that the registration covers whole; all registered ones when none was requested."""
    held, wanted = tuple(registered), tuple(requested)
    return tuple(scope for scope in wanted if _covered(scope, held)) if wanted else held


def _covered(scope: str, held: tuple[str, ...]) -> bool:
    parsed = _parse(scope)
    return parsed is not None and all(allows(held, parsed[0], right) for right in parsed[1])
