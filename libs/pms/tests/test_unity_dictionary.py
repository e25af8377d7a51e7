"""Dictionaries: read in any product's columns, compared with what maps use."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms.unity import parse_answer
from pms.unity_dictionary import COLUMNS, Entry, Use, compare, parse_dictionary, parse_dictionary_names

ENTRIES = (
    Entry("NP", "New Patient Visit"),
    Entry("FU", "Follow-up Visit"),
    Entry("OLD", "Nurse Visit", active=False),
    Entry("NV", "Nurse visit"),
    Entry("D1", "Double"),
    Entry("D2", "Double"),
)


def answer(action: str, *rows: dict) -> object:
    return parse_answer(json.dumps([{f"{action}info": list(rows)}]).encode())


@pytest.mark.parametrize(
    ("use", "kind", "proposed"),
    [
        (Use("NP", "New patient visit", "m"), None, None),
        (Use("NP", "", "m"), None, None),
        (Use("np", "New Patient Visit", "m"), "other-case", "NP"),
        (Use("FU", "Telephone call", "m"), "renamed", "FU"),
        (Use("OLD", "Nurse Visit", "m"), "inactive", "NV"),
        (Use("XX", "Follow-up  visit", "m"), "unknown", "FU"),
        (Use("XX", "Followup Visits", "m"), "unknown", "FU"),
        (Use("XX", "Surgery", "m"), "unknown", None),
        (Use("XX", "Double", "m"), "unknown", None),
        (Use("XX", "", "m"), "unknown", None),
    ],
)
def test_mismatches_by_entry(use: Use, kind: str | None, proposed: str | None) -> None:
    found = compare(ENTRIES, [use])
    assert [row.kind for row in found] == ([kind] if kind else [])
    if found:
        shown = found[0].as_json()
        assert (shown["proposed"] or {}).get("code") == proposed
        assert shown["used_by"] == "m"
        assert shown["next_step"].endswith(".")


@pytest.mark.parametrize("name", [name for row in COLUMNS if row.meaning == "code" for name in row.names])
def test_a_code_is_found_under_every_name(name: str) -> None:
    found = parse_dictionary(answer("getdictionary", {name.title(): "A", "Entry_Name": "Alpha", "Is Active": "N"}))  # type: ignore[arg-type]
    assert found == (Entry("A", "Alpha", active=False),)


def test_inactive_is_read_both_ways_and_numbers_are_codes() -> None:
    rows = [{"ID": 7, "Name": "x", "Inactive": "Y"}, {"ID": 8, "Inactive": "N"}, {"Name": "no code"}]
    assert parse_dictionary(answer("getdictionary", *rows)) == (Entry("7", "x", active=False), Entry("8"))  # type: ignore[arg-type]


def test_the_list_of_dictionaries() -> None:
    listed = answer(
        "getlistofdictionaries", {"TableName": "Appt_Type"}, {"Name": "Location"}, {"TableName": "Appt_Type"}
    )
    assert parse_dictionary_names(listed) == ("Appt_Type", "Location")  # type: ignore[arg-type]
    assert parse_dictionary(listed) is None  # type: ignore[arg-type]
    assert parse_dictionary_names(parse_answer(b'[{"Error":"x"}]')) is None


NAMES = st.sampled_from(["Code", "Name", "Active", "x"])


@given(
    st.lists(st.dictionaries(NAMES, st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none())), max_size=5),
    st.lists(st.builds(Use, st.text(max_size=5), st.text(max_size=5), st.just("m")), max_size=5),
)
def test_any_rows_are_compared(rows: list, uses: list) -> None:
    entries = parse_dictionary(answer("getdictionary", *rows))  # type: ignore[arg-type]
    assert entries is not None
    assert len(compare(entries, uses)) <= len(uses)
