"""Escape sequences: what they mean, and that a text that was written is the text that is read."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hl7v2.escape import Delimiters, escape, unescape, unescape_checked, unterminated

TRUNCATING = Delimiters(truncation="#")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (r"a\.br\b\.BR\c", "a\nb\nc"),
        (r"\.sp+2\x\.ti-4\\.fi\\.nf\\.ce\y", "\n\nx\ny"),
        (r"C3A9 as \XC3A9\, in two \XC3\\XA9\, small \Xc3a9\ ", "C3A9 as é, in two é, small é "),
        (r"\XC3\-\XA9\ ", "Ã-© "),
        (r"\X\ \XG1\ \XC3A\ ", r"\X\ \XG1\ \XC3A\ "),
        (r"\P\ \Zown.1\ ", r"\P\ \Zown.1\ "),
        (r"C:\temp\new", r"C:\temp\new"),
        (r"\T", r"\T"),
        (r"\E\T\E\ ", "\\T\\ "),
        (r"a\zz zz\T\b", r"a\zz zz&b"),
        (r"\Zlonger than any\T\ ", r"\Zlonger than any& "),
    ],
)
def test_sequences(text: str, meaning: str) -> None:
    assert unescape(text) == meaning


def test_the_truncation_character_of_2_7() -> None:
    assert unescape(r"a\P\b", TRUNCATING) == "a#b"
    assert escape("a#b", TRUNCATING) == r"a\P\b"


@pytest.mark.parametrize(
    ("text", "codec", "meaning"),
    [
        (r"\C2D42\Koa¹\C2D41\¹é", "iso8859-1", "Koaš¹é"),
        (r"\C2D4C\ÐÑ", "iso8859-1", "аб"),
        (r"\M2442\;3ED\C2842\ Yamada", "ascii", "山田 Yamada"),
        (r"\C2949\1C^", "ascii", "ｱﾃﾞ"),
        (r"\M242844\0!", "ascii", "丂"),
        (r"\M2442\odd", "ascii", "odd"),
        ("\\M2442\\" + bytes(byte | 0x80 for byte in b";3ED").decode("latin-1"), "iso8859-1", "山田"),
        (r"\XC3A9\ ", "iso8859-1", "Ã© "),
        (r"\XC3A9\ ", "ascii", "é "),
        (r"\XE9\ ", "utf-8", "é "),
        (r"\X4142\ ", "utf-16-le", "AB "),
        (r"\C2D42\é", "utf-8", r"\C2D42\é"),
        (r"\C9999\x", "iso8859-1", r"\C9999\x"),
    ],
)
def test_changes_of_the_character_set(text: str, codec: str, meaning: str) -> None:
    assert unescape(text, codec=codec) == meaning


def test_what_does_not_end_is_kept_and_said() -> None:
    assert unescape_checked(r"a\Fb", Delimiters(), "utf-8") == (r"a\Fb", False)
    assert unescape_checked(r"a\F\b\S\c\T", Delimiters(), "utf-8") == ("a|b^c\\T", False)
    assert (unterminated(r"a\Fb"), unterminated(r"a\F\b"), unterminated("plain")) == (True, False, False)


MARKS = st.permutations("|^~\\&#!$%*+-./:;<=>?@[]_`{}").map(lambda marks: Delimiters(*marks[:6]))


@given(st.text(max_size=40), MARKS)
def test_escape_and_back_with_any_delimiters(text: str, marks: Delimiters) -> None:
    written = escape(text, marks)
    assert unescape_checked(written, marks, "utf-8") == (text, True)
    assert not any(mark in written for mark in (marks.field, marks.component, marks.repetition, marks.subcomponent))
    assert all(ord(character) >= 0x20 for character in written)


@given(
    st.text(alphabet="\\XC0A.brFSTREHNMZ1 ", max_size=30), st.sampled_from(["utf-8", "ascii", "iso8859-1", "gb18030"])
)
def test_any_text_is_unescaped_and_written_again(text: str, codec: str) -> None:
    meaning = unescape(text, codec=codec)
    assume("\ud800" not in meaning)
    assert unescape(escape(meaning), codec=codec) == meaning


def test_line_ends_are_written_as_their_own_sequence() -> None:
    assert (escape("a\nb"), escape("a\r\nb"), escape("a\rb")) == (r"a\.br\b", r"a\X0D0A\b", r"a\X0D\b")
    dotted = Delimiters("|", "^", "~", "\\", ".")
    assert escape("a\nb.", dotted) == r"a\X0A\b\T\ ".strip()


def test_a_repeated_format_is_bounded() -> None:
    assert unescape(r"\.sp9999\ ") == "\n" * 100 + " "
    assert unescape(r"\.sp99999\ ") == r"\.sp99999\ "
