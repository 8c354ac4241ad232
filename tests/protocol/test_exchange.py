"""Two owners compare what they have and bring each other up to date."""

from __future__ import annotations

import math
from timeit import repeat
from typing import Any

import pytest

from dyno.config import COPIES, Config
from dyno.placement.hashing import SLOT_BYTES, slot_partition
from dyno.protocol import walks
from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.exchange import (
    ANSWER_TIMEOUT_S,
    PARALLEL_MAX,
    RETRY_AFTER_S,
    RETURNED_SHARE,
    TREELESS_S,
    YIELD_S,
)
from dyno.protocol.identity import LOST_ALL
from dyno.protocol.outbox import Outbox
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    Compare,
    Compared,
    CompareRoots,
    Examined,
    Fetch,
    Fetched,
    HintsHeld,
    RootsCompared,
    Store,
    Stored,
)
from dyno.wire.rows import pack_row
from tests.protocol.exchange_harness import FINGERPRINT, Owner, Owners

ROUND_S = Config().exchange_interval_s


def recovering(*names: str, **options: object) -> Owners:
    return Owners(*names, remembered=LOST_ALL, **options)  # type: ignore[arg-type]


def treeless(*names: str, **options: object) -> Owners:
    """Likewise, and all go by stretches."""
    return recovering(*names, treeless=True, **options)


def apart(owners: Owners) -> Owners:
    """Before they have met."""
    owners.unlink(owners.n1, "n2")
    owners.n1.taken()
    return owners


def equal(owners: Owners) -> bool:
    return len({tuple(owner.records().items()) for owner in owners.by_name.values()}) == 1


# ── what comes of it ──


def test_equal_copies_cost_one_question_each() -> None:
    owners = Owners("n1", "n2")
    owners.run(0.0)
    for owner in owners.by_name.values():
        owner.write(b"key")
    owners.n2.replica.merge(*owners.n1.replica_entry(b"key"))
    owners.n1.replica.merge(*owners.n2.replica_entry(b"key"))
    owners.commit()
    owners.run(2 * ROUND_S)
    assert [type(answer) for answer in owners.answers] == [RootsCompared] * 2
    assert all(answer.equal and not answer.groups for answer in owners.answers)
    assert owners.n1.replica.trees.by_head


def test_what_either_lacks_or_has_of_its_own_both_have_afterwards() -> None:
    owners = Owners("n1", "n2")
    for number in range(10):
        owners.n1.write(b"mine %d" % number)
        owners.n2.write(b"yours %d" % number)
        owners.n1.write(b"both %d" % number, b"one")
        owners.n2.write(b"both %d" % number, b"another")
    owners.commit()
    owners.run(2 * ROUND_S)
    assert equal(owners)
    assert len(owners.n1.records()) == 30
    before = len(owners.answers)
    owners.run(2 * ROUND_S)
    assert [answer.equal for answer in owners.answers[before:]] == [True, True]


@pytest.mark.parametrize(("mine", "yours"), [(0, 120), (120, 0), (120, 120), (100, 1), (1, 101)])
def test_many_records_go_in_stretches(mine: int, yours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "KEYS_MAX", 25)
    owners = apart(treeless("n1", "n2"))
    for number in range(mine):
        owners.n1.write(b"mine %d" % number)
    for number in range(yours):
        owners.n2.write(b"yours %d" % number)
    owners.commit()
    owners.link(owners.n1, "n2")
    owners.run(60.0)
    assert equal(owners)
    assert len(owners.n1.records()) == mine + yours
    assert not owners.n1.recovery.recovering


def test_the_last_writes_before_it_got_quiet_are_moved_at_the_first_comparison() -> None:
    owners = Owners("n1", "n2", partitions=1)
    for number in range(10):
        owners.n1.write(b"both %d" % number)
        owners.n2.replica.merge(*owners.n1.replica_entry(b"both %d" % number))
    owners.n1.write(b"missed")
    owners.commit()
    apart(owners)
    owners.now = owners.n1.now = 100.0
    owners.link(owners.n1, "n2")
    owners.run(ROUND_S)
    assert [type(answer) for answer in owners.answers].count(RootsCompared) == 1
    assert equal(owners)


