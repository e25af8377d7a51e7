"""`WWW-Authenticate` as a Bearer challenge (RFC 6750 §3): its parameters, read loosely.

Vendors add parameters of their own (`code`, `subcode`), write them in any order and quote them or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PARAMETER: Final = re.compile(r'([A-Za-z][A-Za-z0-9_-]{0,63})\s*=\s*(?:"((?:[^"\\]|\\.){0,2000})"|([^\s,"]{1,2000}))')
_CHARACTERS_MAX: Final = 8_000


def parse_challenge(header: str) -> Mapping[str, str]:
    """The parameters of a challenge, names in lower case, the first of each; empty when there are none."""
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(header[:_CHARACTERS_MAX]):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    return found
