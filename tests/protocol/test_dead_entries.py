"""Since when entries are dead: what a survey notes, what counts, and what is dropped."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.attended import Attended
from dyno.protocol.dead_entries import STEPS, DeadEntries, Ripe
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import DEAD, rows_of
from dyno.storage.cell import record_of
from dyno.storage.memory import MemoryEngine

AFTER_S, LEAD_S = 64.0, 8.0
STEP_S = AFTER_S / STEPS
KEY, REQUEST = b"key", bytes(16)


def slot(number: int) -> bytes:
    return b"\0\7\3" + number.to_bytes(24, "big")


SLOT = slot(1)


def who(number: int) -> bytes:
    return actor(b"start %02d" % number, 0)


def context(**counts: int) -> Context:
    """context(a1=2): dots 1 and 2 of actor 1."""
    whole = Context.EMPTY
    for name, count in counts.items():
        for counter in range(1, count + 1):
            whole = whole.add(Dot(who(int(name[1:])), counter))
    return whole


def a_record(dead: Context, *live: int) -> Record:
    record = Record.EMPTY.delete(dead)
    for number in live:
        counter = record.context.highest(who(number)) + 1
        record = record.write(Context.EMPTY, Dot(who(number), counter), REQUEST, b"value")
    return record


class Owner:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.now = 0.0
        self._open()

    def _open(self) -> None:
        self.replica = Replica(engine=self.engine, minter=Minter(b"start 99"), config=Config())
        self.attended = Attended(self.replica, look_s=1.0, keep_s=60.0)
        self.attended.look(self.now)
        self.dead = DeadEntries(self.replica, self.attended, reap_after_s=AFTER_S, lead_s=LEAD_S)

    def restart(self) -> None:
        self._open()

    def write(self, record: Record, at: bytes = SLOT) -> None:
        self.replica.merge(at, KEY, record.pack())
        self.commit()

    def commit(self) -> None:
        while (batch := self.replica.take_batch()) is not None:
            self.engine.write_batch(batch.writes, batch.meta)
            self.replica.committed(self.now, Outbox())

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            self.attended.look(self.now)

    def survey(self, limit: int = 100) -> list[Ripe]:
        found: list[Ripe] = []
        onward: bytes | None = b""
        while onward is not None:
            ripe, onward = self.dead.survey(onward, limit=limit)
            found += ripe
        self.commit()
        return found

    def record(self, at: bytes = SLOT) -> Record:
        cell = self.engine.get(at)
        return Record.unpack(record_of(cell)) if cell else Record.EMPTY

    def rows(self) -> list[bytes]:
        start, end = rows_of(DEAD)
        return [key[len(DEAD) :] for key, _ in self.engine.scan(start, end, limit=1000)[0] if key != DEAD]


# ── noticing ──


def test_a_record_without_dead_entries_has_no_row() -> None:
    owner = Owner()
    owner.write(a_record(Context.EMPTY, 1))
    owner.write(a_record(Context.EMPTY, 1, 2), slot(2))
    assert owner.survey() == []
    assert owner.rows() == []


def test_entries_are_ripe_when_they_were_dead_long_enough_and_proposed_a_little_later() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2), 2))
    assert owner.survey() == []
    assert owner.rows() == [SLOT]
    owner.wait(AFTER_S - 1)
    assert owner.dead.ripe(SLOT) == Context.EMPTY
    owner.wait(1)
    assert owner.dead.ripe(SLOT) == context(a1=2)
    assert owner.survey() == []
    owner.wait(LEAD_S)
    (ripe,) = owner.survey()
    assert (ripe.slot, ripe.entries) == (SLOT, context(a1=2))
    assert ripe.bytes > len(owner.record().pack())


def test_every_entry_has_an_age_of_its_own() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2), 3))
    owner.survey()
    owner.wait(AFTER_S / 2)
    owner.write(a_record(context(a1=2, a2=1), 3))
    owner.survey()
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == context(a1=2)
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == context(a1=2, a2=1)


def test_an_entry_whose_count_has_changed_is_young_again() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.survey()
    owner.wait(AFTER_S / 2)
    owner.write(a_record(context(a1=3)))
    owner.survey()
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == Context.EMPTY
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == context(a1=3)


def test_a_survey_that_finds_nothing_new_still_ages_what_it_knows() -> None:
    """A page that is surveyed again right away gives what one that was never surveyed before gives."""
    owner = Owner()
    owner.write(a_record(context(a1=2), 3))
    owner.survey()
    owner.wait(AFTER_S / 2)
    owner.write(a_record(context(a1=2, a2=4), 5))
    for _ in range(2):
        owner.survey()
    for _ in range(int(AFTER_S + LEAD_S)):
        owner.wait(1)
        again = owner.survey()
        row = owner.replica.row(DEAD + SLOT)
        anew = DeadEntries(owner.replica, owner.attended, reap_after_s=AFTER_S, lead_s=LEAD_S)
        assert anew.survey(b"", limit=100) == (again, None)
        owner.commit()
        assert owner.replica.row(DEAD + SLOT) == row
    (ripe,) = again
    assert ripe.entries == context(a1=2, a2=4)


def test_what_changed_since_the_survey_is_not_ripe() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.survey()
    owner.wait(AFTER_S)
    owner.replica.merge(SLOT, KEY, a_record(context(a1=3)).pack())
    assert owner.dead.ripe(SLOT) == Context.EMPTY, "though it is not on the disk yet"


def test_a_row_goes_when_nothing_is_dead_any_more_or_the_record_is_gone() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=1)))
    owner.write(a_record(context(a1=1)), slot(2))
    owner.survey()
    owner.write(a_record(context(a1=1), 1))
    owner.engine.write_batch({slot(2): None}, {})
    owner.survey()
    assert owner.rows() == []


def test_many_deaths_make_few_groups() -> None:
    owner = Owner()
    dead = {}
    for number in range(90):
        dead[f"a{number}"] = 1
        owner.write(a_record(context(**dead)))
        owner.survey()
        owner.wait(1)
    owner.wait(AFTER_S)
    row = owner.engine.get(DEAD + SLOT)
    assert row is not None
    assert len(row) < 90 * 24 + (STEPS + 8) * 20
    assert len(owner.dead.ripe(SLOT).actors()) in range(80, 91)


def test_a_survey_goes_page_by_page() -> None:
    owner = Owner()
    for number in range(10):
        owner.write(a_record(context(a1=1)), slot(number))
    owner.survey(limit=3)
    assert owner.rows() == [slot(number) for number in range(10)]
    owner.wait(AFTER_S + LEAD_S)
    assert [ripe.slot for ripe in owner.survey(limit=3)] == owner.rows()


def test_rows_of_many_records_that_are_gone_are_dropped_page_by_page() -> None:
    owner = Owner()
    for number in range(20):
        owner.write(a_record(context(a1=1)), slot(number))
    owner.survey()
    owner.engine.write_batch({slot(number): None for number in range(1, 19)}, {})
    owner.survey(limit=1)
    assert owner.rows() == [slot(0), slot(19)]


def test_what_is_being_written_is_left_to_the_next_survey() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=1)))
    owner.write(a_record(context(a1=1)), slot(2))
    owner.survey()
    owner.wait(AFTER_S)
    owner.dead.forget(SLOT, context(a1=1))  # record and row are on their way out
    owner.replica.write_row(DEAD + slot(2), b"")
    owner.engine.write_batch({slot(2): None}, {})
    owner.dead.survey(b"", limit=10)
    assert owner.replica.row(DEAD + SLOT) is None
    assert owner.replica.row(DEAD + slot(2)) == b""


# ── damage ──


def test_damaged_records_and_rows_say_nothing() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=1)))
    owner.write(a_record(context(a1=1)), slot(2))
    owner.survey()
    owner.wait(AFTER_S + LEAD_S)
    owner.engine.corrupt(SLOT)
    owner.engine.corrupt(DEAD + slot(2))
    assert owner.dead.ripe(SLOT) == owner.dead.ripe(slot(2)) == Context.EMPTY
    owner.survey()
    assert owner.rows() == [SLOT, slot(2)]
    assert owner.dead.ripe(slot(2)) == Context.EMPTY, "its age begins anew"


def test_a_record_of_another_kind_is_left_alone() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=1)))
    owner.survey()
    cell = owner.engine.get(SLOT)
    assert cell is not None
    other = bytearray(cell)
    other[2 + len(KEY) + 1] = 9  # the kind
    owner.engine.write_batch({SLOT: bytes(other)}, {})
    owner.wait(AFTER_S)
    assert owner.dead.ripe(SLOT) == Context.EMPTY
    owner.survey()
    assert owner.rows() == []


# ── dropping ──


def test_what_is_ripe_here_too_is_dropped_with_its_row() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.survey()
    owner.wait(AFTER_S)
    assert owner.dead.forget(SLOT, context(a1=2)) == 1
    owner.commit()
    assert owner.engine.get(SLOT) is None
    assert owner.rows() == []


def test_what_is_young_stays_with_its_age() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2), 3))
    owner.survey()
    owner.wait(AFTER_S / 2)
    owner.write(a_record(context(a1=2, a2=1), 3))
    owner.survey()
    owner.wait(AFTER_S / 2)
    assert owner.dead.forget(SLOT, context(a1=2, a2=1)) == 1
    owner.commit()
    assert owner.record() == a_record(context(a2=1), 3)
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == context(a2=1)


def test_what_came_back_after_it_was_dropped_is_young() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.survey()
    owner.wait(AFTER_S)
    owner.dead.forget(SLOT, context(a1=2))
    owner.commit()
    owner.write(a_record(context(a1=2)))
    assert owner.dead.forget(SLOT, context(a1=2)) == 0
    owner.survey()
    assert owner.dead.forget(SLOT, context(a1=2)) == 0
    assert owner.record() == a_record(context(a1=2))


def test_ages_survive_a_restart() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.survey()
    owner.wait(AFTER_S / 2)
    owner.attended.write()
    owner.commit()
    owner.restart()
    owner.wait(AFTER_S / 2)
    assert owner.dead.ripe(SLOT) == context(a1=2)


def test_a_disk_that_takes_nothing_is_said() -> None:
    owner = Owner()
    owner.write(a_record(context(a1=2)))
    owner.replica.write_row(DEAD, b"")
    owner.replica.take_batch()
    owner.replica.commit_failed(b"start 98", owner.now, Outbox())
    with pytest.raises(Refusal):
        owner.dead.survey(b"", limit=10)