def test_large_records_go_a_few_at_a_time() -> None:
    owners = recovering("n1", "n2")
    for number in range(8):
        owners.n2.write(b"yours %d" % number, size=100_000)
        owners.n1.write(b"mine %d" % number, size=100_000)
    owners.commit()
    owners.run(60.0)
    assert equal(owners)
    fetched = [answer for answer in owners.answers if isinstance(answer, Fetched)]
    assert all(len(answer.entries) < 500_000 for answer in fetched)


@pytest.mark.parametrize(("by_stretches", "at_once"), [(True, PARALLEL_MAX), (False, 1)])
def test_a_recovering_node_compares_everything_with_everybody_at_once(
    by_stretches: bool, at_once: int
) -> None:
    owners = recovering(treeless=by_stretches)
    for name in ("n2", "n3"):
        owners.by_name[name].write(name.encode())
    owners.commit()
    assert owners.n1.recovery.recovering
    owners.n1.tick(0.0)
    assert len(owners.n1.out.sends) == at_once, "what one brings, the next need not"
    owners.run(0.01)
    assert not owners.n1.recovery.recovering
    assert owners.n1.events().count("complete again") == 1
    assert set(owners.n1.records()) == {
        slot for name in ("n2", "n3") for slot in owners.by_name[name].records()
    }


def test_what_was_merged_counts_once_it_is_on_both_disks() -> None:
    owners = recovering("n1", "n2")
    owners.n1.write(b"key", b"one")
    owners.n2.write(b"key", b"another")
    owners.commit()
    n1, n2 = owners.n1, owners.n2
    stored = []
    while True:
        sent = n1.taken()
        if not sent:
            break
        for name, message in sent:
            answer = n2.serve(message)
            if isinstance(answer, Stored):
                stored.append(answer)
            else:
                n1.exchange.answer(name, answer, 0.0, n1.out)
    assert len(stored) == 1
    assert n1.recovery.recovering
    n1.commit()
    assert n1.recovery.recovering
    n1.exchange.answer("n2", stored[0], 0.0, n1.out)
    n1.exchange.answer("n2", stored[0], 0.0, n1.out)  # twice
    owners.run(0.0)
    assert not n1.recovery.recovering


def test_a_node_that_lacks_nothing_compares_one_at_a_time_least_recent_first() -> None:
    owners = Owners()
    owners.run(0.0)
    asked = []
    for _ in range(4):
        owners.now += ROUND_S
        owners.n1.tick(owners.now)
        ((name, message),) = owners.n1.taken()
        assert isinstance(message, CompareRoots)
        asked.append(name)
        owners.n1.exchange.answer(name, owners.by_name[name].serve(message), owners.now, owners.n1.out)
    assert asked == ["n3", "n2"] * 2 or asked == ["n2", "n3"] * 2
    assert owners.n1.exchange.compared_since == 3 * ROUND_S


def test_who_is_back_is_compared_with_at_once_by_one_of_the_two() -> None:
    owners = Owners("n1", "n2")
    owners.run(0.5 * ROUND_S)
    owners.unlink(owners.n1, "n2")
    owners.unlink(owners.n2, "n1")
    owners.n1.taken(), owners.n2.taken()
    owners.link(owners.n1, "n2")
    owners.link(owners.n2, "n1")
    owners.n1.tick(0.6 * ROUND_S + 0.001)
    owners.n2.tick(0.6 * ROUND_S + 0.001)
    assert [type(message) for _, message in owners.n1.taken()] == [CompareRoots]
    assert owners.n2.taken() == []
    owners.n2.tick(2 * ROUND_S)
    assert [type(message) for _, message in owners.n2.taken()] == [CompareRoots]


