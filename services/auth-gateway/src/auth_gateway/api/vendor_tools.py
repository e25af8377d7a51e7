"""Tools for one vendor: CCL scripts and messages of Oracle Health, dictionaries of Unity. Nothing given is kept."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from common.models.errors import FieldError, SuiteError
from common.runtime.authentication import Caller, caller_of
from pms.ccl import NOT_CHECKED, SCRIPT_CHARACTERS_MAX, MPageStatus, check_script, messages_in, parse_mpage
from pms.unity import parse_answer
from pms.unity_dictionary import ENTRIES_MAX, Entry, Use, compare, parse_dictionary

Who = Annotated[Caller, Depends(caller_of)]
_USES_MAX: Final = 5_000
_NOT_CHECKED_IN_MESSAGES: Final = "the free text of messages"


class CclCheck(BaseModel):
    """At least one of the three, pasted."""

    model_config = ConfigDict(extra="forbid")

    script: str | None = Field(default=None, max_length=SCRIPT_CHARACTERS_MAX, description="a CCL script")
    output: str | None = Field(
        default=None, max_length=SCRIPT_CHARACTERS_MAX, description="text that holds CCL messages (%CCL-E-9-…)"
    )
    answer: dict[str, Any] | str | None = Field(default=None, description="what an MPage's call answered")


class DictionaryEntry(BaseModel):
    """One entry of a dictionary."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=200)
    display: str = Field(default="", max_length=500)
    active: bool = True


class DictionaryUse(BaseModel):
    """A code that a value map or mapping uses."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=200)
    display: str = Field(default="", max_length=500, description="the entry's name when the map was made")
    used_by: str = Field(default="", max_length=200, description="name of the value map or mapping")


class DictionaryComparison(BaseModel):
    """Either `entries`, or Unity's answer to GetDictionary as it came; and what is used of it."""

    model_config = ConfigDict(extra="forbid")

    entries: list[DictionaryEntry] | None = Field(default=None, max_length=ENTRIES_MAX)
    answer: list[Any] | dict[str, Any] | None = None
    used: list[DictionaryUse] = Field(max_length=_USES_MAX)


def router() -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: vendors"])

    @api.post("/vendors/cerner/ccl:check", summary="Check a CCL script, CCL messages or an MPage's answer")
    def check_ccl(body: CclCheck, caller: Who) -> dict[str, Any]:
        """Syntax that can be told without a compiler, each finding with line and column; `not_checked` says the rest.

        An MPage's answer is a success only when STATUS_DATA.STATUS is S, whatever its HTTP status was.
        """
        return _ccl(body)

    @api.post("/vendors/unity/dictionaries:compare", summary="Compare a Unity dictionary with what maps use")
    def compare_dictionary(body: DictionaryComparison, caller: Who) -> dict[str, Any]:
        """Mismatches by entry (unknown, inactive, renamed, other case), each with the update proposed."""
        entries = _entries(body)
        uses = [Use(row.code, row.display, row.used_by) for row in body.used]
        found = compare(entries, uses)
        return {
            "status": "failed" if found else "passed",
            "entries": len(entries),
            "used": len(uses),
            "mismatches": [mismatch.as_json() for mismatch in found],
        }

    return api


def _ccl(body: CclCheck) -> dict[str, Any]:
    if body.script is None and body.output is None and body.answer is None:
        raise SuiteError("request.invalid", fields=[FieldError("", "missing", "Give script, output or answer.")])
    findings = [] if body.script is None else [row.as_json() for row in check_script(body.script)]
    messages = [] if body.output is None else messages_in(body.output)
    status = None
    if body.answer is not None:
        raw = body.answer.encode() if isinstance(body.answer, str) else orjson.dumps(body.answer)
        mpage = parse_mpage(raw)
        status, messages = mpage.status, [*messages, *mpage.messages]
    bad = (
        any(row["severity"] == "error" for row in findings)
        or any(row.severity in {"error", "fatal"} for row in messages)
        or status in {MPageStatus.FAILED, MPageStatus.UNREADABLE}
    )
    return {
        "status": "failed" if bad else "passed",
        "findings": findings,
        "messages": [row.as_json() for row in messages],
        "answer_status": status.value if status else None,
        "not_checked": [*(NOT_CHECKED if body.script is not None else ()), _NOT_CHECKED_IN_MESSAGES],
    }


def _entries(body: DictionaryComparison) -> list[Entry]:
    if (body.entries is None) == (body.answer is None):
        raise SuiteError("request.invalid", fields=[FieldError("/entries", "one-of", "Give either entries or answer.")])
    if body.entries is not None:
        return [Entry(row.code, row.display, row.active) for row in body.entries]
    found = parse_dictionary(parse_answer(orjson.dumps(body.answer)))
    if found is None:
        expected = 'Expected Unity\'s answer to GetDictionary: [{"getdictionaryinfo": [...]}].'
        raise SuiteError("request.invalid", fields=[FieldError("/answer", "not-a-dictionary", expected)])
    return list(found)
