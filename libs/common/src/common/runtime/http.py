"""Shared pieces of every HTTP API: ETags, paging, the limits of a body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import Query, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from common.models.errors import SuiteError
from common.models.paging import PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX

Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX, description="items per page")]
CursorText = Annotated[str | None, Query(max_length=512, description="the `next` of the page before")]
LIMIT_DEFAULT: Final = PAGE_ITEMS_DEFAULT
JSON_DEPTH_MAX: Final = 64
# An escaped NUL, and not the end of an escaped backslash before the letters u0000.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class PageBody(BaseModel):
    """A page as every list answers it."""

    items: list[Any]
    next: str | None = None


def page_body(items: Sequence[Any], next_cursor: str | None) -> dict[str, Any]:
    """The body of a page; `next` is null at the end."""
    return {"items": list(items), "next": next_cursor}


def etag(version: int) -> str:
    """The ETag of a version (strong, RFC 9110 §8.8.3)."""
    return f'"{version}"'


def if_match(request: Request, version: int) -> None:
    """Refuses a change to anything but this version: `request.precondition-required` (428) or `request.version-
    changed` (412)."""
    header = request.headers.get("if-match")
    if header is None:
        raise SuiteError("request.precondition-required")
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    if "*" not in tags and etag(version) not in tags:
        raise SuiteError("request.version-changed", headers={"ETag": etag(version)})


class RefusedBody(HTTPException):
    """A body that is not read further, and why.

    An HTTPException, because the framework turns any other that it meets while it reads a body into a 400 of its own.
    """

    def __init__(self, problem: SuiteError) -> None:
        super().__init__(problem.row.status)
        self.problem = problem


def too_large(bytes_max: int) -> SuiteError:
    """`request.too-large`, with the limit."""
    return SuiteError("request.too-large", f"The limit is {bytes_max} bytes (PS_BODY_BYTES_MAX).")


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is JSON's or of a type built on it (RFC 6839 §3.1)."""
    kind = (content_type or "").split(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def limited(receive: Receive, bytes_max: int, *, json: bool = False) -> Receive:
    """`receive` that refuses a body over the limit, also one that came without a Content-Length, and a whole body of
    JSON that breaks the rules of `check_json`."""
    received = 0
    parts: list[bytes] = []

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            part = message.get("body", b"")
            received += len(part)
            if received > bytes_max:
                raise RefusedBody(too_large(bytes_max))
            if json:
                parts.append(part)
                if not message.get("more_body", False):
                    check_json(b"".join(parts))
                    parts.clear()
        return message

    return counted


def check_json(body: bytes) -> None:
    """Raises RefusedBody `request.malformed` for JSON that could be read but not kept or answered again: I-JSON
    (RFC 7493 §2.1, §2.2) rules out lone surrogates, NaN and Infinity, PostgreSQL's text the NUL, and our serializers
    have a depth. An empty body is none."""
    if not body:
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedBody(
            SuiteError("request.malformed", f"Reading stopped at line {error.lineno}, column {error.colno}.")
        ) from error
    if b"\\u0000" in body and _ESCAPED_NUL.search(body):
        raise RefusedBody(SuiteError("request.malformed", "Text may not hold the character U+0000."))
    if _is_deeper(value, JSON_DEPTH_MAX):
        raise RefusedBody(SuiteError("request.malformed", f"Nested deeper than {JSON_DEPTH_MAX} levels."))


def _is_deeper(value: Any, depth_max: int) -> bool:
    level = [value]
    for _ in range(depth_max):
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
