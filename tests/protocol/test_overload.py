"""Expected delays: of a disk that commits, of one that reads, of peers that store."""

from __future__ import annotations

import math
from typing import TypeAlias

import pytest

from dyno.config import Config
from dyno.protocol import foresight
from dyno.protocol.overload import (
    ALWAYS_READS,
    PEERS_ROOM,
    WINDOW_MIN,
    DiskPace,
    PeerLoads,
    ReadLine,
    answer_to,
)
from dyno.wire import messages
from dyno.wire.messages import (
    DEFAULT,
    STATUS_OK,
    STATUS_OVERLOADED,
    AskMembers,
    Compare,
    Compared,
    CompareLeaves,
    Delete,
    Failed,
    Fetch,
    Fetched,
    Get,
    GetMany,
    LeavesCompared,
    ListKeys,
    Message,
    Put,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)

A_GET = Get(1, "bucket", b"key", DEFAULT, DEFAULT, 5000, False)
A_PUT = Put(2, "bucket", b"key", b"v", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)
A_DELETE = Delete(3, "bucket", b"key", b"", DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"r" * 16, 5000, False)
A_GET_MANY = GetMany(8, "bucket", b"keys", DEFAULT, DEFAULT, 5000)
A_LISTING = ListKeys(9, "bucket", 0, b"", 100, DEFAULT, DEFAULT, 5000, False)
OfClients: TypeAlias = Get | Put | Delete | GetMany | ListKeys
OF_CLIENTS: list[OfClients] = [A_GET, A_PUT, A_DELETE, A_GET_MANY, A_LISTING]
A_READ = Read(4, 7, b"slot")
A_STORE = Store(5, 7, b"slot", b"key", b"record")
A_READ_MANY = ReadMany(6, 7, b"slots")
A_SCAN = Scan(7, 7, b"prefix", b"", 100)
OF_PEERS: list[Message] = [A_READ, A_STORE, A_READ_MANY, A_SCAN]


# ── the disk ──


def a_pace(*commits: tuple[float, float]) -> DiskPace:
    pace = DiskPace(0.5)
    for pages, seconds in commits:
        pace.committed(pages, seconds)
    return pace


def test_nothing_is_expected_of_a_disk_that_nobody_knows() -> None:
    pace = a_pace()
    assert pace.delay_s(10_000) == 0.0
    assert pace.pages_in(1.0) == math.inf


def test_a_disk_of_a_thousand_pages_a_second_is_known_after_one_long_commit() -> None:
    pace = a_pace((1, 0.001), (100, 0.1))
    assert pace.delay_s(400) == pytest.approx(0.4, rel=0.05)
    assert pace.pages_in(1.0) == pytest.approx(1000, rel=0.05)


def test_what_is_being_committed_counts_with_what_is_left_of_it() -> None:
    pace = a_pace((1, 0.001), (100, 0.1))
    assert pace.delay_s(100, ahead=200, elapsed_s=0.15) == pytest.approx(0.1 + 0.05, rel=0.05)


def test_a_commit_that_is_late_is_expected_to_take_as_long_again() -> None:
    pace = a_pace((1, 0.001), (100, 0.1))
    assert pace.delay_s(100, ahead=200, elapsed_s=1.2) == pytest.approx(0.1 + 1.0, rel=0.05)


def test_slow_and_unsteady_fsyncs_of_few_pages_say_nothing_about_many() -> None:
    commits = [(pages, 0.02 + 0.01 * (pages % 5)) for pages in range(1, 40)]
    pace = a_pace(*commits, (30, 0.061))
    assert pace.delay_s(10_000) < 0.5


def test_one_commit_that_hangs_changes_nothing() -> None:
    quick = [(5.0, 0.002)] * 10
    for hung in ((5.0, 0.2), (50.0, 0.2)):
        pace = a_pace(*quick, *[(1000, 0.06)] * 5, hung, *quick)
        assert pace.delay_s(5000) < 0.5


def test_a_disk_that_became_slow_is_believed_soon_and_one_that_became_fast_again_as_well() -> None:
    pace = a_pace(*[(1000, 0.06)] * 20, *[(500, 0.5)] * 20)
    assert pace.pages_in(1.0) == pytest.approx(1000, rel=0.05)
    for _ in range(16):
        pace.committed(20, 0.002)
    assert pace.pages_in(1.0) == pytest.approx(10_000, rel=0.05)
    for _ in range(100):
        pace.committed(1, 0.002)  # says nothing new
    pace.committed(0, 0.002)
    assert pace.pages_in(1.0) == pytest.approx(10_000, rel=0.05)


def test_before_the_first_long_commit_is_over_its_own_time_tells() -> None:
    pace = a_pace()
    assert pace.delay_s(1000, ahead=100, elapsed_s=0.1) < 0.5  # it may just hang
    assert pace.delay_s(1000, ahead=100, elapsed_s=0.2) == pytest.approx(2.0)
    assert pace.delay_s(1000, ahead=10, elapsed_s=0.2) < 0.5  # of so few pages it tells nothing


