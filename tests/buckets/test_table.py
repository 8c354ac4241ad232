"""One node's table of buckets, and its bytes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from cbor2 import dumps
from hypothesis import given
from hypothesis import strategies as st

from dyno.buckets import table as module
from dyno.buckets.properties import DEFAULTS, Properties
from dyno.buckets.table import UNKNOWN, Entry, Table, pack, unpack
from dyno.config import BUCKETS_MAX
from dyno.placement.hashing import bucket_id
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import ALL, QUORUM

WIDE = Properties(5, QUORUM, ALL, 0)
P, Q, D = b"p" * 16, b"q" * 16, b"d" * 16

counts = st.one_of(st.just(1), st.sampled_from([QUORUM, ALL]))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)
entries = st.builds(
    Entry,
    names,
    st.builds(Properties, st.integers(1, 9), counts, counts, st.just(0)),
    st.sampled_from([b"", P]),
    st.just(b""),
    st.booleans(),
).map(lambda entry: entry._replace(coordinator=D if entry.proposal else b""))


# ── what is served ──


def test_an_unknown_bucket_is_in_no_look_up() -> None:
    table = Table()
    assert not len(table)
    assert (table.serving, table.copies, table.changed, table.get("wide")) == ({}, {}, [], None)


def test_a_reserved_bucket_is_served_to_nobody_and_a_created_one_as_it_is() -> None:
    table = Table()
    table.put(Entry("wide", WIDE, P, D))
    assert table.serving == {"wide": None}
    assert table.copies == {bucket_id("wide"): UNKNOWN}
    assert [entry.name for entry in table.reserved()] == ["wide"]
    assert table.created() == []
    table.put(table.entries["wide"].created())
    assert table.serving == {"wide": WIDE}
    assert table.copies == {bucket_id("wide"): 5}
    assert table.changed == [bucket_id("wide")] * 2
    assert table.created() == [Entry("wide", WIDE)]
    assert table.reserved() == []


def test_a_withdrawn_reservation_leaves_nothing() -> None:
    table = Table()
    table.put(Entry("wide", WIDE, P, D))
    table.withdraw("wide")
    assert (len(table), table.serving, table.copies, table.pack()) == (0, {}, {}, b"")
    assert table.changed == [bucket_id("wide")] * 2
    table.put(Entry("wide", WIDE, Q, D))


def test_a_doubt_outlives_the_proposal_that_took_its_place() -> None:
    table = Table()
    table.put(Entry("wide", WIDE, P, D, doubtful=True))
    table.withdraw("wide")
    assert table.get("wide") == Entry("wide", WIDE, doubtful=True)
    assert not table.entries["wide"].is_created
    assert table.serving == {"wide": None}


def test_a_doubt_is_served_to_nobody_though_the_defaults_took_its_place() -> None:
    """The abandoned creation may have been decided, with another n."""
    table = Table()
    table.put(Entry("wide", WIDE, P, D))
    table.put(Entry("wide", DEFAULTS, Q, D, doubtful=True))
    assert table.serving == {"wide": None}
    table.withdraw("wide")
    assert table.serving == {"wide": None}
    assert table.copies == {bucket_id("wide"): UNKNOWN}
    assert Table(unpack(table.pack())).serving == {"wide": None}
    table.put(Entry("wide", DEFAULTS))
    assert (table.serving, table.copies) == ({}, {})


def test_the_defaults_change_nothing_reserved_or_created() -> None:
    table = Table()
    table.put(Entry("plain", DEFAULTS, P, D))
    table.put(Entry("plain", DEFAULTS))
    assert (table.serving, table.copies, table.changed) == ({}, {}, [])
    assert table.created() == [Entry("plain", DEFAULTS)]


def test_two_names_of_one_id_are_told_apart_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bucket_id", lambda name: name[:1].encode())
    table = Table([Entry("wide", WIDE)])
    assert table.has_id_of("whatever")
    assert not table.has_id_of("wide")
    assert not table.has_id_of("other")


def test_created_buckets_come_by_name() -> None:
    table = Table([Entry("b", WIDE), Entry("c", WIDE, P, D), Entry("a", WIDE)])
    assert [entry.name for entry in table.created()] == ["a", "b"]
    assert table.changed == []


# ── bytes ──


@given(st.lists(entries, max_size=20, unique_by=lambda entry: entry.name))
def test_what_is_packed_is_unpacked(some: list[Entry]) -> None:
    packed = pack(some)
    assert unpack(packed) == sorted(some)
    assert pack(reversed(some)) == packed
    table = Table(some)
    assert table.pack() == packed
    assert table.pack() is table.pack()


def test_a_changed_table_has_other_bytes() -> None:
    table = Table([Entry("a", WIDE)])
    before = table.pack()
    table.put(Entry("b", WIDE, P, D))
    assert table.pack() != before
    table.withdraw("b")
    assert table.pack() == before


def test_a_full_table_fits_into_a_message() -> None:
    full = [Entry(f"{number:064}", WIDE, P, D) for number in range(BUCKETS_MAX)]
    packed = pack(full)
    assert len(packed) < 2 << 20
    assert len(unpack(packed)) == BUCKETS_MAX
    with pytest.raises(ProtocolError):
        unpack(pack([*full, Entry("one more", WIDE)]))


FIELDS: list[object] = ["wide", 5, 1, 1, 0, P, D, False]


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:-1],
        [*FIELDS, *FIELDS],
        [*FIELDS, "other", *FIELDS[1:]],
        [b"wide", *FIELDS[1:]],
        [*FIELDS[:-1], 0],
        ["wide", True, *FIELDS[2:]],
        ["", *FIELDS[1:]],
        ["wide", 10, *FIELDS[2:]],
        ["wide", 5, 6, *FIELDS[3:]],
        ["wide", 5, 1, 1, 1, P, D, False],
        ["wide", 5, 1, 1, 0, P, b"", False],
        ["wide", 5, 1, 1, 0, b"", D, False],
        ["wide", 5, 1, 1, 0, P[1:], D, False],
        ["wide", -5, 1, 1, 0, P, D, False],
        [["wide"], 5, 1, 1, 0, P, D, False],
    ],
)
def test_what_no_table_packs_to_is_refused(fields: list[object]) -> None:
    assert unpack(dumps(FIELDS)) == [Entry("wide", Properties(5, 1, 1, 0), P, D)]
    with pytest.raises(ProtocolError):
        unpack(dumps(fields))


@given(st.binary(min_size=1, max_size=40))
def test_bytes_of_a_stranger_raise_nothing_else(data: bytes) -> None:
    with suppress(ProtocolError):
        assert unpack(data)
