"""Edits: what they change, what they leave, and what they refuse."""

from collections.abc import Callable

import pytest

import hl7v2
from common.models.errors import SuiteError
from hl7_gateway.core.edit import Change, Edit, apply_edit

Message = Callable[..., bytes]


def _edit(*changes: tuple[str, str | None]) -> Edit:
    return Edit(tuple(Change(*change) for change in changes))


def test_only_the_named_fields_change(message: Message) -> None:
    before = message("e-1")
    edited = apply_edit(before, _edit(("PID-5.1", "A|B"), ("PV1-2", "I"), ("PID-8", None)))
    assert edited.changed == ("PID-5", "PID-8", "PV1-2")
    after = hl7v2.parse(edited.after)
    assert (after["PID-5.1"], after["PID-5.2"], after["PV1-2"]) == ("A|B", "SYNTHETIC", "I")
    kept = [line for line in before.split(b"\r") if line[:3] in {b"MSH", b"EVN"}]
    assert edited.after.split(b"\r")[:2] == kept


def test_a_whole_body_shows_what_came_and_went(message: Message) -> None:
    before = message("e-1")
    after = before.replace(b"EVN||20260301093000\r", b"") + b"NTE|1||x\rNTE|2||y\rjohn smith\r"
    edited = apply_edit(before, Edit(body=after.replace(b"e-1", b"e-2")))
    assert edited.changed == ("MSH-10", "+NTE", "+NTE[2]", "+?", "-EVN")


def test_bytes_that_were_no_message_can_be_replaced_whole_only(message: Message) -> None:
    assert apply_edit(b"HELLO", Edit(body=message())).changed == ("*",)
    with pytest.raises(SuiteError, match=r"hl7\.unparsable"):
        apply_edit(b"HELLO", _edit(("PID-5", "x")))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (Edit(body=b"HELLO WORLD"), "message.edit-unparsable"),
        (Edit(body=b""), "message.edit-unparsable"),
        (_edit(("MSH-9", "")), "message.edit-unparsable"),
        (_edit(("PID-5.1", "TEST")), "message.edit-unchanged"),
        (_edit(("PV1-2", "O")), "message.edit-unchanged"),
    ],
)
def test_what_is_refused(message: Message, edit: Edit, code: str) -> None:
    with pytest.raises(SuiteError) as caught:
        apply_edit(message(), edit)
    assert caught.value.code == code


def test_two_messages_are_not_one(message: Message) -> None:
    with pytest.raises(SuiteError, match=r"message\.edit-unparsable"):
        apply_edit(message(), Edit(body=message("1") + message("2")))


def test_a_frame_can_not_be_ended_from_inside(message: Message) -> None:
    with pytest.raises(SuiteError, match=r"hl7\.frame-bytes-inside"):
        apply_edit(message(), Edit(body=message() + b"NTE|\x0b\r"))


def test_each_change_that_can_not_be_made_is_named_without_its_value(message: Message) -> None:
    edit = _edit(("PID-5.1", "fine"), ("ZZZ-1", "SECRET"), ("nonsense", "SECRET"), ("MSH-1", "#"), ("PID-5", "Ω"))
    with pytest.raises(SuiteError) as caught:
        apply_edit(message(charset="8859/1"), edit)
    fields = [(field.pointer, field.code) for field in caught.value.fields]
    assert fields == [
        ("/changes/1/path", "path"),
        ("/changes/2/path", "path"),
        ("/changes/3/path", "path"),
        ("/changes/4/value", "encoding"),
    ]
    assert "SECRET" not in str(caught.value.fields)