# ── the line before a slow disk ──


def a_line(waiting: int = 0, mean_s: float = 0.001, **config: float) -> ReadLine:
    line = ReadLine(Config(**config))  # type: ignore[arg-type]
    line.mean_s = mean_s
    line.waiting = waiting
    return line


@pytest.mark.parametrize("request_", OF_CLIENTS, ids=repr)
def test_clients_join_a_line_as_long_as_it_is_short_enough(
    request_: Get | Put | Delete | GetMany | ListKeys,
) -> None:
    assert a_line(250).join(request_, 10.0) == 15.0
    assert a_line(251).join(request_, 10.0) is None


@pytest.mark.parametrize("message", OF_PEERS, ids=repr)
def test_what_peers_ask_for_has_more_room_and_no_end(message: Message) -> None:
    most = int(250 * PEERS_ROOM)
    assert a_line(most).join(message, 10.0) == math.inf
    assert a_line(most + 1).join(message, 10.0) is None


def test_who_waits_for_less_than_the_line_takes_does_not_join() -> None:
    assert a_line(100).join(A_GET._replace(budget_ms=99), 10.0) is None
    assert a_line(100).join(A_GET._replace(budget_ms=101), 10.0) == pytest.approx(10.101)


def test_a_few_may_wait_for_a_disk_however_slow() -> None:
    assert a_line(ALWAYS_READS - 1, mean_s=1.0).join(A_GET, 0.0) == 5.0
    assert a_line(ALWAYS_READS, mean_s=1.0).join(A_GET, 0.0) is None


def test_the_count_is_bounded_however_fast_the_disk_is() -> None:
    assert a_line(20, mean_s=0.0, requests_max=20).join(A_GET, 0.0) is None


def test_a_request_that_reads_many_records_takes_the_room_of_many() -> None:
    line = a_line(requests_max=10)
    assert line.join(A_GET_MANY, 0.0, records=10) == 5.0
    assert line.join(A_GET, 0.0) is None
    assert line.leave(A_GET_MANY, 5.0, 1.0, records=10) is not None
    assert line.waiting == 0


def test_a_request_that_reads_more_than_may_wait_is_read_when_nobody_else_waits() -> None:
    line = a_line(requests_max=10)
    assert line.join(A_GET, 0.0) == 5.0
    assert line.join(A_READ_MANY, 0.0, records=11) is None
    line.leave(A_GET, 5.0, 1.0)
    assert line.join(A_READ_MANY, 0.0, records=11) == math.inf
    assert line.join(A_GET, 0.0) is None


def test_who_leaves_makes_room() -> None:
    line = a_line(requests_max=1)
    assert line.join(A_GET, 0.0) is not None
    assert line.join(A_GET, 0.0) is None
    line.leave(A_GET, 5.0, 1.0)
    assert line.join(A_GET, 0.0) is not None


def test_who_has_all_the_time_there_is_does_not_leave_with_more() -> None:
    """More than a field of a message holds."""
    line, request = a_line(1), A_PUT._replace(budget_ms=2**64 - 1)
    until = line.join(request, 0.0)
    assert until is not None
    left = line.leave(request, until, 0.0)
    assert isinstance(left, Put)
    assert left.budget_ms < 2**64


@pytest.mark.parametrize("request_", OF_CLIENTS, ids=repr)
def test_who_leaves_in_time_goes_on_with_the_time_that_is_left(
    request_: Get | Put | Delete | GetMany | ListKeys,
) -> None:
    line = a_line(3)
    assert line.leave(request_, 15.0, 12.5) == request_._replace(budget_ms=2500)
    assert line.leave(request_, 15.0, 14.9999) == request_._replace(budget_ms=1)
    assert line.leave(request_, 15.0, 15.0) is None
    assert line.waiting == 0


@pytest.mark.parametrize("message", OF_PEERS, ids=repr)
def test_what_peers_ask_for_goes_on_as_it_is(message: Message) -> None:
    assert a_line(1).leave(message, math.inf, 100.0) == message


def test_a_long_line_hurries_nobody() -> None:
    assert a_line(100).hurries_nobody
    assert not a_line(10).hurries_nobody


# ── peers ──


def loads_of(**waiting: int) -> PeerLoads:
    loads = PeerLoads(Config())
    for name, count in waiting.items():
        for _ in range(count):
            loads.sent([name], 0.0)
    return loads


def test_every_peer_has_room_until_it_refuses() -> None:
    loads = loads_of(a=1000)
    assert not loads.pressed
    assert loads.room(["a", "b"], 0.5) == 2


def test_a_refusal_leaves_three_quarters_of_what_was_on_its_way() -> None:
    loads = loads_of(a=100, b=10)
    loads.answered("a", STATUS_OVERLOADED, 0.5)
    assert loads.pressed
    assert loads.room(["a", "b"], 0.5) == 1
    for _ in range(23):
        loads.answered("a", STATUS_OK, 0.5)
        assert loads.room(["a"], 0.5) == 0
    for _ in range(5):
        loads.answered("a", STATUS_OK, 0.5)
    assert loads.room(["a"], 0.5) == 1


