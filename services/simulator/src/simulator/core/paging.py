"""Pages of a search, with the quirks to be met in the field: `total` is the page's size, a page may be short and still
have a following one, and an empty result carries an entry with `search.mode=outcome`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from simulator.core.outcomes import outcome

PAGE_RECORDS_DEFAULT: Final = 100
PAGE_RECORDS_MAX: Final = 999
PAGE_LIFE_S: Final = 3600
_SHORT_EVERY: Final = 3
_SHORT_RECORDS_MIN: Final = 5
_TOKEN_CHARACTERS_MAX: Final = 8_000


@dataclass(frozen=True, slots=True)
class PageToken:
    """What an opaque `next` link stands for: a search, how far it was read, and when it began (Unix seconds)."""

    resource: str
    parameters: Mapping[str, Sequence[str]]
    offset: int
    page: int
    begun_at: int

    def encode(self) -> str:
        """The text for the link. Kept by the client, so that a paging session outlives a restart of this server."""
        value = [
            self.resource,
            {name: list(values) for name, values in self.parameters.items()},
            self.offset,
            self.page,
        ]
        text = json.dumps([*value, self.begun_at], separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_token(text: str, now: datetime) -> PageToken | None:
    """The token of a link; None when it is none of ours or its session has expired."""
    if len(text) > _TOKEN_CHARACTERS_MAX:
        return None
    try:
        resource, parameters, offset, page, begun_at = json.loads(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        )
        token = PageToken(
            str(resource),
            {str(name): [str(value) for value in values] for name, values in parameters.items()},
            int(offset),
            int(page),
            int(begun_at),
        )
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        return None
    fresh = 0 <= now.timestamp() - token.begun_at <= PAGE_LIFE_S
    return token if fresh and token.offset >= 0 and token.page >= 0 else None


def page_records(parameters: Mapping[str, Sequence[str]]) -> int:
    """Records per page that a search asks for, within the server's bounds."""
    text = (parameters.get("_count") or [""])[0]
    if not text.isdecimal():
        return PAGE_RECORDS_DEFAULT
    return min(max(int(text[:6]), 1), PAGE_RECORDS_MAX)


def bundle(
    base_url: str, found: Sequence[Callable[[], dict[str, Any]]], token: PageToken, own_link: str
) -> dict[str, Any]:
    """The searchset of one page."""
    size = page_records(token.parameters)
    if token.page % _SHORT_EVERY == 1 and size >= _SHORT_RECORDS_MIN:
        size -= 1
    rows = [make() for make in found[token.offset : token.offset + size]]
    links = [{"relation": "self", "url": own_link}]
    offset = token.offset + size
    if offset < len(found):
        following = PageToken(token.resource, token.parameters, offset, token.page + 1, token.begun_at)
        links.insert(0, {"relation": "next", "url": f"{base_url}/{token.resource}?sessionID={following.encode()}"})
    entries: list[dict[str, Any]] = [
        {
            "fullUrl": f"{base_url}/{row['resourceType']}/{row['id']}",
            "resource": row,
            "search": {"mode": "match"},
        }
        for row in rows
    ]
    if not found:
        entries.append({"resource": outcome("no-results"), "search": {"mode": "outcome"}})
    return {"resourceType": "Bundle", "type": "searchset", "total": len(rows), "link": links, "entry": entries}
