"""One member's part in reaping, as who leads a round, who owns and who only has to keep nothing."""

from __future__ import annotations

import pytest

from dyno.causality.record import Record
from dyno.placement.hashing import slot_partition
from dyno.protocol.candidates import NUMBER_MAX, SLOTS_MAX, pack_candidates, unpack_candidates
from dyno.protocol.reaping import LOOK_S, PAGE_PAUSE_S
from dyno.protocol.rows import DEAD, HINTS
from dyno.wire.members import JOINING
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    AskReap,
    Reap,
    Reapable,
    Stored,
)
from tests.protocol.member_harness import AFTER_S, DEAD_ENTRY, OTHER_ENTRY, Member
from tests.protocol.node_harness import LINK


def leading(*, others: int = 2) -> tuple[Member, bytes, AskReap]:
    """A member that has just asked for a round about one slot."""
    member = Member(others)
    key, slot = member.key(leads=True)
    member.store(key, slot)
    member.wait(AFTER_S * 2, until=AskReap)
    asked = member.asks()
    assert len(asked) == others
    return member, slot, asked[0]


def yes(asked: AskReap) -> Reapable:
    return Reapable(asked.id, STATUS_OK, asked.candidates, "")


# ── who leads ──


def test_a_leader_asks_all_and_tells_the_owners_when_all_agree() -> None:
    member, slot, asked = leading(others=4)
    owners = member.ring.owners(slot)
    head = slot[:3]
    assert unpack_candidates(asked.candidates, head=head) == (1, {slot: DEAD_ENTRY})
    for name in member.others[:-1]:
        member.answers(name, yes(asked))
    assert member.sent(Reap) == []
    member.answers(member.others[-1], yes(asked))
    told = member.sent(Reap)
    assert [address for address, _ in told] == [f"{name}:1" for name in owners[1:]]
    assert told[0][1] == member.reap(slot)._replace(id=asked.id)
    assert member.engine.get(slot) is None
    assert member.node.generations.of(slot) == 1
    assert member.node.reaping.reaped == 1
    for name in owners[1:]:
        member.answers(name, Stored(asked.id, STATUS_OK))
    assert member.node.reaping.held_up == ""


def test_only_what_all_agree_to_is_dropped() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot, dead=DEAD_ENTRY.union(OTHER_ENTRY))
    member.wait(AFTER_S * 2, until=AskReap)
    (asked, _) = member.asks()
    member.answers("n2", yes(asked)._replace(agreed=pack_candidates(1, {slot: DEAD_ENTRY})))
    member.answers("n3", yes(asked))
    (told, _) = member.sent(Reap)
    assert told[1] == member.reap(slot)._replace(id=asked.id)
    assert member.on_disk(slot).context == OTHER_ENTRY


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Reapable(0, STATUS_REFUSED, b"", "it keeps hints there"), "n2: it keeps hints there"),
        (Reapable(0, STATUS_OK, pack_candidates(1, {}), ""), "n2 has not held them as long"),
        (Reapable(0, STATUS_REAPED, bytes(7), "what"), "n2: what"),
    ],
)
def test_a_no_ends_the_round_and_nothing_is_dropped(answer: Reapable, why: str) -> None:
    member, slot, asked = leading()
    member.answers("n2", answer._replace(id=asked.id))
    assert member.node.reaping.held_up == why
    member.answers("n3", yes(asked))
    assert member.sent(Reap) == []
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_the_number_of_a_round_is_above_all_that_anybody_knows() -> None:
    member, slot, asked = leading()
    member.answers("n2", Reapable(asked.id, STATUS_REAPED, (41).to_bytes(8, "big"), "later"))
    member.wait(AFTER_S, until=AskReap)
    (again, _) = member.asks()
    assert unpack_candidates(again.candidates, head=slot[:3])[0] == 42
    member.answers("n2", Reapable(again.id, STATUS_REAPED, b"\xff" * 8, "nonsense"))
    member.wait(AFTER_S, until=AskReap)
    (last, _) = member.asks()
    assert unpack_candidates(last.candidates, head=slot[:3])[0] == NUMBER_MAX


