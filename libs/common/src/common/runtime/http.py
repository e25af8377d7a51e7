"""Shared pieces of every HTTP API: ETags, paging, the body limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from common.models.errors import SuiteError
from common.models.paging import PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX

Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX, description="items per page")]
CursorText = Annotated[str | None, Query(max_length=512, description="the `next` of the page before")]
LIMIT_DEFAULT: Final = PAGE_ITEMS_DEFAULT


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


def limited(receive: Receive, bytes_max: int) -> Receive:
    """`receive` that refuses a body over the limit, also one that came without a Content-Length."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > bytes_max:
                raise HTTPException(413)
        return message

    return counted
