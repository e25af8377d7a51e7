"""CCL and dictionaries through the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auth_gateway.module import build
from common.models.access import Role
from common.testing import RunningSuite, make_test_runtime, running

CCL = "/auth/v1/vendors/cerner/ccl:check"
COMPARE = "/auth/v1/vendors/unity/dictionaries:compare"


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        yield up


async def post(suite: RunningSuite, path: str, body: object) -> tuple[int, dict]:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post(path, json=body)
        return response.status_code, response.json()


async def test_a_script_is_checked_with_places(suite: RunningSuite) -> None:
    status, found = await post(suite, CCL, {"script": "create program p\nset x = (1\nend go"})
    assert (status, found["status"]) == (200, "failed")
    assert [(row["rule"], row["line"], row["column"], row["ccl_number"]) for row in found["findings"]] == [
        ("variable-undeclared", 2, 5, 151), ("bracket-open", 2, 9, 6),
    ]  # fmt: skip
    assert any("columns" in text for text in found["not_checked"])
    status, found = await post(suite, CCL, {"script": "create program p\ndeclare x = i4\nset x = 1\nend go"})
    assert (status, found["status"], found["findings"]) == (200, "passed", [])


async def test_an_mpage_that_failed_with_http_200(suite: RunningSuite) -> None:
    failed = {"RECORD_DATA": {"STATUS_DATA": {"STATUS": "F"}}}
    assert (await post(suite, CCL, {"answer": failed}))[1]["answer_status"] == "failed"
    good = {"RECORD_DATA": {"STATUS_DATA": {"STATUS": "S"}}}
    assert (await post(suite, CCL, {"answer": good}))[1]["status"] == "passed"
    text = (await post(suite, CCL, {"answer": "%CCL-E-43-P(1,2)x {Kanarienvogel}y"}))[1]
    assert (text["status"], text["messages"][0]["number"]) == ("failed", 43)
    assert "Kanarienvogel" not in str(text)
    warned = (await post(suite, CCL, {"output": "%CCL-W-44-P(1,2)x {a}b"}))[1]
    assert (warned["status"], warned["messages"][0]["severity"]) == ("passed", "warning")


async def test_a_dictionary_is_compared(suite: RunningSuite) -> None:
    used = [{"code": "NP", "display": "New", "used_by": "visit types"}, {"code": "X", "display": "Follow up"}]
    entries = [{"code": "NP", "display": "New"}, {"code": "FU", "display": "Follow-up"}]
    given = (await post(suite, COMPARE, {"entries": entries, "used": used}))[1]
    raw = [{"getdictionaryinfo": [{"Code": "NP", "Description": "New"}, {"Code": "FU", "Description": "Follow-up"}]}]
    read = (await post(suite, COMPARE, {"answer": raw, "used": used}))[1]
    assert given == read
    assert (given["status"], given["entries"], given["used"]) == ("failed", 2, 2)
    assert [(row["kind"], row["code"], row["proposed"]) for row in given["mismatches"]] == [
        ("unknown", "X", {"code": "FU", "display": "Follow-up"})
    ]
    assert (await post(suite, COMPARE, {"entries": entries, "used": []}))[1]["status"] == "passed"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (CCL, {}, ""),
        (CCL, {"script": 1}, "/script"),
        (CCL, {"script": "x", "more": 1}, "/more"),
        (COMPARE, {"used": []}, "/entries"),
        (COMPARE, {"entries": [], "answer": [], "used": []}, "/entries"),
        (COMPARE, {"answer": [{"Error": "x"}], "used": []}, "/answer"),
        (COMPARE, {"entries": [{"code": ""}], "used": []}, "/entries/0/code"),
    ],
)
async def test_wrong_input_is_told_by_field(suite: RunningSuite, path: str, body: dict, pointer: str) -> None:
    status, found = await post(suite, path, body)
    assert (status, found["code"]) == (422, "request.invalid")
    assert pointer in [row["pointer"] for row in found["errors"]]