def test_an_answer_counts_once_and_only_in_its_round() -> None:
    member, slot, asked = leading()
    member.answers("n2", yes(asked))
    member.answers("n2", yes(asked))
    member.answers("n3", yes(asked)._replace(id=asked.id - 1))
    member.answers("n3", Stored(asked.id, STATUS_OK))
    assert member.on_disk(slot).context == DEAD_ENTRY
    member.answers("n3", yes(asked))
    assert member.engine.get(slot) is None
    member.answers("n3", yes(asked))
    member.answers("n2", Stored(asked.id, STATUS_OK))
    member.answers("n3", Stored(asked.id, STATUS_OK))
    member.answers("n3", Stored(asked.id, STATUS_OK))


def test_an_answer_about_another_round_is_no_answer() -> None:
    member, slot, asked = leading()
    with pytest.raises(ValueError, match="another round"):
        member.answers("n2", yes(asked)._replace(agreed=pack_candidates(9, {slot: DEAD_ENTRY})))


def test_whoever_does_not_answer_or_is_lost_ends_the_round() -> None:
    member, slot, asked = leading()
    member.answers("n3", yes(asked))
    member.wait(AFTER_S / 8)
    assert member.node.reaping.held_up == "n2 did not answer"
    member.wait(AFTER_S, until=AskReap)
    (again, _) = member.asks()
    assert again.id == asked.id + 1
    member.answers("n3", yes(again))
    member.node.link_down("n3:1", member.now, member.out)  # has said what it had to say
    assert member.node.reaping.held_up != "n3 was lost"
    member.node.link_down("n2:1", member.now, member.out)
    assert member.node.reaping.held_up == "n2 was lost"
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_an_owner_that_is_lost_before_it_dropped_holds_nobody_up() -> None:
    member, slot, asked = leading()
    member.answers("n2", yes(asked))
    member.node.link_down("n2:1", member.now, member.out)
    member.answers("n3", yes(asked))
    assert [address for address, _ in member.sent(Reap)] == ["n3:1"]
    assert member.engine.get(slot) is None
    member.node.link_down("n3:1", member.now, member.out)
    assert member.node.reaping.deadline() > member.now
    assert member.node.reaping._round is None


def test_owners_that_never_say_that_they_dropped_are_not_waited_for() -> None:
    member, _, asked = leading()
    member.answers("n2", yes(asked))
    member.answers("n3", yes(asked))
    assert member.node.reaping._round is not None
    member.wait(AFTER_S / 8)
    assert member.node.reaping._round is None


def test_nobody_is_asked_while_somebody_is_away() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    member.node.link_down("n3:1", member.now, member.out)
    member.wait(AFTER_S * 2)
    assert member.asks() == []
    assert member.node.reaping.held_up == "n3 is away"


def test_a_leader_that_keeps_hints_itself_asks_nobody() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    member.engine.write_batch({HINTS + b"n2\0" + slot: b"a hint"}, {})
    member.wait(AFTER_S * 2)
    assert member.asks() == []
    assert member.node.reaping.held_up == "it keeps hints there"


def test_what_others_lead_is_left_to_them() -> None:
    member = Member()
    member.store(*member.key(leads=False))
    member.wait(AFTER_S * 2)
    assert member.asks() == []


def test_every_partition_has_a_round_of_its_own() -> None:
    member = Member()
    first = member.key(leads=True)
    second = member.key(leads=True, but=first[1][:3])
    member.store(*first)
    member.store(*second)
    member.wait(AFTER_S * 2, until=AskReap)
    (asked, _) = member.asks()
    early, late = sorted((first[1], second[1]))
    assert asked.partition == slot_partition(early)
    for name in ("n2", "n3"):
        member.answers(name, yes(asked))
    for name in ("n2", "n3"):
        member.answers(name, Stored(asked.id, STATUS_OK))
    member.wait(PAGE_PAUSE_S * 2, until=AskReap)
    (then, _) = member.asks()
    assert then.partition == slot_partition(late)


def test_a_round_that_cannot_begin_does_not_hold_up_those_of_other_partitions() -> None:
    """One survey of a page is enough for all of them."""
    member = Member()
    first = member.key(leads=True)
    second = member.key(leads=True, but=first[1][:3])
    member.store(*first)
    member.store(*second)
    early, late = sorted((first[1], second[1]))
    member.engine.write_batch({HINTS + b"n2\0" + early: b"a hint"}, {})
    member.wait(AFTER_S * 2, until=AskReap)
    (asked, _) = member.asks()
    assert asked.partition == slot_partition(late)


