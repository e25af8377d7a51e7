"""Keys: sealed for one place of one tenant, by a key that can be rotated and is kept in a file for its owner only."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.runtime.keyring import (
    KEY_BYTES,
    RING_LOOKS_EVERY_S,
    SEALS_AFTER_S,
    KeyEncryptionKey,
    LocalKeyWrapper,
    StaticKeyRing,
    TenantKeys,
    WrappedKey,
    WrappedKeyRing,
    load_key_encryption_key,
    new_wrapped_key,
    tenant_keys,
)

KEK = KeyEncryptionKey(b"k" * KEY_BYTES)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
KEYS = tenant_keys("ten_1", {1: OLD})
PLACE = {"record": "msg_1", "field": "body", "version": 1}
PLAIN = b"PID|1||12345^^^EPIC^MR||Rivera^Alma"


def refused(keys: TenantKeys, sealed: bytes, **place: object) -> str:
    with pytest.raises(SuiteError) as failed:
        keys.open(sealed, **{**PLACE, **place})  # type: ignore[arg-type]
    return failed.value.code


@given(st.binary(max_size=300), st.text(), st.text(), st.integers(0, 2**40))
def test_what_is_sealed_opens_in_its_place(plaintext: bytes, record: str, field: str, version: int) -> None:
    sealed = KEYS.seal(plaintext, record=record, field=field, version=version)
    assert KEYS.open(sealed, record=record, field=field, version=version) == plaintext
    assert len(plaintext) < 8 or plaintext not in sealed


@pytest.mark.parametrize(
    "moved",
    [{"record": "msg_2"}, {"field": "raw"}, {"version": 2}, {"record": "msg_1body", "field": ""}, {"record": ""}],
    ids=str,
)
def test_a_sealed_value_opens_nowhere_else(moved: dict[str, object]) -> None:
    assert refused(KEYS, KEYS.seal(PLAIN, record="msg_1", field="body"), **moved) == "keys.cannot-open"


def test_another_tenant_can_not_open_it_even_with_the_same_key() -> None:
    sealed = KEYS.seal(PLAIN, record="msg_1", field="body")
    assert refused(tenant_keys("ten_2", {1: OLD}), sealed) == "keys.cannot-open"
    assert refused(tenant_keys("ten_1", {1: NEW}), sealed) == "keys.cannot-open"


@given(st.data())
def test_an_altered_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(KEYS.seal(PLAIN, record="msg_1", field="body"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    assert refused(KEYS, bytes(sealed)) == "keys.cannot-open"


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_by_name(sealed: bytes) -> None:
    assert refused(KEYS, sealed) == "keys.cannot-open"
    assert refused(KEYS, b"\x01\x00\x00\x00\x01" + sealed) == "keys.cannot-open"


def test_a_cut_value_is_refused_by_name() -> None:
    sealed = KEYS.seal(b"abc", record="msg_1", field="body")
    assert {refused(KEYS, sealed[:length]) for length in range(len(sealed))} == {"keys.cannot-open"}


def test_the_same_text_sealed_twice_looks_different() -> None:
    assert len({KEYS.seal(PLAIN, record="msg_1", field="body") for _ in range(100)}) == 100


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    before = KEYS.seal(PLAIN, record="msg_1", field="body")
    rotated = tenant_keys("ten_1", {2: NEW, 1: OLD})
    after = rotated.seal(PLAIN, record="msg_1", field="body")
    assert rotated.open(before, **PLACE) == rotated.open(after, **PLACE) == PLAIN  # type: ignore[arg-type]
    assert refused(KEYS, after) == "keys.cannot-open"
    assert refused(tenant_keys("ten_1", {2: NEW}), before) == "keys.cannot-open"
    assert rotated.pseudonym("patient", "12345") == KEYS.pseudonym("patient", "12345"), "names outlive a rotation"


def test_a_pseudonym_is_the_tenants_own() -> None:
    name = KEYS.pseudonym("patient", "12345")
    assert name == tenant_keys("ten_1", {1: OLD}).pseudonym("patient", "12345")
    assert len(name) == 26
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz234567")
    others = [
        tenant_keys("ten_2", {1: NEW}).pseudonym("patient", "12345"),
        KEYS.pseudonym("practitioner", "12345"),
        KEYS.pseudonym("patient", "12346"),
        KEYS.pseudonym("patient\x001", "2345"),
    ]
    assert len({name, *others}) == 5


async def test_static_keys_differ_per_tenant() -> None:
    one, two = [await StaticKeyRing().tenant(name) for name in ("ten_1", "ten_2")]
    assert one.pseudonym("patient", "1") != two.pseudonym("patient", "1")
    assert refused(two, one.seal(PLAIN, record="msg_1", field="body")) == "keys.cannot-open"


# ---- wrapped keys


class Source:
    """Wrapped keys by tenant, and how often they were asked for."""

    def __init__(self, keys: dict[str, list[WrappedKey]]) -> None:
        self.keys = keys
        self.asked = 0
        self.failure: SuiteError | None = None

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.keys.get(tenant, [])


async def test_a_tenants_keys_are_unwrapped_once() -> None:
    source = Source({"ten_1": [new_wrapped_key(KEK, "ten_1", 1)]})
    ring = WrappedKeyRing(LocalKeyWrapper(KEK), source, FixedClock(NOW))
    sealed = (await ring.tenant("ten_1")).seal(PLAIN, record="msg_1", field="body")
    assert (await ring.tenant("ten_1")).open(sealed, **PLACE) == PLAIN  # type: ignore[arg-type]
    assert source.asked == 1
    other = WrappedKeyRing(LocalKeyWrapper(KEK), source, FixedClock(NOW))  # another process
    assert (await other.tenant("ten_1")).open(sealed, **PLACE) == PLAIN  # type: ignore[arg-type]


async def test_rotated_keys_are_seen_at_the_next_look_and_destroyed_ones_are_gone() -> None:
    source, clock = Source({"ten_1": [new_wrapped_key(KEK, "ten_1", 1)]}), FixedClock(NOW)
    ring = WrappedKeyRing(LocalKeyWrapper(KEK), source, clock)
    before = (await ring.tenant("ten_1")).seal(PLAIN, record="msg_1", field="body")
    source.keys["ten_1"].append(new_wrapped_key(KEK, "ten_1", 2))
    clock.advance(RING_LOOKS_EVERY_S)
    after = (await ring.tenant("ten_1")).seal(PLAIN, record="msg_1", field="body")
    assert (before[4], after[4]) == (1, 2)
    assert (await ring.tenant("ten_1")).open(before, **PLACE) == PLAIN  # type: ignore[arg-type]
    source.keys.clear()
    clock.advance(RING_LOOKS_EVERY_S)
    with pytest.raises(SuiteError) as gone:
        await ring.tenant("ten_1")
    assert gone.value.code == "tenant.not-found"


@pytest.mark.parametrize(
    "wrapped",
    [
        new_wrapped_key(KEK, "ten_2", 1),
        WrappedKey(2, new_wrapped_key(KEK, "ten_1", 1).wrapped),
        new_wrapped_key(KeyEncryptionKey(b"x" * KEY_BYTES), "ten_1", 1),
        WrappedKey(1, b""),
        WrappedKey(1, b"short"),
        WrappedKey(1, bytes(60)),
    ],
    ids=["of another tenant", "of another version", "by another key", "empty", "cut", "zeros"],
)
async def test_a_wrapped_key_that_is_not_this_one_is_refused(wrapped: WrappedKey) -> None:
    ring = WrappedKeyRing(LocalKeyWrapper(KEK), Source({"ten_1": [wrapped]}), FixedClock(NOW))
    with pytest.raises(SuiteError) as failed:
        await ring.tenant("ten_1")
    assert failed.value.code == "keys.cannot-open"


def test_keys_do_not_show_themselves() -> None:
    wrapped = new_wrapped_key(KEK, "ten_1", 1)
    assert OLD.decode() not in repr(KEYS)
    assert "kkkk" not in repr(KEK)
    assert KEK.unwrap("ten_1", wrapped) not in wrapped.wrapped
    assert len({KEK.derive("wrap"), KEK.derive("service-assertion"), b"k" * KEY_BYTES}) == 3


async def test_a_ring_looks_again_and_a_new_key_seals_only_once_every_ring_has_looked() -> None:
    source, clock = Source({"ten_1": [new_wrapped_key(KEK, "ten_1", 1)]}), FixedClock(NOW)
    rings = [WrappedKeyRing(LocalKeyWrapper(KEK), source, clock) for _ in range(2)]
    await rings[0].tenant("ten_1")
    clock.advance(RING_LOOKS_EVERY_S / 2)
    await rings[1].tenant("ten_1")
    made = new_wrapped_key(KEK, "ten_1", 2)
    source.keys["ten_1"].append(replace(made, seals_from=clock.now() + timedelta(seconds=SEALS_AFTER_S)))
    versions, sealed = [], b""
    for _ in range(40):  # whatever one seals at any time, the other opens
        sealed = (await rings[0].tenant("ten_1")).seal(PLAIN, record="msg_1", field="body")
        assert (await rings[1].tenant("ten_1")).open(sealed, **PLACE) == PLAIN  # type: ignore[arg-type]
        versions.append(sealed[4])
        clock.advance(RING_LOOKS_EVERY_S / 10)
    assert sorted(set(versions)) == [1, 2]
    assert versions == sorted(versions)
    old = tenant_keys("ten_1", {1: OLD}).seal(PLAIN, record="msg_1", field="body")
    assert (await rings[0].tenant("ten_1")).stale(old)
    assert not (await rings[0].tenant("ten_1")).stale(sealed)


async def test_keys_in_hand_serve_while_their_source_is_away_and_not_once_they_are_destroyed() -> None:
    source, clock = Source({"ten_1": [new_wrapped_key(KEK, "ten_1", 1)]}), FixedClock(NOW)
    ring = WrappedKeyRing(LocalKeyWrapper(KEK), source, clock)
    await ring.tenant("ten_1")
    source.failure = SuiteError("keys.unavailable")
    clock.advance(RING_LOOKS_EVERY_S + 1)
    assert (await ring.tenant("ten_1")).tenant == "ten_1"
    clock.advance(25 * 3600)
    with pytest.raises(SuiteError) as away:
        await ring.tenant("ten_1")
    source.failure = None
    await ring.tenant("ten_1")
    source.keys.clear()
    clock.advance(RING_LOOKS_EVERY_S + 1)
    with pytest.raises(SuiteError) as gone:
        await ring.tenant("ten_1")
    assert (away.value.code, gone.value.code) == ("keys.unavailable", "tenant.not-found")


def test_two_key_encryption_keys_are_read_while_one_replaces_the_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(base64.b64encode(b"k" * KEY_BYTES).decode())
    both = load_key_encryption_key(key=TEXT, key_file="", data=tmp_path, other_files=[str(tmp_path / "other")])
    by_setting = load_key_encryption_key(
        key=TEXT, key_file="", data=tmp_path, others=base64.b64encode(b"k" * KEY_BYTES).decode()
    )
    wrapped = new_wrapped_key(KEK, "ten_1", 1)
    assert both.unwrap("ten_1", wrapped) == by_setting.unwrap("ten_1", wrapped) == KEK.unwrap("ten_1", wrapped)
    assert both.wrapped_by("ten_1", wrapped) == KEK.label != both.label
    for wrong in ({"others": "short"}, {"other_files": [str(tmp_path / "none")]}):
        with pytest.raises(SuiteError) as failed:
            load_key_encryption_key(key=TEXT, key_file="", data=tmp_path, **wrong)
        assert "PS_OTHER_KEY" in str(failed.value.detail)


# ---- where the key-encryption key lies

TEXT = base64.b64encode(b"f" * KEY_BYTES).decode()


def test_the_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        first = load_key_encryption_key(key="", key_file="", data=tmp_path)
    finally:
        os.umask(mask)
    path = tmp_path / "key-encryption-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(path.read_text())) == KEY_BYTES
    assert [entry.name for entry in tmp_path.iterdir()] == ["key-encryption-key"], "no draft is left"
    again = load_key_encryption_key(key="", key_file="", data=tmp_path)
    assert again.derive("x") == first.derive("x")


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_key_encryption_key(key="", key_file="", data=tmp_path), range(16)))
    assert len({key.derive("x") for key in keys}) == 1


def test_the_setting_goes_before_the_file_and_a_named_file_before_the_own_one(tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_text(f"\n{base64.b64encode(b'n' * KEY_BYTES).decode()}\n")
    by_setting = load_key_encryption_key(key=TEXT, key_file=str(named), data=tmp_path)
    by_file = load_key_encryption_key(key="", key_file=str(named), data=tmp_path)
    assert by_setting.derive("x") == KeyEncryptionKey(b"f" * KEY_BYTES).derive("x")
    assert by_file.derive("x") == KeyEncryptionKey(b"n" * KEY_BYTES).derive("x")
    assert not (tmp_path / "key-encryption-key").exists()


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("", None, "PS_KEY_FILE: "),
        ("", b"", "PS_KEY_FILE (named): expected 32 bytes"),
        ("", b"not base64!", "PS_KEY_FILE (named): expected 32 bytes"),
        ("", base64.b64encode(b"s" * 16), "PS_KEY_FILE (named): expected 32 bytes"),
        ("", bytes(range(256)), "PS_KEY_FILE (named): expected 32 bytes"),
        ("", b"k" * KEY_BYTES, "PS_KEY_FILE (named): expected 32 bytes"),
        ("Zml2ZQ==", None, "PS_KEY: expected 32 bytes"),
        ("schlüssel", None, "PS_KEY: expected 32 bytes"),
    ],
)
def test_a_key_that_is_none_is_a_bad_setting(tmp_path: Path, key: str, content: bytes | None, said: str) -> None:
    named = tmp_path / "named"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(SuiteError) as failed:
        load_key_encryption_key(key=key, key_file=str(named), data=tmp_path)
    assert failed.value.code == "start.bad-setting"
    assert str(failed.value.detail).startswith(said)
    assert not (tmp_path / "key-encryption-key").exists(), "a named file that is missing is not made up"
