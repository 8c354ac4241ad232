"""What is set aside is kept whole, however often that happens to one key."""

from __future__ import annotations

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor, dot_of_request
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.aside import adds_nothing, row_aside
from dyno.protocol.replica import Replica
from dyno.protocol.rows import ASIDE
from dyno.storage.cell import pack_cell, record_of
from dyno.storage.memory import MemoryEngine

SLOT = b"\0\7\3" + bytes(24)
ROW = ASIDE + SLOT


def a_value(value: bytes, number: int = 1) -> Record:
    return Record.EMPTY.write(
        Context.EMPTY, Dot(actor(b"start 55", 0), number), b"request %8d" % number, value
    )


REQUEST = b"request %8d" % 1
ONE, OTHER, CONFLICT = a_value(b"one"), a_value(b"two", 2), a_value(b"not one")


def a_cell(record: Record) -> bytes:
    return pack_cell(b"key", b"", record.pack())


def a_replica() -> tuple[Replica, MemoryEngine]:
    engine = MemoryEngine()
    return Replica(engine=engine, minter=Minter(bytes(8)), config=Config()), engine


def test_the_first_one_is_kept_as_it_is_and_the_same_again_changes_nothing() -> None:
    replica, engine = a_replica()
    assert row_aside(replica, SLOT, a_cell(ONE)) == (ROW, a_cell(ONE))
    engine.write_batch({ROW: a_cell(ONE)}, {})
    assert row_aside(replica, SLOT, a_cell(ONE)) == (ROW, a_cell(ONE))


def test_another_one_is_merged_with_it() -> None:
    replica, engine = a_replica()
    engine.write_batch({ROW: a_cell(ONE)}, {})
    row, merged = row_aside(replica, SLOT, a_cell(OTHER))
    assert row == ROW
    assert record_of(merged) == ONE.merge(OTHER).pack()


def test_one_that_contradicts_it_is_kept_beside_it() -> None:
    replica, engine = a_replica()
    engine.write_batch({ROW: a_cell(ONE)}, {})
    row, cell = row_aside(replica, SLOT, a_cell(CONFLICT))
    assert row.startswith(ROW)
    assert len(row) == len(ROW) + 8
    assert cell == a_cell(CONFLICT)


def test_where_the_one_that_is_there_is_damaged_the_other_is_kept_beside_it() -> None:
    replica, engine = a_replica()
    engine.write_batch({ROW: a_cell(ONE)}, {})
    engine.corrupt(ROW)
    row, cell = row_aside(replica, SLOT, a_cell(OTHER))
    assert (len(row), cell) == (len(ROW) + 8, a_cell(OTHER))


def test_in_doubt_it_adds_something() -> None:
    assert adds_nothing(ONE.pack(), ONE.pack())
    assert adds_nothing(ONE.pack(), ONE.delete(ONE.context).pack())
    assert adds_nothing(Record.EMPTY.pack(), b"")
    again = Record.EMPTY.write(Context.EMPTY, dot_of_request(REQUEST), REQUEST, b"one")
    assert adds_nothing(ONE.pack(), again.pack())
    assert not adds_nothing(ONE.pack(), OTHER.pack())
    assert not adds_nothing(ONE.pack(), CONFLICT.pack())
    assert not adds_nothing(ONE.pack(), b"")
    assert not adds_nothing(b"nonsense", ONE.pack())
