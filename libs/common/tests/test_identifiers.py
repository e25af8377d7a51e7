"""TypeIDs against the specification's vectors (TypeID 0.3, spec/valid.yml and invalid.yml: suffix and UUID)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import SuiteError
from common.models.identifiers import PREFIXES, check_id, parse_id, time_part, type_id, type_id_of, uuid7

VECTORS = {
    "00000000000000000000000000": "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000001": "00000000-0000-0000-0000-000000000001",
    "0000000000000000000000000a": "00000000-0000-0000-0000-00000000000a",
    "0000000000000000000000000g": "00000000-0000-0000-0000-000000000010",
    "00000000000000000000000010": "00000000-0000-0000-0000-000000000020",
    "7zzzzzzzzzzzzzzzzzzzzzzzzz": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "0123456789abcdefghjkmnpqrs": "0110c853-1d09-52d8-d73e-1194e95b5f19",
    "01h455vb4pex5vsknk084sn02q": "01890a5d-ac96-774b-bcce-b302099a8057",
}
INVALID = {
    "prefix in capitals": "RUN_00000000000000000000000000",
    "prefix not known": "xyz_00000000000000000000000000",
    "no prefix": "00000000000000000000000000",
    "empty prefix": "_00000000000000000000000000",
    "two separators": "run__0000000000000000000000000",
    "separator only": "_",
    "empty": "",
    "no suffix": "run_",
    "suffix short": "run_1234567890123456789012345",
    "suffix long": "run_123456789012345678901234567",
    "spaces": "run_1234567890123456789012345 ",
    "suffix in capitals": "run_0123456789ABCDEFGHJKMNPQRS",
    "hyphens": "run_123456789-123456789-123456",
    "letters outside the alphabet": "run_ooooooiiiiiiuuuuuuulllllll",
    "ambiguous letters": "run_i23456789ol23456789oi23456",
    "over 128 bits": "run_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    "digits of another script": "run_0000000000000000000000000٣",
    "line end": "run_00000000000000000000000000\n",
}


@pytest.mark.parametrize(("suffix", "uuid"), VECTORS.items())
def test_the_specifications_vectors(suffix: str, uuid: str) -> None:
    value = int(uuid.replace("-", ""), 16)
    assert type_id("run", value) == f"run_{suffix}"
    assert parse_id(f"run_{suffix}") == ("run", value)


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_id_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="not an id of this suite"):
        parse_id(text)
    with pytest.raises(SuiteError) as refused:
        check_id(text, "run")
    assert (refused.value.code, refused.value.row.status) == ("request.invalid-id", 404)
    assert len(text) < 5 or text not in str(refused.value)


@given(st.sampled_from(sorted(PREFIXES)), st.integers(0, 2**128 - 1))
def test_text_and_number_are_the_same_thing(prefix: str, uuid: int) -> None:
    text = type_id(prefix, uuid)
    assert parse_id(text) == (prefix, uuid)
    assert check_id(text, prefix) == text


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_ids_sort_by_time_of_creation(first_ms: int, first: int, second_ms: int, second: int) -> None:
    if first_ms < second_ms:
        assert type_id("run", uuid7(first_ms, first)) < type_id("run", uuid7(second_ms, second))


def test_a_uuid7_has_its_fields_where_rfc_9562_puts_them() -> None:
    # RFC 9562, appendix A.6
    assert f"{uuid7(0x017F22E279B0, (0xCC3 << 62) | 0x18C4DC0C0C07398F):032x}" == "017f22e279b07cc398c4dc0c0c07398f"
    with pytest.raises(ValueError, match="48 bits"):
        uuid7(2**48, 0)
    with pytest.raises(ValueError, match="48 bits"):
        uuid7(-1, 0)


@given(st.sampled_from(sorted(PREFIXES)), st.integers(0, 2**48 - 1), st.binary(min_size=16, max_size=16))
def test_an_id_made_of_characters_is_one_made_of_numbers(prefix: str, time_ms: int, random: bytes) -> None:
    text = type_id_of(prefix, time_part(time_ms), random)
    found, uuid = parse_id(text)
    random_bits = (uuid >> 64 & 0xFFF) << 62 | uuid & (2**62 - 1)
    assert (found, uuid) == (prefix, uuid7(time_ms, random_bits))


def test_every_random_bit_of_an_id_can_be_either() -> None:
    ids = [parse_id(type_id_of("run", time_part(0), bytes([byte] * 16)))[1] for byte in range(256)]
    either = 0
    for uuid in ids:
        either |= uuid ^ ids[0]
    assert either == 0xFFF << 64 | 2**62 - 1


def test_no_fast_id_has_an_unknown_prefix() -> None:
    with pytest.raises(ValueError, match="prefix"):
        type_id_of("xyz", time_part(0), bytes(16))


def test_another_things_id_is_not_taken() -> None:
    with pytest.raises(SuiteError, match="begins with `run_`") as refused:
        check_id("rec_01h455vb4pex5vsknk084sn02q", "run")
    assert refused.value.code == "request.invalid-id"


@pytest.mark.parametrize(("prefix", "uuid"), [("xyz", 0), ("", 0), ("run", -1), ("run", 2**128)])
def test_no_text_is_made_of_what_is_no_id(prefix: str, uuid: int) -> None:
    with pytest.raises(ValueError, match=r"prefix|128 bits"):
        type_id(prefix, uuid)