def test_since_when_everything_was_compared() -> None:
    owners = Owners("n1", "n2")
    assert owners.n1.exchange.compared_since == -math.inf
    assert owners.n1.exchange.compared_with("n2") is None
    owners.run(1.5 * ROUND_S)
    assert owners.n1.exchange.compared_since == RETURNED_SHARE * ROUND_S + ROUND_S
    assert owners.n1.exchange.compared_with("n2") == owners.n1.exchange.compared_since
    assert Owner("n1", config=Config(), names=("n1",)).exchange.compared_since == math.inf


def test_when_a_slot_was_compared_last_with_anybody() -> None:
    owners = Owners("n1", "n2", "n3")
    exchange, slot = owners.n1.exchange, owners.n1.write(b"key")
    assert exchange.compared_at(slot) is None
    owners.run(12 * ROUND_S)
    at = exchange.compared_at(slot)
    assert at is not None
    assert exchange.compared_since <= at <= owners.now
    assert exchange.compared_at(b"\0\0\7" + slot[3:]) is None, "nothing is shared there"


def test_a_node_alone_has_nothing_to_do() -> None:
    assert Owner("n1", config=Config(), names=("n1",)).exchange.deadline() == math.inf
    owners = Owners("n1", "n2")
    owners.unlink(owners.n1, "n2")
    assert owners.n1.exchange.deadline() == math.inf


def test_how_much_there_is_to_compare_does_not_matter_to_who_asks_when_the_next_is_due() -> None:
    def cost(partitions: int) -> float:
        owner = Owner("n1", config=Config(), names=("n1", "n2"), partitions=partitions)
        assert owner.exchange.deadline() == math.inf
        return min(repeat(owner.exchange.deadline, number=100, repeat=20))

    assert cost(1024) < 10 * cost(2), "every turn of a node asks"


# ── its pace ──


def test_what_is_moved_is_bounded_by_the_rate() -> None:
    owners = recovering("n1", "n2", config=Config(exchange_rate_bytes_max=10_000))
    for number in range(100):
        owners.n2.write(b"yours %d" % number, size=1000)
    owners.commit()
    owners.run(5.0)
    assert owners.n1.recovery.recovering
    owners.run(10.0)
    assert not owners.n1.recovery.recovering


