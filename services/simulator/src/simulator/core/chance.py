"""Repeatable chance: every choice is a function of a seed and of what it is for, never of the order of the calls."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def number(seed: int, *purpose: object) -> int:
    """A 64-bit number for a purpose."""
    text = "\x1f".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def below(limit: int, seed: int, *purpose: object) -> int:
    """A number from 0 up to, not including, `limit`."""
    return number(seed, *purpose) % limit


def choice(options: Sequence[T], seed: int, *purpose: object) -> T:
    """One of the options."""
    return options[below(len(options), seed, *purpose)]


def percent(share: int, seed: int, *purpose: object) -> bool:
    """True for `share` of a hundred purposes."""
    return below(100, seed, *purpose) < share


def epic_id(seed: int, *purpose: object) -> str:
    """An id as Epic's FHIR server makes them: `e` and 23 characters of the URL-safe base64 alphabet."""
    text = "\x1f".join(map(str, (seed, *purpose)))
    digest = hashlib.blake2b(text.encode(), digest_size=18).digest()
    # FHIR ids know `-` and `.` but no `_` (R4 §2.24.0.1).
    return "e" + base64.urlsafe_b64encode(digest).decode().replace("_", ".")[:23]
