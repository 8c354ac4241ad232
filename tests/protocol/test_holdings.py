"""Whatever could bring back what was reaped is found, on the disk or on its way there."""

from __future__ import annotations

import pytest

from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.protocol.holdings import what_is_held
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import ASIDE, DEAD, HINTS
from dyno.storage.memory import MemoryEngine

HEAD, NEIGHBOUR = b"\0\7\3", b"\0\7\4"
REST = bytes(24)


class Disk:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.replica = Replica(engine=self.engine, minter=Minter(bytes(8)), config=Config())

    def keep(self, *keys: bytes, committed: bool) -> None:
        for key in keys:
            self.replica.write_row(key, b"value")
        if committed:
            batch = self.replica.take_batch()
            assert batch is not None
            self.engine.write_batch(batch.writes, batch.meta)
            self.replica.committed(0.0, Outbox())

    def held(self, *, as_owner: bool = False) -> str:
        return what_is_held(self.replica, HEAD, as_owner=as_owner)


def hint(target: bytes, head: bytes = HEAD) -> bytes:
    return HINTS + target + b"\0" + head + REST


def test_nothing_speaks_against_it_where_nothing_is() -> None:
    assert Disk().held() == Disk().held(as_owner=True) == ""


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("target", [b"n1", b"n10", b"n2"])
def test_a_hint_for_whomever(target: bytes, committed: bool) -> None:
    disk = Disk()
    disk.keep(hint(b"n1", NEIGHBOUR), hint(b"n10", NEIGHBOUR), hint(b"n2", NEIGHBOUR), committed=True)
    assert disk.held() == ""
    disk.keep(hint(target), committed=committed)
    assert "hints" in disk.held()
    assert "hints" in disk.held(as_owner=True)


@pytest.mark.parametrize("committed", [True, False])
def test_a_record_where_it_is_nobodys_business(committed: bool) -> None:
    disk = Disk()
    disk.keep(HEAD + REST, committed=committed)
    assert "does not own" in disk.held()
    assert disk.held(as_owner=True) == ""


def test_a_record_that_is_set_aside() -> None:
    disk = Disk()
    disk.keep(ASIDE + HEAD + REST, committed=True)
    assert "aside" in disk.held()
    assert disk.held(as_owner=True) == ""


def test_what_is_there_of_others_or_other_rows_does_not_matter() -> None:
    disk = Disk()
    disk.keep(NEIGHBOUR + REST, ASIDE + NEIGHBOUR + REST, DEAD + HEAD + REST, committed=True)
    assert disk.held() == ""


def test_what_is_on_its_way_out_is_there_until_then() -> None:
    disk = Disk()
    disk.keep(hint(b"n1"), committed=True)
    disk.replica.write_row(hint(b"n1"), None)
    assert "hints" in disk.held()
    disk.keep(committed=True)
    assert disk.held() == ""