@pytest.mark.parametrize(("size", "asked"), [(100, [32, 64, 128, 76]), (10_000, [32, 4, 8, 4, 8])])
def test_it_asks_for_about_as_much_as_fits_into_an_answer(size: int, asked: list[int]) -> None:
    owners = recovering("n1", "n2", config=Config(exchange_rate_bytes_max=1 << 40), partitions=1)
    for number in range(300):
        owners.n2.write(b"yours %d" % number, size=size)
    owners.commit()
    serve = owners.n2.serve
    fetches: list[int] = []

    def serve_and_note(message: Any) -> Any:
        if isinstance(message, Fetch):
            fetches.append(len(message.slots) // SLOT_BYTES)
        return serve(message)

    owners.n2.serve = serve_and_note  # type: ignore[method-assign]
    owners.run(5.0)
    assert fetches[: len(asked)] == asked
    assert sum(fetches) < 2 * 300
    assert equal(owners)


def test_what_the_other_lacks_is_given_a_little_at_a_time() -> None:
    size, count = 100_000, 20
    owners = Owners("n1", "n2", partitions=1, config=Config(exchange_rate_bytes_max=10 * size))
    for number in range(20):
        owners.n1.write(b"both %d" % number)
        owners.n2.replica.merge(*owners.n1.replica_entry(b"both %d" % number))
    for number in range(count):
        owners.n1.write(b"mine %d" % number, size=size)
    owners.commit()
    apart(owners)
    owners.now = owners.n1.now = 100.0
    owners.link(owners.n1, "n2")
    most, was = 0, 0
    while not equal(owners):
        owners.run(0.01)
        stored = sum(isinstance(answer, Stored) for answer in owners.answers)
        most, was = max(most, stored - was), stored
    assert was == count
    assert most == 3, "which is more than GIVE_BYTES_MAX"
    assert count * size / (10 * size) - 1 < owners.now - 100.0 < 4.0, "the rate is kept"


def test_it_yields_to_clients() -> None:
    owners = recovering("n1", "n2", config=Config(batch_waiters_max=1))
    owners.n1.taken()
    owners.unlink(owners.n1, "n2")
    owners.n1.write(b"key")
    owners.n1.replica._gathering.waiters.append(lambda status, now, out: None)
    owners.link(owners.n1, "n2")
    assert owners.n1.taken() == []
    assert owners.n1.exchange.deadline() == YIELD_S
    owners.n1.commit()
    owners.n1.tick(YIELD_S)
    assert owners.n1.taken()


# ── what goes wrong ──


def begun() -> tuple[Owners, str, CompareRoots]:
    """n1 has asked its first question of n2."""
    owners = apart(Owners("n1", "n2"))
    owners.link(owners.n1, "n2")
    owners.now = ROUND_S
    owners.n1.tick(ROUND_S)
    ((name, message),) = owners.n1.taken()
    assert isinstance(message, CompareRoots)
    return owners, name, message


@pytest.mark.parametrize("status", [STATUS_RING, STATUS_OVERLOADED])
def test_a_refusal_is_followed_by_a_pause(status: int) -> None:
    owners, name, asked = begun()
    answer = RootsCompared(asked.id, status, False, b"", b"")
    owners.n1.exchange.answer(name, answer, ROUND_S, owners.n1.out)
    owners.n1.tick(ROUND_S * 1.5)
    assert owners.n1.taken() == []
    assert owners.n1.exchange.compared_since == -math.inf
    owners.n1.tick(2 * ROUND_S)
    assert owners.n1.taken()


def test_a_link_that_breaks_ends_it_and_it_begins_anew() -> None:
    owners, name, asked = begun()
    owners.unlink(owners.n1, name)
    answer = owners.n2.serve(asked)
    owners.n1.exchange.answer(name, answer, ROUND_S, owners.n1.out)  # late: it counts for nothing
    owners.link(owners.n1, name)
    assert owners.n1.exchange.compared_since == -math.inf
    owners.run(3 * ROUND_S)
    assert owners.n1.exchange.compared_since >= ROUND_S


def test_an_answer_counts_once_and_only_from_whom_was_asked() -> None:
    owners, name, asked = begun()
    answer = owners.n2.serve(asked)
    owners.n1.exchange.answer("n3", answer, ROUND_S, owners.n1.out)
    assert owners.n1.exchange.deadline() == ROUND_S + ANSWER_TIMEOUT_S
    owners.n1.exchange.answer(name, answer, ROUND_S, owners.n1.out)
    owners.n1.exchange.answer(name, answer, ROUND_S, owners.n1.out)
    assert owners.n1.taken() == []


def test_an_answer_that_never_comes_is_waited_for_so_long() -> None:
    owners, _, _ = begun()
    owners.n1.tick(ROUND_S + ANSWER_TIMEOUT_S)
    assert owners.n1.taken() == []
    owners.n1.tick(2 * ROUND_S + ANSWER_TIMEOUT_S)
    assert len(owners.n1.taken()) == 1


def test_another_ring_begins_anew() -> None:
    owners, name, asked = begun()
    owners.n1.exchange.replan(ROUND_S, owners.n1.out)
    owners.n1.exchange.answer(name, owners.n2.serve(asked), ROUND_S, owners.n1.out)
    assert owners.n1.exchange.compared_since == -math.inf


def fetching(config: Config | None = None) -> tuple[Owners, Fetch]:
    """n1 has compared one partition with n2 and asks for a record of it."""
    owners = apart(treeless("n1", "n2", config=config))
    slot = owners.n2.write(b"key")
    owners.commit()
    owners.link(owners.n1, "n2")
    for name, message in owners.n1.taken():
        if message.partition == slot_partition(slot):
            owners.n1.exchange.answer(name, owners.n2.serve(message), 0.0, owners.n1.out)
    ((_, fetch),) = owners.n1.taken()
    assert isinstance(fetch, Fetch)
    return owners, fetch


def test_a_disk_that_refuses_leaves_it_unfinished() -> None:
    owners, fetch = fetching()
    n1 = owners.n1
    n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, n1.out)
    n1.fail_commit()
    assert n1.recovery.recovering
    assert n1.records() == {}
    owners.run(15.0)
    assert not n1.recovery.recovering
    assert equal(owners)