def test_the_survey_yields_to_clients_and_waits_for_a_disk_that_rests() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    assert member.node.take_batch() is None
    member.node._replica.write_row(b"\xff\xff\xff\x7f", b"")
    assert member.node.take_batch() is not None
    member.node.commit_failed("no room", member.now, member.out)
    reaping = member.node.reaping
    began = member.now
    for _ in range(200):
        member.now = max(member.now, reaping.deadline())
        reaping.tick(member.now, member.out)
    assert member.now - began > 100 * min(LOOK_S, AFTER_S / 20)  # rarely
    assert member.engine.get(b"\xff\xff\xff\x03" + slot) is None
    member.node._replica.tick(member.now + 1)
    member.wait(AFTER_S / 4)
    assert member.engine.get(b"\xff\xff\xff\x03" + slot) is not None


def test_a_disk_that_refuses_the_promise_or_the_drop_ends_the_round() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    reaping = member.node.reaping
    while reaping._round is None:
        member.now = max(member.now, reaping.deadline())
        reaping.tick(member.now, member.out)
        if reaping._round is None:
            member.commit()
    assert member.node.take_batch() is not None
    member.node.commit_failed("no room", member.now, member.out)
    assert reaping.held_up == "the disk refused"
    member.out.sends.clear()
    member.wait(AFTER_S, until=AskReap)
    asked = member.asks()[-1]
    member.node._replica.write_row(b"\xff\xff\xff\x7f", b"")
    member.node.take_batch()
    member.node.commit_failed("no room", member.now, member.out)
    for name in ("n2", "n3"):
        member.node.answer(f"{name}:1", yes(asked), member.now, member.out)
    assert reaping.held_up == "the disk refused the last writes"
    assert len(member.sent(Reap)) == 2, "the others drop it all the same"
    for name in ("n2", "n3"):
        member.answers(name, Stored(asked.id, STATUS_OK))
    assert member.on_disk(slot).context == DEAD_ENTRY
    assert reaping._round is None


def test_a_disk_that_rests_begins_no_round() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    member.wait(AFTER_S * 1.05)
    reaping = member.node.reaping
    member.node._replica.write_row(b"\xff\xff\xff\x7f", b"")
    member.node.take_batch()
    member.node.commit_failed("no room", member.now, member.out)
    while not reaping.held_up:
        member.now += 0.1
        reaping.tick(member.now, member.out)
    assert reaping.held_up == "the disk refused the last writes"
    assert member.asks() == []


def test_a_ring_that_changes_ends_the_round() -> None:
    member, slot, asked = leading()
    member.learn("n2", "n3", "n4")
    member.answers("n2", yes(asked))
    member.answers("n3", yes(asked))
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_what_comes_back_from_the_disk_for_a_round_that_is_over_means_nothing() -> None:
    member, _, asked = leading()
    reaping = member.node.reaping
    round = reaping._round
    assert round is not None
    member.answers("n2", Reapable(asked.id, STATUS_REFUSED, b"", "no"))
    reaping._own_word(round, STATUS_OK, member.now, member.out)
    assert reaping.held_up == "n2: no"


def test_many_records_are_surveyed_page_by_page_and_reaped_in_rounds_of_bounded_size() -> None:
    member = Member()
    keys = [b"key %d" % number for number in range(6000)]
    ours = [
        (key, slot)
        for key in keys
        if member.ring.owners(slot := member.ring.plan("bucket", key).slot)[0] == "n1"
    ]
    head = ours[0][1][:3]
    ours = [(key, slot) for key, slot in ours if slot[:3] == head][: SLOTS_MAX + 10]
    assert len(ours) > SLOTS_MAX
    for key, slot in ours:
        member.store(key, slot)
    sizes = []
    for _ in range(2):
        member.wait(AFTER_S * 2, until=AskReap)
        (asked, _) = member.asks()
        sizes.append(len(unpack_candidates(asked.candidates, head=head)[1]))
        for name in ("n2", "n3"):
            member.answers(name, yes(asked))
        for name in ("n2", "n3"):
            member.answers(name, Stored(asked.id, STATUS_OK))
        member.out.sends.clear()
    assert sizes == [SLOTS_MAX, len(ours) - SLOTS_MAX]
    assert not any(member.engine.get(slot) for _, slot in ours)


