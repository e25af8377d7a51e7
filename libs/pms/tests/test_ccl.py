"""CCL: messages, a script's lexical faults each with its place, MPage answers; nothing raised on anything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms.ccl import FINDINGS_MAX, NUMBERS, MPageStatus, check_script, messages_in, parse_mpage

GOOD = """\
; a comment with 'one quote
drop program ps_list:dba go
create program ps_list:dba
prompt "Output" = "MINE"
  with OUTDEV
/* a comment ( with a bracket */
record rec (
  1 qual[*]
    2 person_id = f8
    2 name = vc
  1 cnt = i4
) with protect
declare total = i4 with noconstant(0), protect
set total = 1
select into $OUTDEV p.person_id, name = substring(1, 30, p.name_full_formatted)
from person p
where p.person_id > 0 and p.name = ^O'Neil^
head report
  rec->cnt = 0
detail
  if (rec->cnt < 10)
    rec->cnt = rec->cnt + 1
    stat = alterlist(rec->qual, rec->cnt)
    rec->qual[rec->cnt].person_id = p.person_id
  endif
with nocounter, maxrec = 100
for (i = 1 to 3)
  call echo(build("a", rec->qual[i].name))
endfor
end
go
"""


def test_a_good_script_has_no_finding() -> None:
    assert check_script(GOOD) == []
    assert check_script("select p.person_id from person p with maxrec = 1 go") == []


@pytest.mark.parametrize(
    ("old", "new", "rule", "line", "number"),
    [
        ('"Output"', '"Output', "quote-open", 31, 6),
        ("bracket */", "bracket", "comment-open", 6, 6),
        ("substring(1", "substring((1", "bracket-open", 15, 6),
        ("(rec->cnt < 10)", "(rec->cnt < 10))", "bracket-unopened", 21, 9),
        ("  endif\n", "", "block-open", 21, 9),
        ("endfor", "", "block-open", 27, 9),
        ("endfor", "endwhile", "block-unopened", 29, 9),
        ("end\ngo\n", "go\n", "end-missing", 3, 6),
        ("end\ngo\n", "end\n", "go-missing", 3, 6),
        ("ps_list:dba go", "ps_list:dba", "go-missing", 2, 9),
        (".person_id = p", ".persn_id = p", "member-unknown", 24, 260),
        ("rec->cnt = 0", "rec->count = 0", "member-unknown", 19, 260),
        ("set total = 1", "set totl = 1", "variable-undeclared", 14, 151),
        ("dba go\n", "dba go with nocounter\n", "with-misplaced", 2, 9),
    ],
)
def test_each_fault_has_its_place(old: str, new: str, rule: str, line: int, number: int) -> None:
    broken = GOOD.replace(old, new, 1)
    assert broken != GOOD
    found = [(row.rule, row.line, row.ccl_number) for row in check_script(broken)]
    assert found[0][0] == rule
    assert (rule, number) in {(row[0], row[2]) for row in found}
    if rule != "quote-open":
        assert (rule, line, number) in found
    else:
        # The quotes pair up shifted by one: the one that stays open is the last.
        assert found[0][1] > 4


def test_places_count_columns_from_one_and_survive_comments() -> None:
    found = check_script("/* a\nb */  )\ngo")
    assert [(row.rule, row.line, row.column) for row in found] == [("bracket-unopened", 2, 7)]
    assert [row.rule for row in check_script(" ; only a comment")] == ["script-empty"]
    assert [row.rule for row in check_script("select 1 from dual")] == ["go-missing"]


def test_findings_are_bounded() -> None:
    assert len(check_script("\n".join(f"set v{number} = 1" for number in range(500)))) == FINDINGS_MAX


def test_messages_are_read_whatever_stands_around() -> None:
    text = "x%CCL-E-9-PS_LIST(12,5)S0L1.a12w {zzz}Unexpected symbol\n%ccl-w-44-PS_OLD(1,0)p {x}y %CCL-F-999-A:DBA"
    found = messages_in(text)
    assert [(row.severity, row.number, row.program, row.line, row.column) for row in found] == [
        ("error", 9, "PS_LIST", 12, 5), ("warning", 44, "PS_OLD", 1, 0), ("fatal", 999, "A:DBA", None, None),
    ]  # fmt: skip
    assert found[2].as_json()["meaning"] is None
    assert "zzz" not in repr(found)


@pytest.mark.parametrize("row", NUMBERS.values(), ids=lambda row: str(row.number))
def test_every_number_is_explained(row) -> None:
    (found,) = messages_in(f"%CCL-E-{row.number}-P(1,2)S {{a}}b")
    assert found.known is row
    assert found.as_json()["next_step"] == row.next_step


def answer(status: object) -> bytes:
    return json.dumps({"RECORD_DATA": {"STATUS_DATA": {"STATUS": status}}}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (answer("S"), MPageStatus.SUCCESS),
        (b'{"record_data":{"status_data":{"status":"s"}}}', MPageStatus.SUCCESS),
        (answer("F"), MPageStatus.FAILED),
        (answer("Z"), MPageStatus.NO_DATA),
        (answer(""), MPageStatus.UNREADABLE),
        (answer(1), MPageStatus.UNREADABLE),
        (b'{"RECORD_DATA":[]}', MPageStatus.UNREADABLE),
        (b"<html>", MPageStatus.UNREADABLE),
        (b"%CCL-E-43-PS_LIST(1,1)S {a}cannot be executed", MPageStatus.FAILED),
    ],
)
def test_only_s_is_success(body: bytes, status: MPageStatus) -> None:
    assert parse_mpage(body).status is status


@given(st.text(alphabet="()[]{}'\"^;/*->=.\n agoendifrecord%CLE0", max_size=60), st.binary(max_size=60))
def test_nothing_raises_on_anything(text: str, body: bytes) -> None:
    assert all(row.line >= 1 and row.column >= 1 for row in check_script(text))
    assert parse_mpage(body).status in MPageStatus
    assert len(messages_in(text)) <= FINDINGS_MAX


@given(st.sampled_from(["if", "endif", "record", "r", "->", ".", "(", ")", "set", "=", "1", "end", "go"]).flatmap(
    lambda first: st.lists(st.sampled_from(
        [first, "if", "endif", "record", "r", "->", ".", "(", ")", "[", "]", "set", "=", "1", "create", "program"]
    ), max_size=20)
))  # fmt: skip
def test_any_order_of_words_is_checked(words: list[str]) -> None:
    assert isinstance(check_script(" ".join(words)), list)