def test_a_write_that_ends_after_its_exchange_means_nothing() -> None:
    owners, fetch = fetching()
    n1 = owners.n1
    n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, n1.out)
    owners.unlink(n1, "n2")
    n1.commit()
    assert n1.recovery.recovering


def test_a_full_queue_before_the_disk_breaks_it_off() -> None:
    owners, fetch = fetching(Config(batch_count_max=1))
    n1 = owners.n1
    n1.write(b"a client's")
    n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, n1.out)
    assert n1.exchange.deadline() == RETRY_AFTER_S
    n1.commit()
    owners.run(15.0)
    assert equal(owners)


def test_a_resting_disk_leaves_it_unfinished() -> None:
    owners, fetch = fetching()
    n1 = owners.n1
    n1.write(b"a client's")
    n1.fail_commit()
    n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, n1.out)
    assert n1.recovery.recovering
    owners.run(15.0)
    assert equal(owners)


def test_copies_that_contradict_each_other_are_reported_and_the_others_go_on() -> None:
    owners = recovering("n1", "n2")
    for owner in owners.by_name.values():
        owner.replica._minter.restart(b"the same")
    owners.n1.write(b"key", b"one")
    owners.n2.write(b"key", b"another")
    for number in range(20):
        owners.n2.write(b"yours %d" % number)
    owners.commit()
    owners.run(1.0)
    assert "an exchange with n2" in owners.n1.events()
    assert len(owners.n1.records()) == 21
    assert owners.n1.recovery.recovering


@pytest.mark.parametrize("status", [STATUS_RING, STATUS_OVERLOADED, STATUS_STORAGE, STATUS_REFUSED])
def test_another_disk_that_refuses_leaves_it_unfinished(status: int) -> None:
    owners = recovering("n1", "n2")
    n1 = owners.n1
    owners.unlink(n1, "n2")
    n1.taken()
    n1.write(b"mine")
    n1.commit()
    owners.link(n1, "n2")
    refused = False
    for _ in range(6):
        for name, message in n1.taken():
            answer = owners.n2.serve(message)
            if isinstance(message, Store) and not refused:
                refused, answer = True, Stored(message.id, status)
            n1.exchange.answer(name, answer, 0.0, n1.out)
        if refused:
            break
        n1.tick(0.0)
    assert refused
    assert n1.recovery.recovering
    owners.run(15.0)
    assert not n1.recovery.recovering


def test_a_record_that_is_corrupt_there_leaves_it_unfinished_until_it_is_healed() -> None:
    owners = apart(treeless("n1", "n2"))
    slot = owners.n2.write(b"key")
    other = owners.n2.write(b"another key")
    owners.commit()
    cell = owners.n2.engine.get(slot)
    owners.n2.engine.corrupt(slot)
    owners.link(owners.n1, "n2")
    owners.run(1.0)
    assert owners.n1.recovery.recovering
    assert list(owners.n1.records()) == [other]
    owners.n2.engine.write_batch({slot: cell}, {})
    owners.run(2.0)
    assert not owners.n1.recovery.recovering


def test_a_record_that_turns_out_to_be_corrupt_when_it_is_fetched() -> None:
    owners, fetch = fetching()
    owners.n2.engine.corrupt(fetch.slots)
    owners.n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, owners.n1.out)
    owners.run(1.0)
    assert owners.n1.recovery.recovering


