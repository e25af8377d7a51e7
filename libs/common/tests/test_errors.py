"""The error catalogue: every row is whole, and a problem detail says what happened, whose fault, and what next."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from common.models.errors import ERRORS, Fault, FieldError, Retry, SuiteError, problem

ROOT = Path(__file__).resolve().parents[3]
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")


@pytest.mark.parametrize("code", ERRORS)
def test_a_row_is_whole(code: str) -> None:
    row = ERRORS[code]
    assert CODE.fullmatch(code)
    assert HTTPStatus(row.status) >= HTTPStatus.BAD_REQUEST
    assert row.title[0].isupper()
    assert not row.title.endswith(".")
    assert row.next_step.endswith(".")
    if row.status == HTTPStatus.SERVICE_UNAVAILABLE:
        assert row.retry is Retry.TRANSIENT, "503 says: again later"
    if row.fault is Fault.CALLER:
        assert row.status < 500, "a caller's fault is no failure of ours"


def used_codes() -> dict[str, str]:
    """Every code that the sources raise by name, and where."""
    found = {}
    for path in sorted(ROOT.glob("*/*/src/**/*.py")) + sorted(ROOT.glob("suite/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SuiteError":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    found[str(first.value)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    used = used_codes()
    assert len(used) > 30
    assert {code: where for code, where in used.items() if code not in ERRORS} == {}


def test_links_of_problem_details_lead_into_the_document() -> None:
    document = (ROOT / "docs" / "errors.md").read_text("utf-8")
    # GitHub's anchor of a heading: lower case, without punctuation but hyphens
    anchors = {re.sub(r"[^\w\- ]", "", line[4:]).lower() for line in document.splitlines() if line.startswith("### ")}
    links = {code: str(problem(SuiteError(code), request_id="")["type"]).rpartition("#")[2] for code in ERRORS}
    assert {code: link for code, link in links.items() if link not in anchors} == {}
    assert len(set(links.values())) == len(links), "two codes share an anchor"


def test_a_problem_detail_has_the_members_of_rfc_9457_and_ours() -> None:
    error = SuiteError(
        "request.invalid", "1 field(s) are wrong.", fields=[FieldError("/name", "string_too_long", "At most 10.")]
    )
    assert problem(error, request_id="req_1") == {
        "type": "/docs/errors.md#requestinvalid",
        "title": "The request does not fit the schema",
        "status": 422,
        "detail": "1 field(s) are wrong.",
        "code": "request.invalid",
        "fault": "caller",
        "retry": "permanent",
        "next_step": "Correct the fields named in `errors`; each has a JSON pointer.",
        "request_id": "req_1",
        "errors": [{"pointer": "/name", "code": "string_too_long", "detail": "At most 10."}],
    }
    assert not {"detail", "errors"} & set(problem(SuiteError("internal.error"), request_id=""))


def test_only_transient_failures_are_tried_again_by_the_suite() -> None:
    assert SuiteError("bus.unavailable").transient
    assert not SuiteError("internal.error").transient  # ambiguous: a person decides
    assert not SuiteError("request.invalid").transient


def test_a_code_that_is_not_in_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        SuiteError("no.such-code")


def test_the_text_of_a_failure_is_its_code_and_detail() -> None:
    assert str(SuiteError("run.not-found")) == "run.not-found: There is no such run"
    assert str(SuiteError("run.already-running", "It is run_1.")) == "run.already-running: It is run_1."