def test_refusals_in_a_bunch_are_one_piece_of_news_and_later_ones_another() -> None:
    loads = loads_of(a=100)
    for _ in range(20):
        loads.answered("a", STATUS_OVERLOADED, 0.5)
    for _ in range(4):
        loads.answered("a", STATUS_OK, 0.6)
    assert loads.room(["a"], 0.6) == 0  # 76 on their way, a window of 75
    loads.answered("a", STATUS_OK, 0.6)
    assert loads.room(["a"], 0.6) == 1
    loads.answered("a", STATUS_OVERLOADED, 0.7)
    assert loads.room(["a"], 0.7) == 0


def test_the_window_never_closes_for_good() -> None:
    loads = loads_of(a=1)
    for number in range(50):
        loads.answered("a", STATUS_OVERLOADED, float(number))
        loads.sent(["a"], float(number))
    for _ in range(int(WINDOW_MIN) - 1):
        assert loads.room(["a"], 49.5) == 1
        loads.sent(["a"], 49.5)
    assert loads.room(["a"], 49.5) == 0


def test_a_window_is_forgotten_after_a_while_without_refusals() -> None:
    loads = loads_of(a=100)
    loads.answered("a", STATUS_OVERLOADED, 10.0)
    for now in (20.0, 39.9, 40.0):
        loads.answered("a", STATUS_OK, now)
        loads.sent(["a"], now)
        assert loads.room(["a"], now) == (now == 40.0)


def test_a_peer_that_owes_answers_and_gives_none_has_no_room() -> None:
    loads = loads_of(a=1)
    assert loads.room(["a"], 1.4) == 1
    assert loads.room(["a"], 1.6) == 0
    loads.answered("a", STATUS_OK, 1.7)
    assert loads.room(["a"], 100.0) == 1  # it owes nothing
    loads.sent(["a"], 100.0)
    assert loads.room(["a"], 101.4) == 1


def test_what_was_on_its_way_over_a_link_that_broke_is_not_any_more() -> None:
    loads = loads_of(a=100)
    loads.answered("a", STATUS_OVERLOADED, 0.5)
    loads.lost("a")
    loads.lost("nobody")
    assert loads.room(["a"], 0.5) == 1
    loads.answered("a", STATUS_OK, 0.5)  # to what was sent again without being counted
    assert loads.room(["a"], 0.5) == 1


def test_nodes_that_left_the_ring_are_forgotten() -> None:
    loads = loads_of(a=100, b=100)
    for name in "ab":
        loads.answered(name, STATUS_OVERLOADED, 0.5)
    loads.keep(["b", "c"])
    loads.answered("a", STATUS_OVERLOADED, 0.6)  # late
    assert loads.room(["a"], 0.6) == 1
    assert loads.room(["b"], 0.6) == 0


# ── the answer ──


@pytest.mark.parametrize("request_", OF_CLIENTS, ids=repr)
def test_a_client_hears_why_and_when_to_come_again(request_: OfClients) -> None:
    answer = answer_to(request_, name="n1", why="it is too much", retry_after_s=0.25)
    assert answer == Failed(request_.id, "overloaded", "n1: it is too much", 0, "", False, 250, b"")


def test_a_peer_hears_a_status() -> None:
    words = {"name": "n1", "why": "it is too much", "retry_after_s": 0.25}
    assert answer_to(A_READ, **words) == ReadAnswer(4, STATUS_OVERLOADED, b"")
    assert answer_to(A_STORE, **words) == Stored(5, STATUS_OVERLOADED)
    assert answer_to(A_STORE._replace(id=0), **words) is None
    assert answer_to(A_READ_MANY, **words) == ReadManyAnswer(6, STATUS_OVERLOADED, b"")
    compare = Compare(8, 7, 0, 3, b"", b"", b"")
    assert answer_to(compare, **words) == Compared(8, STATUS_OVERLOADED, False, b"", b"", 0)
    leaves = CompareLeaves(10, 7, b"")
    assert answer_to(leaves, **words) == LeavesCompared(10, STATUS_OVERLOADED, b"")
    assert answer_to(Fetch(9, 7, b""), **words) == Fetched(9, STATUS_OVERLOADED, b"")
    assert answer_to(A_SCAN, **words) == ScanAnswer(7, STATUS_OVERLOADED, b"", b"")
    with pytest.raises(AssertionError):
        answer_to(AskMembers(1), **words)


def test_whatever_may_wait_for_the_disk_can_be_refused() -> None:
    kinds = [
        kind
        for kind in vars(foresight).values()
        if getattr(kind, "__module__", "").startswith(messages.__name__)
    ]
    assert CompareLeaves in kinds
    for kind in kinds:
        request = kind._make([1] * len(kind._fields))
        assert answer_to(request, name="n1", why="it is too much", retry_after_s=0.25) is not None