def test_a_record_that_is_gone_when_it_is_fetched() -> None:
    owners, fetch = fetching()
    owners.n2.engine.write_batch({fetch.slots: None}, {})
    owners.n1.exchange.answer("n2", owners.n2.serve(fetch), 0.0, owners.n1.out)
    owners.run(15.0)
    assert not owners.n1.recovery.recovering


def test_a_record_of_one_s_own_that_is_corrupt_is_healed() -> None:
    owners = Owners("n1", "n2", config=Config(scrub_s=1.0))
    slot = owners.n1.write(b"key")
    owners.n2.replica.merge(*owners.n1.replica_entry(b"key"))
    owners.commit()
    owners.run(1.0)
    owners.n1.engine.corrupt(slot)
    owners.run(3.0)
    assert equal(owners)
    assert "is healed" in owners.n1.events()
    owners.run(3.0)
    assert owners.n1.exchange.compared_since > 1.0


def test_a_corrupt_record_that_only_this_node_has_is_nobody_s() -> None:
    owners = apart(Owners("n1", "n2"))
    slot = owners.n1.write(b"key")
    owners.commit()
    owners.n1.engine.corrupt(slot)
    owners.n1.replica.trees.edge = b""
    owners.link(owners.n1, "n2")
    owners.run(30.0)
    assert owners.n2.records() == {}
    assert owners.n1.exchange.compared_since == -math.inf


# ── what others may not say ──


@pytest.mark.parametrize(
    "entries",
    [b"junk", pack_row([b"key"]), pack_row([b"key"] * 3), pack_row([b"another key", b"record"])],
)
def test_what_cannot_have_been_fetched_closes_the_link(entries: bytes) -> None:
    owners, fetch = fetching()
    with pytest.raises(ValueError, match=r"malformed|items|fields|belong|bytes|array"):
        owners.n1.exchange.answer("n2", Fetched(fetch.id, STATUS_OK, entries), 0.0, owners.n1.out)


def test_an_answer_to_nothing_is_dropped() -> None:
    n1 = Owners("n1", "n2").n1
    for answer in (
        Stored(5, STATUS_OK),
        Fetched(5, STATUS_OK, b""),
        Compared(5, STATUS_OK, True, b"", b"", 0),
    ):
        n1.exchange.answer("n2", answer, 0.0, Outbox())


# ── what was reaped ──


def test_who_lost_something_learns_what_was_reaped_with_its_exchanges() -> None:
    owners = recovering("n1", "n2")
    head = owners.n1.write(b"key")[:3]
    owners.n2.generations.rise(head, 3)
    owners.commit()
    owners.run(2 * ROUND_S)
    assert owners.n1.generations.of(head) == 3
    assert not owners.n1.recovery.missing()
    sound = Owners("n1", "n2")
    sound.n2.generations.rise(head, 3)
    sound.commit()
    sound.run(2 * ROUND_S)
    assert sound.n1.generations.of(head) == 0, "it was there, and the word to drop may be on its way"


def test_a_number_that_leaves_no_room_for_the_next_is_not_learned() -> None:
    owners = apart(treeless("n1", "n2"))
    head = owners.n1.write(b"key")[:3]
    owners.commit()
    owners.link(owners.n1, "n2")
    owners.n1.exchange.tick(0.0, owners.n1.out)
    for name, message in owners.n1.taken():
        nonsense = owners.n2.serve(message)._replace(generation=(1 << 64) - 1)
        owners.n1.exchange.answer(name, nonsense, 0.0, owners.n1.out)
    owners.n1.commit()
    owners.run(ROUND_S)
    assert 0 < owners.n1.generations.of(head) < NUMBER_MAX


def test_an_exchange_whose_number_the_disk_refuses_is_not_finished() -> None:
    owners = recovering("n1", "n2")
    head = owners.n1.write(b"key")[:3]
    owners.n2.generations.rise(head, 3)
    owners.commit()
    owners.n1.write(b"never on the disk")
    owners.n1.fail_commit()
    owners.n1.exchange.tick(0.0, owners.n1.out)
    while owners.deliver():
        pass
    assert any(pair[0] == head for pair in owners.n1.recovery.missing())
    owners.run(3.0)
    assert owners.n1.generations.of(head) == 3
    assert not owners.n1.recovery.missing()


