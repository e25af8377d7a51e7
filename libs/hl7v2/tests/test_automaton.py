"""Structures as automata: what fits, and what is wrong with what does not."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7v2.automaton import NOWHERE, REPAIR_EDITS_MAX, REPAIR_SEGMENTS_MAX, Automaton, Fault
from hl7v2.standard import VERSIONS, Item, standard


def structure(version: str, name: str) -> tuple[Item, ...]:
    items = standard(version).structure(name)
    assert items is not None
    return items


def automaton(version: str, name: str, *anywhere: str) -> Automaton:
    return Automaton(structure(version, name), anywhere)


def names(text: str) -> list[bytes]:
    return text.encode().split()


def fits(found: Automaton, text: str) -> bool:
    state = found.start
    for name in names(text):
        state = state[name]
    return state.accepting


@pytest.mark.parametrize("version", VERSIONS)
def test_every_structure_compiles_and_takes_what_it_requires(version: str) -> None:
    for name in standard(version).structures:
        items = structure(version, name)
        required = " ".join(leaves(items))
        assert fits(Automaton(items), required), name


def leaves(items: tuple[Item, ...]) -> Iterator[str]:
    """The segments that a structure requires, with the first of each choice."""
    for item in items:
        if item.minimum:
            if item.items:
                yield from leaves(item.items[:1] if item.is_choice else item.items)
            else:
                yield "PID" if item.name == "*" else item.name


@pytest.mark.parametrize(
    "text",
    [
        "MSH EVN PID PV1",
        "MSH SFT SFT EVN PID PD1 ROL NK1 NK1 PV1 PV2 ROL DB1 OBX AL1 DG1 DRG PR1 ROL PR1 GT1 IN1 IN2 IN1 ACC UB1 PDA",
        "MSH ZAB EVN PID ZCD PV1 ZEF",
    ],
)
def test_what_fits(text: str) -> None:
    assert fits(automaton("2.5.1", "ADT_A01"), text)
    assert automaton("2.5.1", "ADT_A01").repair(names(text)) == []


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("ADT_A01", "MSH PID EVN PV1", [("misplaced", 1)]),
        ("ADT_A01", "MSH EVN PID", [("missing", 3)]),
        ("ADT_A01", "MSH EVN PID PV2", [("missing", 3)]),
        ("ADT_A01", "MSH EVN PID PID PV1", [("repeated", 3)]),
        ("ADT_A01", "MSH EVN PID PV1 PV1", [("repeated", 4)]),
        ("ADT_A01", "MSH EVN PID OBR PV1", [("unknown", 3)]),
        ("ADT_A01", "MSH EVN PID OBX PV1", [("misplaced", 3)]),
        ("ADT_A01", "MSH EVN PID PV1 AL1 NK1 DG1", [("misplaced", 5)]),
        ("ADT_A01", "MSH EVN PV1", [("missing", 2)]),
        ("ADT_A01", "MSH EVN PID PV1 IN2", [("missing", 4)]),
        ("ADT_A01", "MSH", [("missing", 1), ("missing", 1), ("missing", 1)]),
        ("ADT_A39", "MSH EVN PID MRG PID", [("missing", 5)]),
        ("ADT_A39", "MSH EVN PID PID MRG", [("repeated", 3)]),
        ("ORU_R01", "MSH PID OBX OBX", [("missing", 2)]),
        ("ORU_R01", "MSH PID ORC OBX OBR", [("missing", 3)]),
        ("ORM_O01", "MSH PID OBR NTE OBX", [("missing", 2)]),
        ("VXU_V04", "MSH PID ORC RXA RXR RXR", [("repeated", 5)]),
        ("SIU_S12", "MSH SCH PID AIS RGS", [("missing", 3)]),
    ],
)
def test_one_mistake_is_one_fault(name: str, text: str, faults: list[tuple[str, int]]) -> None:
    found = automaton("2.5.1", name)
    assert not fits(found, text)
    assert [(fault.kind, fault.place) for fault in found.repair(names(text))] == faults


def test_mistakes_far_apart_are_told_apart() -> None:
    text = "MSH PID " + "OBR " + "OBX NTE " * 20 + "PV2 " + "OBX " * 20 + "EVN " + "OBX"
    found = automaton("2.5.1", "ORU_R01").repair(names(text))
    assert [(fault.kind, fault.name) for fault in found] == [("misplaced", b"PV2"), ("unknown", b"EVN")]


def test_what_is_anywhere_stands_anywhere() -> None:
    found = automaton("2.5.1", "ADT_A01", "NTE")
    assert fits(found, "MSH NTE EVN PID NTE PV1 NTE")
    assert not fits(automaton("2.5.1", "ADT_A01"), "MSH EVN PID NTE PV1")


def test_a_place_for_any_segment_takes_any_and_keeps_a_bounded_number_of_names() -> None:
    wild = Automaton((Item("MSH", 1, 1), Item("*", 0, -1), Item("DSC", 0, 1)))
    assert fits(wild, "MSH PID OBX QQQ DSC")
    state = wild.start[b"MSH"]
    for number in range(2_000):
        assert state[b"%d" % number] is not NOWHERE
    assert len(state) < 1_000


def test_numbering_starts_again_where_a_group_begins() -> None:
    anchors = automaton("2.5.1", "ORU_R01").anchors
    assert anchors[b"OBX"] >= {b"ORC", b"OBR"}
    assert anchors[b"NTE"] >= {b"OBX", b"OBR", b"PID"}
    assert automaton("2.5.1", "ADT_A01").anchors[b"IN1"] == set()


@given(st.lists(st.sampled_from([b"EVN", b"PID", b"PV1", b"OBX", b"IN1", b"IN2", b"ROL", b"ZZZ", b"QQQ"]), max_size=30))
@settings(max_examples=150, deadline=None)
def test_repair_ends_and_says_something_of_what_does_not_fit(rest: list[bytes]) -> None:
    found = automaton("2.5.1", "ADT_A01")
    segments = [b"MSH", *rest]
    state = found.start
    for name in segments:
        state = state[name]
    faults = found.repair(segments)
    assert bool(faults) != state.accepting
    assert len(faults) <= REPAIR_EDITS_MAX + 1


def test_a_message_too_long_to_repair_has_its_first_misfit_told() -> None:
    found = automaton("2.5.1", "ORU_R01")
    segments = [*names("MSH PID OBR OBX PV2"), *[b"OBX"] * REPAIR_SEGMENTS_MAX]
    assert found.repair(segments) == [Fault("misplaced", 4, b"PV2")]
