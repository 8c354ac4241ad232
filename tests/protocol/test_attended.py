"""Attended time: it grows while somebody looks, and by nothing else."""

from __future__ import annotations

from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.protocol.attended import GAP, Attended
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import DEAD
from dyno.storage.memory import MemoryEngine

SLOT = b"\0\1\3" + bytes(24)


class Clock:
    """A process on an engine, whose attended time is asked for."""

    def __init__(self, engine: MemoryEngine | None = None) -> None:
        self.engine = engine or MemoryEngine()
        self.replica = Replica(engine=self.engine, minter=Minter(bytes(8)), config=Config())
        self.attended = Attended(self.replica, look_s=1.0, keep_s=60.0)
        self.puts = 0

    def put(self) -> None:
        self.puts += 1
        request = self.puts.to_bytes(16, "big")
        self.replica.put(SLOT, b"key", context=Context.EMPTY, request=request, value=b"value")

    def commit(self) -> bool:
        batch = self.replica.take_batch()
        if batch is None:
            return False
        self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(0.0, Outbox())
        return True

    def look(self, *times: float) -> int:
        for now in times:
            self.attended.look(now)
        return self.attended.ms


def test_it_grows_from_look_to_look() -> None:
    assert Clock().look(100.0, 101.0, 102.5) == 2500
    assert Clock().look(100.0) == 0


def test_a_pause_counts_no_more_than_a_few_looks() -> None:
    assert Clock().look(100.0, 101.0, 1e9) == 1000 * (1 + GAP)


def test_a_clock_that_goes_back_adds_nothing() -> None:
    assert Clock().look(100.0, 101.0, 50.0, 51.0) == 2000


def test_who_just_woke_up_is_not_steady_for_a_while() -> None:
    clock = Clock()
    clock.look(100.0, 101.0)
    assert clock.attended.is_steady(101.0, 1000.0), "a new process has begun nothing before"
    clock.look(102.0 + GAP)
    assert not clock.attended.is_steady(102.0 + GAP, 1.0)
    assert clock.attended.is_steady(103.0 + GAP, 1.0)


def test_a_restart_goes_on_from_what_was_kept() -> None:
    clock = Clock()
    clock.put()
    clock.look(0.0, 2.0)
    clock.attended.keep()
    assert clock.commit()
    clock.look(3.0)
    after = Clock(clock.engine)
    assert after.look(1e6) == 2000, "what was not on the disk is lost, and the time in between is none"
    assert after.look(1e6 + 1) == 3000


def test_nothing_is_written_on_an_empty_node() -> None:
    clock = Clock()
    clock.look(0.0, *range(1, 200))
    clock.attended.keep()
    assert not clock.commit()


def test_it_is_kept_with_what_is_committed_anyway_and_else_rarely() -> None:
    clock = Clock()
    clock.put()
    clock.attended.keep()
    assert DEAD not in clock.replica._gathering.writes, "nothing has changed"
    clock.commit()
    clock.look(*range(60))
    clock.attended.keep()
    assert not clock.commit()
    clock.look(60)
    clock.attended.keep()
    assert clock.commit()
    clock.look(61)
    clock.put()
    clock.attended.keep()
    assert DEAD in clock.replica._gathering.writes


def test_a_disk_that_refuses_is_asked_again() -> None:
    clock = Clock()
    clock.put()
    clock.replica.take_batch()
    clock.replica.commit_failed(b"start 02", 0.0, Outbox())
    clock.look(0.0, 2.0)
    clock.attended.write()
    clock.replica.tick(10.0)
    assert clock.commit(), "the disk is tried without records first"
    clock.attended.write()
    assert clock.commit()
    assert Clock(clock.engine).attended.ms == 2000


def test_a_damaged_row_makes_everything_young() -> None:
    clock = Clock()
    clock.look(0.0, 2.0)
    clock.attended.write()
    clock.commit()
    clock.engine.corrupt(DEAD)
    assert Clock(clock.engine).attended.ms == 0