# ── what is closed ──


def close(owner: Owner) -> None:
    for head in {pair[0]: None for pair in owner.recovery.pairs()}:
        owner.replica.closed[head] = None


def test_what_is_closed_is_compared_by_nobody_before_it_is_open() -> None:
    owners = recovering("n1", "n2")
    slot = owners.n1.write(b"mine")
    owners.n2.write(b"yours")
    owners.commit()
    close(owners.n1)
    owners.run(4 * ROUND_S + 2 * RETRY_AFTER_S)
    assert not equal(owners)
    assert len(owners.answers) <= PARALLEL_MAX, "to what was asked before it was closed"
    partition = slot_partition(slot)
    asked = owners.n1.serve(Compare(9, FINGERPRINT, partition, COPIES, b"", b"", b""))
    assert asked == Compared(9, STATUS_OVERLOADED, False, b"", b"", 0)
    owners.n1.replica.closed.clear()
    owners.run(4 * ROUND_S + 2 * RETRY_AFTER_S)
    assert equal(owners)


def test_what_is_closed_in_the_middle_of_an_exchange_ends_it() -> None:
    owners = recovering("n1", "n2")
    owners.n1.write(b"mine")
    slot = owners.n2.write(b"yours")
    owners.commit()
    owners.n1.tick(0.0)
    close(owners.n1)
    owners.run(1.0)
    assert not equal(owners)
    assert len(owners.n2.records()) == 1, "nothing of it was sent"
    fetched = owners.n1.serve(Fetch(9, FINGERPRINT, slot))
    assert fetched == Fetched(9, STATUS_OVERLOADED, b"")


@pytest.mark.parametrize(
    "answer",
    [
        Stored(0, STATUS_OK),
        Fetched(0, STATUS_OK, b""),
        HintsHeld(0, b""),
        Examined(0, STATUS_OK, b""),
    ],
)
def test_an_answer_of_another_kind_than_what_was_asked_does_not_come_in(answer: Any) -> None:
    owners, _, question = begun()
    with pytest.raises(ValueError, match="answer"):
        owners.n1.exchange.answer("n2", answer._replace(id=question.id), ROUND_S, owners.n1.out)
    owners.n1.exchange.answer("n2", owners.n2.serve(question), ROUND_S, owners.n1.out)
    assert owners.n1.exchange.compared_since == ROUND_S, "the right one is still welcome"


def test_what_was_to_be_fetched_is_not_compared() -> None:
    owners, fetch = fetching()
    with pytest.raises(ValueError, match="does not answer"):
        owners.n1.exchange.answer("n2", Compared(fetch.id, STATUS_OK, True, b"", b"", 0), 0.0, owners.n1.out)


def test_what_was_compared_before_this_disk_was_found_to_be_an_old_copy_counts_for_nothing() -> None:
    owners = Owners("n1", "n2")
    owners.n1.write(b"key")
    owners.n2.replica.merge(*owners.n1.replica_entry(b"key"))
    owners.commit()
    n1 = owners.n1
    owners.run(0.0)
    n1.tick(ROUND_S)
    ((name, question),) = n1.taken()
    n1.recovery.lose()  # all that it has may be set aside before the answer comes
    lacking = len(n1.recovery.missing())
    n1.exchange.answer(name, owners.n2.serve(question), ROUND_S, n1.out)
    assert len(n1.recovery.missing()) == lacking > 0
    owners.now = ROUND_S + RETRY_AFTER_S
    owners.run(4 * ROUND_S)
    assert not n1.recovery.missing()


# ── trees that are not there ──


