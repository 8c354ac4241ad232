"""What the disk has of a stretch, within bounds."""

from __future__ import annotations

from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.protocol.replica import Replica
from dyno.protocol.stretch import Stretch, read_stretch
from dyno.storage.cell import pack_cell
from dyno.storage.memory import MemoryEngine
from dyno.wire.entries import DAMAGED, digest_of

HEAD = b"\0\x07\x03"
SLOTS = [HEAD + number.to_bytes(24, "big") for number in range(300)]


def a_replica(records: int, size: int = 10) -> tuple[Replica, MemoryEngine]:
    engine = MemoryEngine()
    cells = {slot: pack_cell(b"key", b"", slot[-size:].rjust(size, b".")) for slot in SLOTS[:records]}
    around = {b"\0\x06\x03" + bytes(24): b"below", b"\0\x07\x04" + bytes(24): b"above"}
    engine.write_batch({**cells, **around}, {})
    return Replica(engine=engine, minter=Minter(b"start..."), config=Config()), engine


def read(
    replica: Replica, *, after: bytes = b"", end: bytes = b"", keys: int = 1000, size: int = 1 << 20
) -> Stretch:
    return read_stretch(replica, HEAD, after=after, end=end, keys_max=keys, bytes_max=size)


def test_everything_of_a_partition_and_n_and_nothing_around_it() -> None:
    replica, _ = a_replica(300)
    assert read(replica) == ({slot: digest_of(slot[-10:]) for slot in SLOTS}, b"", False)
    assert read(a_replica(0)[0]) == ({}, b"", False)


def test_a_stretch_lies_behind_one_slot_and_ends_with_another() -> None:
    replica, _ = a_replica(10)
    entries, end, _ = read(replica, after=SLOTS[2], end=SLOTS[5])
    assert (list(entries), end) == (SLOTS[3:6], SLOTS[5])
    between = SLOTS[7] + b"\0"
    assert read(replica, after=SLOTS[2], end=between[:27]).end == SLOTS[7]


def test_bounds_of_keys_and_bytes_end_it_early() -> None:
    replica, _ = a_replica(300)
    entries, end, _ = read(replica, keys=7)
    assert (list(entries), end) == (SLOTS[:7], SLOTS[6])
    entries, end, _ = read(replica, keys=130, end=SLOTS[250])
    assert (len(entries), end) == (130, SLOTS[129])
    assert read(replica, keys=300).end == b""
    entries, end, _ = read(replica, size=1)
    assert 0 < len(entries) < 300
    assert end == list(entries)[-1]


def test_a_corrupt_record_is_in_it_and_reported() -> None:
    replica, engine = a_replica(5)
    engine.corrupt(SLOTS[3])
    entries, _, damaged = read(replica)
    assert entries[SLOTS[3]] == DAMAGED
    assert damaged
    assert list(replica.damaged) == [SLOTS[3]]
