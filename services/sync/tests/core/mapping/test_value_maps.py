"""Value maps: CSV in and out, lines with mistakes named, suggestions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.mapping.value_map import ValueMapRow, value_map_of
from sync.core.mapping.value_map_csv import read_value_map, suggestions, write_value_map

HEADER = "source_system,source_code,display,target_code\r\n"


def test_lines_with_a_mistake_are_named_and_the_others_kept() -> None:
    text = (
        HEADER + "s,OV,Office visit,office\r\n,,,x\r\n\r\ns,ov,Again,office\r\ns,NP,New patient\r\ns,FU,Follow-up,\r\n"
    )
    rows, found = read_value_map("\ufeff" + text)
    assert rows == (ValueMapRow("s", "OV", "Office visit", "office"),)
    assert [(each.row, each.column, each.code) for each in found] == [
        (3, "source_code", "value-map.empty"),
        (5, "source_code", "value-map.twice"),
        (6, "line", "value-map.cells"),
        (7, "target_code", "value-map.empty"),
    ]


def test_columns_may_stand_in_any_order_but_none_may_be_missing() -> None:
    rows, found = read_value_map("target_code,display,source_code,source_system\nT,D,C,S\n")
    assert (rows, found) == ((ValueMapRow("S", "C", "D", "T"),), ())
    assert [each.code for each in read_value_map("source_code,target_code\nC,T\n")[1]] == ["value-map.header"]
    assert [each.code for each in read_value_map("")[1]] == ["value-map.header"]


CELL = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), max_size=8)
FILLED = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=8)
ROWS = st.lists(
    st.builds(ValueMapRow, CELL, FILLED, CELL, FILLED),
    max_size=5,
    unique_by=lambda row: (row.source_system, row.source_code.casefold()),
)


@given(ROWS)
def test_what_is_written_is_read_back(rows: list[ValueMapRow]) -> None:
    assert read_value_map(write_value_map(rows)) == (tuple(rows), ())


@given(st.text(max_size=60))
def test_no_file_raises(text: str) -> None:
    rows, found = read_value_map(HEADER + text)
    assert len(rows) + len(found) >= 0
    assert all(row.source_code and row.target_code for row in rows)


def test_a_code_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="row 2"):
        value_map_of([ValueMapRow("", "A", "", "1"), ValueMapRow("", "a ", "", "2")])


def test_suggestions_are_the_most_alike_or_none() -> None:
    targets = [("office", "Office visit"), ("phone", "Telephone call"), ("new", "New patient visit")]
    assert suggestions("VISIT OFFICE", targets)[0] == ("office", 100.0)
    assert suggestions("xyzzy", targets) == []