def test_who_has_no_trees_yet_is_asked_again_in_a_moment() -> None:
    owners = apart(Owners("n1", "n2"))
    owners.n2.write(b"key")
    owners.commit()
    owners.n2.replica.trees.edge = b""
    owners.n2.treeless = True
    owners.link(owners.n1, "n2")
    owners.run(3 * ROUND_S)
    assert owners.n1.records() == {}
    assert 2 <= len(owners.answers) <= 4, "not all the time"
    owners.n2.treeless = False
    owners.n2.count(owners.now)
    owners.run(2 * ROUND_S + TREELESS_S)
    assert equal(owners)


def test_who_lacks_something_does_not_wait_for_the_trees_of_others() -> None:
    owners = apart(recovering("n1", "n2"))
    slot = owners.n2.write(b"key")
    owners.commit()
    owners.n2.replica.trees.edge = b""
    owners.n2.treeless = True
    owners.link(owners.n1, "n2")
    owners.run(0.5)
    assert list(owners.n1.records()) == [slot]
    assert not owners.n1.recovery.recovering


def test_what_was_closed_while_it_was_compared_is_not_given() -> None:
    owners = apart(treeless("n1", "n2"))
    slots = [owners.n1.write(b"mine %d" % number) for number in range(9)]
    owners.commit()
    owners.link(owners.n1, "n2")
    asked = [message for _, message in owners.n1.taken()]
    for slot in slots:
        owners.n1.replica.closed[slot[:3]] = None
    for message in asked:
        owners.n1.exchange.answer("n2", owners.n2.serve(message), 0.0, owners.n1.out)
    assert owners.n1.taken() == []
    assert owners.n1.exchange.deadline() <= RETRY_AFTER_S


# ── at once, because somebody asked for it ──


def test_what_is_urgent_does_not_wait_for_its_turn() -> None:
    owners = Owners()
    owners.run(5.0)
    exchange, now = owners.n1.exchange, owners.now
    assert exchange.sharers == ["n2", "n3"]
    slot = owners.n2.write(b"key")
    owners.commit()
    owners.n1.exchange._next_at = math.inf
    owners.run(2.0)
    assert slot not in owners.n1.records()
    exchange.urge({"n2": owners.now, "n3": owners.now}, owners.now, owners.n1.out)
    assert exchange.is_comparing("n2")
    assert exchange.is_comparing("n3"), "several at once"
    owners.run(1.5)  # it was written just now: left for the next time, once
    assert slot in owners.n1.records()
    for name in ("n2", "n3"):
        at = exchange.compared_with(name)
        assert at is not None
        assert at >= now + 2.0
        assert exchange.compared_copies(name, COPIES) == at
    assert owners.n1.replica.mended.received == 1
    owners.answers.clear()
    owners.n1.exchange._next_at = math.inf
    owners.run(60.0)
    assert owners.answers == [], "and then no more"


def test_what_is_urgent_waits_until_it_can_be_asked() -> None:
    owners = Owners()
    owners.run(5.0)
    owners.unlink(owners.n1, "n2")
    exchange, since = owners.n1.exchange, owners.now
    exchange.urge({"n2": since}, owners.now, owners.n1.out)
    owners.run(5.0)
    assert (exchange.compared_with("n2") or 0.0) < since
    owners.link(owners.n1, "n2")
    owners.run(0.5)
    assert (exchange.compared_with("n2") or 0.0) >= since


def test_there_is_a_bound_to_what_is_urgent_at_once() -> None:
    owners = Owners(*[f"n{number}" for number in range(1, 9)], partitions=64)
    owners.run(20.0)
    exchange = owners.n1.exchange
    exchange.urge(dict.fromkeys(exchange.sharers, owners.now), owners.now, owners.n1.out)
    assert len(exchange._runs) == PARALLEL_MAX
    since = owners.now
    owners.run(1.0)
    assert all((exchange.compared_with(name) or 0.0) >= since for name in exchange.sharers)


def test_what_moves_is_counted() -> None:
    owners = Owners()
    owners.n1.write(b"mine")
    owners.n2.write(b"yours")
    owners.commit()
    owners.run(30.0)
    mended = owners.n1.replica.mended
    assert (mended.received, mended.sent >= 1, mended.compared >= 4) == (1, True, True)
