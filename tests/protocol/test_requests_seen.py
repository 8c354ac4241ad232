"""Which writes were stored lately, through restarts, failed commits and bounds."""

from __future__ import annotations

from dyno.causality.dots import Dot
from dyno.protocol.requests_seen import RequestsSeen
from dyno.protocol.rows import SEEN, rows_of
from dyno.storage.memory import MemoryEngine

SLOT, OTHER = b"s" * 27, b"t" * 27
FIRST, SECOND = Dot(b"a" * 16, 1), Dot(b"b" * 16, 7)


def request(number: int = 1) -> bytes:
    return number.to_bytes(16, "big")


class Disk:
    """What is seen on one engine, whose batches are committed when told to."""

    def __init__(self, *, window_s: float = 60.0, count_max: int = 1000) -> None:
        self.engine = MemoryEngine()
        self.window_s, self.count_max = window_s, count_max
        self.gathering: list[bytes] = []
        self.restart()

    def restart(self) -> None:
        self.gathering = []
        self.seen = RequestsSeen(self.engine, window_s=self.window_s, count_max=self.count_max)

    def note(self, number: int = 1, dot: Dot = FIRST, slot: bytes = SLOT) -> None:
        self.seen.note(self.gathering, slot, request(number), dot)

    def take(self, now: float | None = 0.0) -> dict[bytes, bytes | None]:
        writes: dict[bytes, bytes | None] = {}
        self.seen.take(self.gathering, writes, now)
        self.taken, self.gathering = self.gathering, []
        return writes

    def commit(self, now: float | None = 0.0) -> None:
        self.engine.write_batch(self.take(now), {})

    def rows(self) -> list[bytes]:
        start, end = rows_of(SEEN)
        return [key for key, _ in self.engine.scan(start, end, limit=1000)[0]]

    def dots(self, number: int = 1, slot: bytes = SLOT) -> list[Dot]:
        return self.seen.dots(slot, request(number))


def test_a_write_is_known_at_once_by_its_request_in_its_slot() -> None:
    disk = Disk()
    assert disk.dots() == []
    disk.note()
    assert disk.dots() == [FIRST]
    assert disk.dots(slot=OTHER) == []
    assert disk.dots(2) == []
    assert disk.seen.knows(request())
    assert not disk.seen.knows(request(2))


def test_a_request_may_have_been_done_more_than_once() -> None:
    disk = Disk()
    for dot in (FIRST, SECOND, FIRST):
        disk.note(dot=dot)
    disk.note(dot=SECOND, slot=OTHER)
    assert disk.dots() == [FIRST, SECOND]
    assert disk.dots(slot=OTHER) == [SECOND]


def test_a_batch_is_one_row_in_the_order_of_time_and_none_for_nothing() -> None:
    disk = Disk()
    assert disk.take() == {}
    for batch in range(3):
        for number in range(4):
            disk.note(batch * 10 + number)
        disk.commit()
    assert len(disk.rows()) == 3
    assert disk.rows() == sorted(disk.rows())


def test_what_is_on_the_disk_is_known_after_a_restart_and_numbers_go_on() -> None:
    disk = Disk()
    disk.note()
    disk.note(dot=SECOND)
    disk.commit()
    rows = disk.rows()
    disk.note(2)  # never committed
    disk.restart()
    assert disk.dots() == [FIRST, SECOND]
    assert disk.dots(2) == []
    disk.note(3)
    disk.commit()
    assert len(disk.rows()) == 2
    assert disk.rows()[0] == rows[0]


def test_what_is_older_than_the_window_goes_with_the_next_batch() -> None:
    disk = Disk(window_s=10.0)
    disk.note(1)
    disk.commit(100.0)
    disk.note(2)
    disk.commit(105.0)
    disk.note(3)
    disk.commit(109.9)
    assert disk.dots(1) == [FIRST]
    disk.note(4)
    disk.commit(110.0)
    assert (disk.dots(1), disk.dots(2)) == ([], [FIRST])
    assert len(disk.rows()) == 3


