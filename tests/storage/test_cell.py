"""A cell keeps a key, a note and a record apart, and what is no cell is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.storage.cell import NOTE_BYTES, pack_cell, record_of, unpack_cell

NOTE = bytes(range(NOTE_BYTES))


@given(
    key=st.binary(min_size=1, max_size=1024),
    note=st.sampled_from([b"", NOTE, b"\xff" * NOTE_BYTES]),
    record=st.binary(max_size=100),
)
@settings(deadline=None, max_examples=200)
def test_what_was_packed_comes_back(key: bytes, note: bytes, record: bytes) -> None:
    cell = pack_cell(key, note, record)
    assert unpack_cell(cell) == (key, note, record)
    assert record_of(cell) == record


@pytest.mark.parametrize("length", [1, 255, 256, 1024])
def test_keys_of_every_allowed_length_pass(length: int) -> None:
    assert unpack_cell(pack_cell(b"k" * length, NOTE, b"r")) == (b"k" * length, NOTE, b"r")


@pytest.mark.parametrize("length", [0, 1025, 40_000])
def test_other_keys_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"not {length}$"):
        pack_cell(b"k" * length, b"", b"r")


@pytest.mark.parametrize("length", [1, NOTE_BYTES - 1, NOTE_BYTES + 1])
def test_notes_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"not {length}$"):
        pack_cell(b"key", b"n" * length, b"r")


@pytest.mark.parametrize("note", [b"", NOTE])
def test_a_cell_cut_before_its_record_is_refused(note: bytes) -> None:
    cell = pack_cell(b"key", note, b"")
    assert record_of(cell) == b""
    for length in range(len(cell)):
        with pytest.raises(ValueError, match="not a cell"):
            unpack_cell(cell[:length])
        with pytest.raises(ValueError, match="not a cell"):
            record_of(cell[:length])


@pytest.mark.parametrize("head", [0x0000, 0x8000, 0x0401, 0x7FFF, 0xFFFF])
def test_a_head_that_was_never_packed_is_refused(head: int) -> None:
    with pytest.raises(ValueError, match="not a cell"):
        unpack_cell(head.to_bytes(2, "big") + b"x" * 40_000)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_random_bytes_are_a_cell_or_a_value_error(cell: bytes) -> None:
    try:
        key, note, record = unpack_cell(cell)
    except ValueError:
        return
    assert pack_cell(key, note, record) == cell


def test_the_format_on_disk_does_not_change_by_accident() -> None:
    assert pack_cell(b"key", b"", b"record") == b"\x00\x03keyrecord"
    assert pack_cell(b"key", NOTE, b"record") == b"\x80\x03key" + NOTE + b"record"
