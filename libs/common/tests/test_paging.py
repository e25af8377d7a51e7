"""Cursors: opaque texts that continue a list, and what becomes of those that somebody made up."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData

from common.models.access import Role
from common.models.clock import parse_instant
from common.models.errors import SuiteError
from common.models.paging import decode_cursor, encode_cursor
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.testing import make_test_runtime, running

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


def cursor_of(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(TEXT, st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.none())
def test_values_come_back(text: str, whole: int, number: float, nothing: None) -> None:
    cursor = encode_cursor([text, whole, number, nothing])
    assert decode_cursor(cursor, (str, int, (int, float), type(None))) == [text, whole, number, nothing]
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")


@given(st.text(max_size=100))
def test_a_made_up_text_is_refused_or_read_but_never_fails(text: str) -> None:
    try:
        (value,) = decode_cursor(text, (str,))
    except SuiteError as refused:
        assert (refused.code, refused.row.status) == ("request.bad-cursor", 400)  # noqa: PT017
    else:
        assert isinstance(value, str)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!!",
        "abc",
        "é",
        encode_cursor(["x"]) + "!",
        encode_cursor(["x"]) + "\n",
        encode_cursor(["x", "y"]),
        encode_cursor([]),
        encode_cursor([1]),
        encode_cursor([None]),
        cursor_of("x"),
        cursor_of({"0": "x"}),
        cursor_of([["x"]]),
        cursor_of([True]),
        cursor_of(["a\x00b"]),
        base64.urlsafe_b64encode(b'["\\ud800"]').decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
        encode_cursor(["x" * 600]),
    ],
    ids=range(19),
)
def test_a_tampered_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(SuiteError) as refused:
        decode_cursor(cursor, (str,))
    assert refused.value.code == "request.bad-cursor"


@pytest.mark.parametrize(("value", "kind"), [(True, int), (2**63, int), (-(2**64), int), (10**300, int), ("1", int)])
def test_a_number_no_database_takes_is_refused(value: Any, kind: type) -> None:
    with pytest.raises(SuiteError):
        decode_cursor(cursor_of([value]), (kind,))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    cursor = base64.urlsafe_b64encode(f"[{text}]".encode()).decode()
    with pytest.raises(SuiteError):
        decode_cursor(cursor, (float,))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01", "soon", ""])
def test_an_instant_out_of_the_calendar_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"instant|isoformat|Invalid"):
        parse_instant(text)


async def test_a_tampered_cursor_is_a_bad_request_on_a_route(tmp_path: Path) -> None:
    def build(runtime: Runtime) -> Module:
        from fastapi import APIRouter

        return Module("test", "/test", APIRouter(), (), database=runtime.database("test", MetaData(), None))

    async with running(make_test_runtime(tmp_path), build) as up, up.client(Role.TENANT_ADMIN) as client:
        for cursor in (cursor_of([10**30]), cursor_of([-(10**30)]), cursor_of([1.5]), "x" * 513, "é"):
            response = await client.get("/test/v1/dead-letters", params={"cursor": cursor})
            assert response.json()["code"] in {"request.bad-cursor", "request.invalid"}, cursor
            response = await client.post("/test/v1/audit:search", json={"cursor": cursor})
            assert response.json()["code"] in {"request.bad-cursor", "request.invalid"}, cursor
        assert (await client.get("/test/v1/dead-letters", params={"cursor": cursor_of([1])})).status_code == 200