def test_what_earlier_starts_knew_goes_a_window_after_the_first_batch_of_this_one() -> None:
    disk = Disk(window_s=10.0)
    disk.note(1)
    disk.commit(1000.0)
    disk.restart()
    disk.commit(5.0)  # this process counts its time from somewhere else
    disk.note(2)
    disk.commit(14.9)
    assert disk.dots(1) == [FIRST]
    disk.commit(15.0)
    assert disk.dots(1) == []
    assert disk.dots(2) == [FIRST]


def test_without_a_time_nothing_is_too_old() -> None:
    disk = Disk(window_s=0.001)
    for number in range(5):
        disk.note(number)
        disk.commit(None)
    assert all(disk.dots(number) for number in range(5))


def test_old_rows_go_a_few_at_a_time() -> None:
    disk = Disk(window_s=1.0)
    for number in range(40):
        disk.note(number)
        disk.commit(0.0)
    left = []
    for _ in range(4):
        disk.commit(10.0)
        left.append(len(disk.rows()))
    assert left == [24, 8, 0, 0]


def test_there_are_never_many_more_than_the_bound_and_the_oldest_go_first() -> None:
    disk = Disk(count_max=10)
    for number in range(30):
        disk.note(number)
        disk.commit()
    assert [number for number in range(30) if disk.dots(number)] == list(range(20, 30))
    disk.commit()
    assert len(disk.rows()) == 10
    for number in range(100, 150):
        disk.note(number)
    disk.commit()  # one batch is more than the bound: it is all that is known
    assert disk.dots(29) == []
    assert all(disk.dots(number) for number in range(100, 150))
    disk.commit()
    assert len(disk.rows()) == 1


def test_a_start_reads_no_more_than_the_bound() -> None:
    disk = Disk(count_max=1000)
    for number in range(600):
        disk.note(number)
        disk.commit()
    disk.count_max = 10
    disk.restart()
    assert [number for number in range(600) if disk.dots(number)] == list(range(590, 600))
    for _ in range(50):
        disk.commit()
    assert len(disk.rows()) == 10


def test_a_damaged_row_tells_nothing_and_goes_like_others() -> None:
    disk = Disk(window_s=1.0)
    disk.note(1)
    disk.commit()
    disk.note(2)
    disk.commit()
    disk.engine.corrupt(disk.rows()[0])
    disk.engine.write_batch({SEEN + b"\xff" * 8: b"too short"}, {})
    disk.restart()
    assert (disk.dots(1), disk.dots(2)) == ([], [FIRST])
    disk.commit(0.0)
    disk.commit(1.0)
    assert disk.rows() == []


def test_what_a_failed_commit_carried_is_not_known() -> None:
    disk = Disk(window_s=1.0)
    disk.note(1)
    disk.commit(0.0)
    disk.note(1, SECOND)
    disk.note(2)
    writes = disk.take(2.0)
    assert list(writes.values()).count(None) == 1
    disk.note(3)
    queued = disk.gathering
    disk.seen.failed(disk.taken, writes)
    disk.seen.failed(queued, {})
    disk.gathering = []
    assert [disk.dots(number) for number in (1, 2, 3)] == [[], [], []]
    disk.note(4)
    disk.commit(2.0)
    assert len(disk.rows()) == 1, "what was to go with the failed batch goes with the next"
    assert disk.dots(4) == [FIRST]


def test_of_two_dots_the_one_that_is_old_is_forgotten() -> None:
    disk = Disk(window_s=10.0)
    disk.note(1)
    disk.commit(0.0)
    disk.note(1, SECOND)
    disk.commit(5.0)
    disk.commit(10.0)
    assert disk.dots() == [SECOND]


def test_who_was_asked_for_a_write_and_did_not_know_it_is_barred_from_it() -> None:
    disk = Disk()
    assert disk.seen.barred_at(request()) is None
    disk.seen.bar(request(), 5.0)
    disk.seen.bar(request(), 7.0)
    assert disk.seen.barred_at(request()) == 7.0
    assert disk.seen.barred_at(request(2)) is None
    for number in range(10, 10_010):
        disk.seen.bar(request(number), 8.0)
    assert disk.seen.barred_at(request()) is None, "the oldest are forgotten first"
    assert disk.seen.barred_at(request(10)) == 8.0
