"""Content hashes: how a source that has no `lastUpdated` shows that something changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from common.models.records import Record

_HASH_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What a source's resource was when it was seen last: a hash per field, and the identifier systems it carried."""

    fields: Mapping[str, str] = field(default_factory=dict)
    systems: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        """One hash over all fields."""
        return digest(dict(self.fields))

    def as_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {"fields": dict(self.fields), "systems": list(self.systems)}


def seen_of_json(stored: Mapping[str, Any]) -> Seen:
    """What `as_json` stored."""
    return Seen(dict(stored["fields"]), tuple(stored["systems"]))


def seen_of(record: Record) -> Seen:
    """The fingerprint of a mapped resource."""
    systems = sorted({identifier.system for identifier in record.identifiers if identifier.system})
    return Seen({name: digest(value) for name, value in record.document().items()}, tuple(systems))


def digest(value: Any) -> str:
    """SHA-256 (shortened to 128 bits) of the value's canonical JSON: sorted keys, no spaces."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, a number beyond 64 bits: JSON to us, if not to orjson
        plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        text = plain.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:_HASH_CHARACTERS]


def page_digest(rows: Iterable[str]) -> str:
    """One hash over the rows of a page, in order."""
    return digest(list(rows))
