"""Records, cross-references and the quarantine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.models.paging import PAGE_ITEMS_MAX
from common.models.records import RECORD_TYPES
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, page_body
from sync.ports import QuarantineList, QuarantineRow, RecordQuery, RecordReader

RecordType = Annotated[str, Path(max_length=40, description="patient or appointment")]
_CURSOR_CHARACTERS_MAX: Final = 512


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(
        default=None, max_length=_CURSOR_CHARACTERS_MAX, description="the `next` of the page before"
    )
    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=PAGE_ITEMS_MAX, description="items per page")


class IdentifierSearch(BaseModel):
    """An identifier, exactly; without a system in any."""

    model_config = ConfigDict(extra="forbid")

    system: str | None = Field(default=None, min_length=1, max_length=500)
    value: str = Field(min_length=1, max_length=500)


class RecordSearch(_Search):
    """Which records: everything that is given must hold."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="begins with (family or given name first), without case and diacritics",
    )
    birth_date: str | None = Field(
        default=None, pattern=r"^[0-9]{4}(-[0-9]{2}){0,2}$", description="as stored, e.g. 1970-05-17"
    )
    identifier: IdentifierSearch | None = None
    updated_after: AwareDatetime | None = Field(
        default=None, description="changed after this instant, in the order of change"
    )


class CrossReferenceSearch(_Search):
    """Which cross-references: everything that is given must hold."""

    integration_id: str | None = Field(default=None, max_length=40)
    record_type: str | None = Field(default=None, max_length=40)
    external_id: str | None = Field(default=None, min_length=1, max_length=256)
    record_id: str | None = Field(default=None, max_length=40)


def add_routes(api: APIRouter, reader: RecordReader, quarantine: QuarantineList) -> None:
    """`/records`, `/cross-references`, `/quarantine`."""

    @api.get("/records", summary="Record types and their counts")
    async def types(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """How many records there are of each type."""
        counts = await reader.counts(caller.tenant)
        return page_body([{"type": name, "count": count} for name, count in counts.items()], None)

    @api.post("/records/{record_type}:search", summary="Search records")
    async def search(
        record_type: RecordType, body: RecordSearch, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """By name, birth date, identifier or time of change; the search is audited."""
        query = RecordQuery(
            name=body.name,
            birth_date=body.birth_date,
            identifier_system=body.identifier.system if body.identifier else None,
            identifier_value=body.identifier.value if body.identifier else None,
            updated_after=body.updated_after,
        )
        page = await reader.search(caller, _known_type(record_type), query, body.cursor, body.limit)
        return page_body(page.items, page.next)

    @api.get("/records/{record_type}/{record_id}", summary="One record")
    async def read(
        record_type: RecordType, record_id: str, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """A record in its newest version; the reading is audited."""
        found = await reader.get(caller, _known_type(record_type), check_id(record_id, "rec"))
        response.headers["ETag"] = etag(found["version"])
        return dict(found)

    @api.get("/records/{record_type}/{record_id}/versions", summary="Versions of a record")
    async def versions(
        record_type: RecordType,
        record_id: str,
        caller: Annotated[Caller, Depends(caller_of)],
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Every version with its origin and what it changed, newest first; the reading is audited."""
        checked = check_id(record_id, "rec")
        page = await reader.versions(caller, _known_type(record_type), checked, cursor, limit)
        return page_body(page.items, page.next)

    @api.post("/cross-references:search", summary="Search cross-references")
    async def cross_references(
        body: CrossReferenceSearch, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Which record of ours is which resource of a PMS."""
        wanted = body.model_dump(exclude={"cursor", "limit"}, exclude_none=True)
        page = await reader.cross_references(caller, wanted, body.cursor, body.limit)
        return page_body(page.items, page.next)

    @api.get("/quarantine", summary="Quarantined rows")
    async def quarantined(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        state: Annotated[str | None, Query(pattern="^(open|resolved)$", description="open or resolved")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Rows that were not taken: which rule, which class of value, how often; never their contents."""
        page = await quarantine.list(caller.tenant, integration_id, state, cursor, limit)
        return page_body([_quarantine_json(row) for row in page.items], page.next)


def _known_type(record_type: str) -> str:
    if record_type not in RECORD_TYPES:
        raise SuiteError("record.type-unknown", f"Types: {', '.join(RECORD_TYPES)}.")
    return record_type


def _quarantine_json(row: QuarantineRow) -> dict[str, Any]:
    return {**asdict(row), "created_at": instant_text(row.created_at), "updated_at": instant_text(row.updated_at)}