def test_the_survey_waits_while_writes_wait_for_the_disk() -> None:
    member = Member()
    key, slot = member.key(leads=True)
    member.store(key, slot)
    replica, reaping = member.node._replica, member.node.reaping
    replica._pace.committed(1.0, 1.0)  # a page takes a second
    for number in range(200):
        replica.merge(slot[:-2] + number.to_bytes(2, "big"), b"key", Record.EMPTY.delete(DEAD_ENTRY).pack())
    assert replica.delay_s(member.now) > 0
    reaping.tick(reaping._page_at, member.out)
    assert not replica.waiting(DEAD + slot[:3])
    member.commit()
    reaping.tick(reaping._page_at, member.out)
    assert replica.waiting(DEAD + slot[:3])


# ── who is asked ──


def held(member: Member, *, owns: bool = True) -> bytes:
    """A slot, and what is dead there for long enough where n1 owns it."""
    key, slot = member.key(owns=owns)
    if owns:
        member.store(key, slot)
    member.wait(AFTER_S * 1.3)
    return slot


def test_an_owner_agrees_to_what_it_has_held_as_long() -> None:
    member = Member()
    key, slot = member.key()
    member.store(key, slot, dead=DEAD_ENTRY.union(OTHER_ENTRY))
    (early,) = member.ask(member.ask_reap(slot))
    assert early == Reapable(7, STATUS_OK, pack_candidates(1, {}), "")
    assert member.node.generations.stamp(slot) == 0, "it promised nothing"
    member.wait(AFTER_S * 1.3)
    (answer,) = member.ask(member.ask_reap(slot))
    assert answer == Reapable(7, STATUS_OK, pack_candidates(1, {slot: DEAD_ENTRY}), "")
    assert member.node.generations.stamp(slot) == 1
    assert member.node.generations.of(slot) == 0


def test_who_owns_nothing_of_it_agrees_where_it_keeps_nothing() -> None:
    member = Member(others=4)
    slot = held(member, owns=False)
    asked = member.ask_reap(slot)
    assert member.ask(asked) == [yes(asked)]
    assert member.node.generations.stamp(slot) == 1
    member.engine.write_batch({HINTS + b"n2\0" + slot: b"a hint"}, {})
    (no,) = member.ask(member.ask_reap(slot, number=2))
    assert no == Reapable(7, STATUS_REFUSED, b"", "it keeps hints there")


def test_a_number_is_agreed_to_once() -> None:
    member = Member()
    slot = held(member)
    member.ask(member.ask_reap(slot, number=3))
    for number in (2, 3):
        (answer,) = member.ask(member.ask_reap(slot, number=number))
        assert isinstance(answer, Reapable)
        assert (answer.status, answer.agreed) == (STATUS_REAPED, (3).to_bytes(8, "big"))


def test_with_another_ring_nothing_is_agreed_or_dropped() -> None:
    member = Member()
    slot = held(member)
    (no,) = member.ask(member.ask_reap(slot, ring=1))
    assert isinstance(no, Reapable)
    assert no.status == STATUS_RING
    assert member.ask(member.reap(slot)._replace(ring=1)) == [Stored(8, STATUS_RING)]
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_who_has_just_woken_up_agrees_to_nothing_for_a_while() -> None:
    member = Member()
    slot = held(member)
    member.now += 60
    (no,) = member.ask(member.ask_reap(slot))
    assert no == Reapable(7, STATUS_REFUSED, b"", "it stood still a while ago")
    member.wait(AFTER_S / 2)
    (answer,) = member.ask(member.ask_reap(slot))
    assert isinstance(answer, Reapable)
    assert answer.status == STATUS_OK


def test_whose_copy_is_not_complete_agrees_to_nothing() -> None:
    member = Member()
    slot = held(member)
    member.node.reaping._is_complete = lambda head: head != slot[:3]
    (no,) = member.ask(member.ask_reap(slot))
    assert no == Reapable(7, STATUS_REFUSED, b"", "its copy is not complete again yet")


