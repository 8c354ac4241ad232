"""A sealed value comes back whole, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.storage.checksum import CHECKSUM_BYTES, seal, unseal

KEYS = st.binary(min_size=1, max_size=64)
VALUES = st.binary(max_size=200)


@given(key=KEYS, value=VALUES)
@settings(deadline=None, max_examples=100)
def test_what_was_sealed_comes_back(key: bytes, value: bytes) -> None:
    assert unseal(key, seal(key, value)) == value


@given(key=KEYS, value=VALUES, data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_flipped_bit_is_found_wherever_it_is(key: bytes, value: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(key, value))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert unseal(key, bytes(sealed)) is None


@given(key=KEYS, other=KEYS, value=VALUES)
@settings(deadline=None, max_examples=200)
def test_a_sound_value_under_another_key_is_found(key: bytes, other: bytes, value: bytes) -> None:
    if key != other:
        assert unseal(other, seal(key, value)) is None


@pytest.mark.parametrize("length", range(CHECKSUM_BYTES + 5))
def test_a_value_cut_short_is_found(length: int) -> None:
    assert unseal(b"key", seal(b"key", b"value")[:length]) is None


def test_the_format_on_disk_does_not_change_by_accident() -> None:
    assert seal(b"key", b"value").hex() == "7faa44afe6244c5a" + b"value".hex()
