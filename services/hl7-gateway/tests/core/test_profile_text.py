"""Profiles as text: YAML and JSON give the same, mistakes have lines, nothing a person types brings the reader down."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7_gateway.core.profile_text import MISTAKES_MAX, read_profile_text, written
from hl7_gateway.core.site_profile import BUILT_IN

DOCUMENT: dict[str, Any] = {
    "name": "Front desk / day",
    "severity": {"table-user": "off"},
    "fields": {"PID-3": {"also": ["É"], "ignore": ["length"]}},
    "segments": {"ZPD": {"1": {"type": "SI"}}},
}


JSON = json.dumps(DOCUMENT)


@pytest.mark.parametrize("text", [written(DOCUMENT), JSON, json.dumps(DOCUMENT, indent="\t"), JSON.replace("/", "\\/")])
def test_yaml_and_json_are_the_same_document(text: str) -> None:
    read = read_profile_text(text)
    assert (read.document, read.mistakes) == (DOCUMENT, ())


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_profiles_are_profiles(name: str) -> None:
    profile = BUILT_IN[name]
    assert read_profile_text(profile.text) == (profile.document, ())
    assert hl7v2.profile_mistakes(profile.document) == []
    assert profile.compiled is profile.compiled


def test_mistakes_have_the_line_they_stand_at() -> None:
    text = '{"fields": {\n\t"PID-3": {"length": "x"},\n\t"PID-3": {}\n}}'
    (twice,) = read_profile_text(text).mistakes
    assert twice.text == "line 3, fields.PID-3: it stands there twice, first at 2"
    (wrong,) = read_profile_text(text.replace('"PID-3": {}', '"PID-5": {}')).mistakes
    assert wrong.text.startswith("line 2, fields.PID-3.length: expected int")


def test_what_would_take_memory_or_a_stack_is_refused() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{two}: &{two} [*{one},*{one}]\n" for one, two in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert "aliases" in read_profile_text(bomb).mistakes[0].text
    for deep in ("[" * 20_000, "{a: " * 20_000, '{"a":' * 20_000):
        assert len(read_profile_text(deep).mistakes) == 1
    many = "fields:\n" + "".join(f"  PID-{number}: {{x: 1}}\n" for number in range(1, 500))
    assert len(read_profile_text(many).mistakes) == MISTAKES_MAX


@given(st.one_of(st.text(max_size=80), st.text(alphabet="{}[]:,&*!|>'\"-? \n\tabc123", max_size=60)))
def test_any_text_is_a_profile_or_has_mistakes(text: str) -> None:
    read = read_profile_text(text)
    assert read.mistakes or hl7v2.compile_profile(read.document)


@given(
    st.recursive(st.sampled_from(["PV1", "error", 1, True]), lambda inner: st.dictionaries(st.text(max_size=8), inner))
)
def test_what_is_written_is_read_again(document: Any) -> None:
    if isinstance(document, dict):
        assert yaml.safe_load(written(document)) == document