def test_while_somebody_joins_nothing_is_agreed() -> None:
    member = Member()
    slot = held(member)
    me = member.node.membership.me
    newcomer = me._replace(
        name="n9", directory=b"9" * 16, seat=b"9" * 16, start=b"9" * 8, address="n9:1", state=JOINING
    )
    member.node.membership.table.merge(newcomer, admitted=True)
    (no,) = member.ask(member.ask_reap(slot))
    assert no == Reapable(7, STATUS_REFUSED, b"", "somebody joins")


def test_while_too_many_wait_for_the_disk_nothing_is_agreed() -> None:
    member = Member()
    slot = held(member)
    replica = member.node._replica
    batch = replica.write_row(b"\xff\xff\xff\x7f", b"")
    batch.waiters += [lambda status, now, out: None] * member.node._config.batch_waiters_max
    member.node.receive(LINK, member.ask_reap(slot), member.now, member.out)
    assert member.out.replies == [(LINK, Reapable(7, STATUS_REFUSED, b"", "its disk is behind"))]


def test_a_promise_that_is_not_on_the_disk_is_none() -> None:
    member = Member()
    slot = held(member)
    member.node.receive(LINK, member.ask_reap(slot), member.now, member.out)
    assert member.out.replies == []
    member.node.take_batch()
    member.node.commit_failed("no room", member.now, member.out)
    assert member.out.replies == [(LINK, Reapable(7, STATUS_STORAGE, b"", "its disk refused"))]
    member.out.replies.clear()
    (no,) = member.ask(member.ask_reap(slot, number=2))
    assert isinstance(no, Reapable)
    assert no.status == STATUS_STORAGE


# ── who is told to drop ──


def told(member: Member, slot: bytes) -> int:
    (stored,) = member.ask(member.reap(slot))
    assert isinstance(stored, Stored)
    assert bool(stored.commit) == (stored.commit == member.engine.commit_number)
    return stored.status


def test_an_owner_drops_what_it_holds_as_long_and_raises_the_generation_with_it() -> None:
    member = Member()
    slot = held(member)
    assert told(member, slot) == STATUS_OK
    assert member.engine.get(slot) is None
    assert member.node.generations.of(slot) == 1
    member.store(*member.key())
    assert told(member, slot) == STATUS_OK, "doubled"
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_what_is_young_is_not_dropped_whoever_says_so() -> None:
    member = Member()
    key, slot = member.key()
    member.store(key, slot)
    assert told(member, slot) == STATUS_OK
    assert member.on_disk(slot).context == DEAD_ENTRY


def test_who_does_not_own_it_drops_nothing() -> None:
    member = Member(others=4)
    _, slot = member.key(owns=False)
    assert member.ask(member.reap(slot)) == [Stored(8, STATUS_REFUSED)]


def test_a_disk_that_refuses_to_drop_is_said() -> None:
    member = Member()
    slot = held(member)
    member.node._replica.write_row(b"\xff\xff\xff\x7f", b"")
    member.node.take_batch()
    member.node.commit_failed("no room", member.now, member.out)
    assert member.ask(member.reap(slot)) == [Stored(8, STATUS_STORAGE)]
    assert member.on_disk(slot).context == DEAD_ENTRY


# ── what no node sends ──


@pytest.mark.parametrize(
    "fields",
    [{"partition": 1 << 16}, {"partition": -1}, {"copies": 0}, {"copies": 10}, {"candidates": b"short"}],
)
def test_nonsense_closes_the_link(fields: dict[str, object]) -> None:
    member = Member()
    _, slot = member.key()
    with pytest.raises(ValueError):
        member.ask(member.ask_reap(slot, **fields))


def test_a_reaping_under_two_numbers_closes_the_link() -> None:
    member = Member()
    _, slot = member.key()
    with pytest.raises(ValueError):
        member.ask(member.reap(slot)._replace(generation=2))


def test_a_partition_that_is_not_there_closes_the_link() -> None:
    member = Member()
    slot = b"\xff\x00\x03" + bytes(24)
    with pytest.raises(ValueError):
        member.ask(member.reap(slot))
    with pytest.raises(ValueError):
        member.ask(member.ask_reap(slot))
