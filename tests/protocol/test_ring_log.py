"""The ring log of a few nodes: stories of one entry after the other."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dyno.buckets.properties import DEFAULTS
from dyno.config import Config
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.ring_log import RingAnswer, RingLog, RingRequest
from dyno.protocol.ring_proposals import Outcome
from dyno.protocol.ring_register import RING, VOTE, RingRegister
from dyno.ringlog import entry as entries
from dyno.ringlog import vote as votes
from dyno.ringlog.changes import Become, Create, Join, Renew, follow
from dyno.ringlog.entry import Entry
from dyno.ringlog.numbers import epoch
from dyno.ringlog.vote import ballot_of
from dyno.wire.flat import ProtocolError
from dyno.wire.members import JOINING, LEAVING, LEFT, NORMAL
from dyno.wire.messages import (
    AskRing,
    RingAccept,
    RingAccepted,
    RingEntry,
    RingFence,
    RingFenced,
    RingKnown,
    RingOutvoted,
    RingPrepare,
    RingPromised,
)
from tests.protocol.ring_log_harness import Disagreement, Faults, World, on_disk


def a_ring(count: int = 3, *, members: int | None = None) -> World:
    """Nodes that know the first entry."""
    world = World(1, count=count, members=members)
    world.start()
    world.run(15)
    assert world.numbers() == [1] * count
    return world


def entry_of(world: World, name: str) -> Entry:
    entry = world.log(name).entry
    assert entry is not None
    return entry


def directory_of(world: World, name: str) -> bytes:
    return world.machines[name].directory


# ── the first entry ──


def test_a_cluster_without_a_log_finds_the_first_entry() -> None:
    world = a_ring()
    entry = entry_of(world, "n2")
    assert [(row.name, row.state) for row in entry.rows] == [(f"n{n}", NORMAL) for n in (1, 2, 3)]
    assert all(on_disk(machine) == entry for machine in world.machines.values())


def test_a_founder_decides_alone() -> None:
    world = a_ring(1)
    assert world.wish_bucket("n1", "b") == []
    world.run(0.1)
    assert world.numbers() == [2]


def test_the_first_entry_needs_everybody() -> None:
    world = World(1, count=3)
    for name in ("n1", "n2"):
        world.machines[name].start()
    world.run(60)
    assert world.numbers() == [0, 0]
    outcomes = world.wish_bucket("n1", "b")
    world.machines["n3"].start()
    world.run(15)
    assert outcomes == [Outcome(2)]
    assert world.numbers() == [2, 2, 2]


def test_members_that_see_different_buckets_begin_with_one_entry() -> None:
    world = World(1, count=3)
    world.buckets = {1: "seen by n1", 2: "seen by n2"}
    world.checks.wished = dict.fromkeys(world.buckets.values())
    world.start()
    world.run(15)
    assert world.numbers() == [1, 1, 1]


def test_a_member_that_lost_its_disk_does_not_hold_the_first_entry_up() -> None:
    """Its former directory may even be in that entry; then it is renewed in the next."""
    world = World(1, count=3)
    for machine in world.machines.values():
        machine.start()
    world.cut_off("n3", "n1")  # so n1 cannot finish what it begins
    world.run(8)
    world.machines["n3"].crash()
    world.machines["n3"].wipe()
    world.machines["n3"].start()
    world.heal()
    world.run(15)
    assert world.numbers() == [1, 1, 1]


def test_going_on_by_force_before_there_is_a_log() -> None:
    world = World(1, count=3)
    for name in ("n1", "n2"):
        world.machines[name].start()
    world.run(5)
    outcomes = world.force("n1", (directory_of(world, "n3"),))
    world.run(10)
    entry = entry_of(world, "n2")
    assert outcomes == [Outcome(entry.number)]
    assert entry.forced
    assert list(entry.voters()) == ["n1", "n2"]
    world.machines["n3"].start()
    world.run(10)
    assert entry_of(world, "n3") == entry


# ── wishes ──


def test_a_wish_becomes_an_entry_that_all_know() -> None:
    world = a_ring()
    outcomes = world.wish_bucket("n1", "b")
    world.run(0.2)
    assert outcomes == [Outcome(2)]
    assert world.numbers() == [2, 2, 2]
    assert all(on_disk(machine) == entry_of(world, "n1") for machine in world.machines.values())


def test_wishes_of_one_moment_share_an_entry() -> None:
    world = a_ring()
    outcomes = [world.wish_bucket("n1", f"b{number}") for number in range(5)]
    world.run(1)
    assert outcomes == [[Outcome(2)]] * 5


def test_wishes_of_several_nodes_all_come_true() -> None:
    world = a_ring(5)
    outcomes = [world.wish_bucket(name, f"b of {name}") for name in world.machines]
    world.run(10)
    assert sorted(outcome.number for (outcome,) in outcomes) == [2, 3, 4, 5, 6]


def test_a_minority_decides_nothing_and_says_so() -> None:
    world = a_ring(3)
    world.cut_off("n1", "n2")
    world.cut_off("n1", "n3")
    outcomes = world.wish_bucket("n1", "b", deadline_s=3.0)
    world.run(10)
    assert outcomes == [Outcome(0, "no majority of the members decided about the ring in time")]
    others = world.wish_bucket("n2", "c")
    world.run(5)
    assert others == [Outcome(2)]
    world.heal()
    world.run(1)
    assert world.numbers() == [2, 2, 2]


def test_what_its_proposer_left_behind_is_finished_by_others() -> None:
    """A majority has accepted it, and nobody was told."""
    world = a_ring(3)
    outcomes = world.wish_bucket("n1", "b")
    while not any(value[0] == 2 for value in world.checks.votes):
        world.run(0.001)
    world.machines["n1"].crash()
    world.run(20)
    assert outcomes == []
    assert world.numbers() == [2, 2]
    assert "b" in dict(entry_of(world, "n2").buckets)


def test_what_all_left_half_done_is_finished_after_their_restart() -> None:
    world = a_ring(3)
    world.wish_bucket("n1", "b")
    while not any(number == 2 for number, *_ in world.checks.votes):
        world.run(0.001)
    for machine in world.machines.values():
        machine.crash()
    world.run(1)
    for machine in world.machines.values():
        machine.start()
    world.run(20)
    assert world.numbers() == [2, 2, 2]


def test_who_was_away_fills_the_gap_from_anybody() -> None:
    world = a_ring(3)
    world.machines["n3"].crash()
    for number in range(4):
        world.wish_bucket("n1", f"b{number}")
        world.run(1)
    world.machines["n3"].start()
    world.cut_off("n3", "n1")
    world.run(1)
    assert world.numbers() == [5, 5, 5]


def test_a_number_that_somebody_mentions_is_asked_for() -> None:
    world = a_ring(3)
    world.faults = Faults(loss=1.0)
    world.run(0.1)
    machine = world.machines["n3"]
    assert machine.process is not None
    log = machine.process.log
    out = Outbox()
    log.heard("n1", 1, world.now, out)
    assert not out.sends
    for _ in range(2):  # not again and again
        log.heard("n1", 7, world.now, out)
    log.heard("n9", 7, world.now, out)  # not to be asked just now
    assert out.sends == [("n1:1", AskRing(1))]


# ── members ──


def test_a_member_comes_in_and_another_leaves() -> None:
    world = a_ring(4, members=3)
    join = Join("n4", directory_of(world, "n4"), b"4" * 16, "", 1.0)
    for change in (
        join,
        Become("n4", directory_of(world, "n4"), NORMAL),
        Become("n1", directory_of(world, "n1"), LEAVING),
        Become("n1", directory_of(world, "n1"), LEFT),
    ):
        assert world.wish("n1", change) == []
        world.run(1)
    assert world.numbers() == [5] * 4, "who left is told, and who comes in"
    states = {row.name: row.state for row in entry_of(world, "n1").rows}
    assert states == {"n1": LEFT, "n2": NORMAL, "n3": NORMAL, "n4": NORMAL}


def test_one_that_is_joining_has_no_vote() -> None:
    """So one founder goes on although his joiner is dead."""
    world = a_ring(2, members=1)
    world.wish("n1", Join("n2", directory_of(world, "n2"), b"2" * 16, "", 1.0))
    world.run(1)
    row = entry_of(world, "n2").row("n2")
    assert row is not None
    assert row.state == JOINING
    world.machines["n2"].crash()
    outcomes = world.wish("n1", Become("n2", directory_of(world, "n2"), LEFT))
    world.run(1)
    assert outcomes == [Outcome(3)]


def test_what_cannot_be_is_refused_with_a_reason() -> None:
    world = a_ring()
    outcomes = world.wish("n1", Become("n9", bytes(16), LEFT))
    assert outcomes == [Outcome(0, "n9 is not in the ring, or has another directory by now")]
    assert world.wish("n1", Become("n2", directory_of(world, "n2"), NORMAL)) == [Outcome(1)], "it is"


def test_a_wiped_member_votes_again_when_the_others_have_said_so() -> None:
    world = a_ring()
    machine, former = world.machines["n3"], directory_of(world, "n3")
    machine.crash()
    machine.wipe()
    machine.start()
    world.run(1)
    world.machines["n2"].crash()
    waits = world.wish("n1", Renew("n3", former, machine.directory))
    world.run(10)
    assert waits == [], "n1 alone is no majority, and n3 has no vote"
    world.machines["n2"].start()
    world.run(10)
    assert waits == [Outcome(2)]
    world.machines["n2"].crash()
    outcomes = world.wish_bucket("n1", "b")
    world.run(10)
    assert outcomes == [Outcome(3)], "n3 votes"


def an_old_disk(world: World) -> None:
    """n2 and n1 decided the second entry; n2's disk was set back, and n3 can reach nobody but n2 so far."""
    old = world.machines["n2"].engine.copy()
    world.cut_off("n1", "n3")
    world.cut_off("n2", "n3")
    world.wish_bucket("n1", "b")
    world.run(1)
    assert world.numbers() == [2, 2, 1]
    machine = world.machines["n2"]
    machine.crash()
    machine.set_back(old)
    world.cut.clear()
    world.cut_off("n1", "n3")
    world.greetings = {("n1", "n2"): 5.0}
    machine.start()
    world.run(1)
    world.wish_bucket("n3", "c")


def test_an_old_disk_does_not_vote_before_those_who_know_better_have_spoken() -> None:
    world = World(3, count=3)
    world.start()
    world.run(15)
    an_old_disk(world)
    world.run(3)
    assert world.numbers() == [2, 1, 1]
    world.run(5)
    assert world.numbers() == [2, 2, 2], "n1 has greeted n2, which has another directory now"
    assert directory_of(world, "n2") not in entry_of(world, "n2").voters().values()


def test_else_it_would_have_decided_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RingRegister, "may_vote", lambda self: self.is_voter(self.name, self.directory))
    world = World(3, count=3)
    world.start()
    world.run(15)
    an_old_disk(world)
    with pytest.raises(Disagreement):
        world.run(4)


# ── force ──


def with_lost(*lost: str, count: int = 3) -> tuple[World, tuple[bytes, ...]]:
    """Those are dead, and their directories."""
    world = a_ring(count)
    for name in lost:
        world.machines[name].crash()
    world.run(1)
    return world, tuple(directory_of(world, name) for name in lost)


def test_whoever_is_left_goes_on_by_force() -> None:
    world, lost = with_lost("n2", "n3")
    outcomes = world.force("n1", lost)
    world.run(1)
    entry = entry_of(world, "n1")
    assert outcomes == [Outcome(entry.number)]
    assert (entry.forced, epoch(entry.number), entry.voters()) == (True, 1, {"n1": directory_of(world, "n1")})
    later = world.wish_bucket("n1", "b")
    world.run(1)
    assert later == [Outcome(entry.number + 1)]
    for name in ("n2", "n3"):
        world.machines[name].start()
    world.run(5)
    assert world.numbers() == [entry.number + 1] * 3
    row = entry_of(world, "n2").row("n2")
    assert row is not None
    assert row.state == LEFT
    assert world.force("n1", lost) == [Outcome(entry.number + 1)], "it is so already"


def test_force_is_for_when_no_majority_is_left() -> None:
    world, lost = with_lost("n3")
    (outcome,) = world.force("n1", lost)
    assert "a majority of the members is left" in outcome.why
    assert world.force("n1", ()) == [Outcome(1)], "nobody is to go"


def test_a_stranger_forces_nothing() -> None:
    world = a_ring(4, members=3)
    (outcome,) = world.force("n4", tuple(directory_of(world, f"n{n}") for n in (1, 2, 3)))
    assert "n4 is no member" in outcome.why


def test_all_who_are_left_have_to_assent() -> None:
    world, lost = with_lost("n3", "n4", "n5", count=5)
    world.cut_off("n1", "n2")
    outcomes = world.force("n1", lost, deadline_s=5.0)
    (busy,) = world.force("n1", lost)
    assert "already" in busy.why
    waiting = world.wish_bucket("n1", "b")
    world.run(10)
    assert outcomes == [Outcome(0, "not all of n1, n2 assented in time", True)]
    assert waiting == []
    world.heal()
    outcomes = world.force("n1", lost)
    world.run(10)
    assert outcomes[0].number
    assert waiting[0].number == outcomes[0].number + 1
    assert world.numbers() == [waiting[0].number] * 2


def test_who_has_assented_votes_for_nothing_else() -> None:
    """n1 dies when n2 has assented. n3 was not lost at all, but with n2 it decides nothing any more."""
    world, lost = with_lost("n3", "n4", "n5", count=5)
    world.force("n1", lost)
    while not world.log("n2")._register.vote.fence:
        world.run(0.001)
    world.machines["n1"].crash()
    for name in ("n3", "n4"):
        world.machines[name].start()
    world.run(1)
    outcomes = world.wish_bucket("n3", "b", deadline_s=10.0)
    world.run(15)
    assert outcomes == [Outcome(0, "no majority of the members decided about the ring in time")]
    world.machines["n5"].start()
    later = world.wish_bucket("n3", "c")
    world.run(10)
    assert later == [Outcome(2)], "a majority without n2"
    assert world.log("n2")._register.vote.fence == 0, "and so n2 votes again"


def with_fences_of_nothing() -> World:
    """n1 and n2 each began to go on by force, without the other, and gave it up. Now nobody is lost."""
    world, lost = with_lost("n3", "n4", count=4)
    world.cut_off("n1", "n2")
    outcomes = [world.force(name, lost, deadline_s=2.0) for name in ("n1", "n2")]
    world.run(5)
    assert all(outcome.is_open for (outcome,) in outcomes)
    assert all(world.log(name)._register.vote.fence for name in ("n1", "n2"))
    world.heal()
    return world


def test_fences_of_which_nothing_came_are_ended_by_all_together() -> None:
    world = with_fences_of_nothing()
    outcomes = world.wish_bucket("n1", "b")
    world.machines["n3"].start()
    world.run(10)
    assert outcomes == [], "n4 might know of a forced entry"
    world.machines["n4"].start()
    world.run(10)
    assert outcomes[0].number
    assert len(entry_of(world, "n4").voters()) == 4
    assert world.numbers() == [outcomes[0].number] * 4


def test_fences_of_which_nothing_came_are_ended_by_force_where_one_is_lost() -> None:
    world = with_fences_of_nothing()
    world.machines["n3"].start()
    world.run(5)
    outcomes = world.force("n1", (directory_of(world, "n4"),))
    world.run(10)
    assert outcomes[0].number
    assert list(entry_of(world, "n3").voters()) == ["n1", "n2", "n3"]


def test_two_who_force_at_once_end_with_one_ring() -> None:
    world, lost = with_lost("n3", "n4", "n5", count=5)
    outcomes = [world.force(name, lost) for name in ("n1", "n2")]
    world.run(20)
    assert all(outcome.number for (outcome,) in outcomes)
    assert len(set(world.numbers())) == 1


def test_two_halves_that_were_forced_end_with_one_ring() -> None:
    world = a_ring(4)
    for one in ("n1", "n2"):
        for other in ("n3", "n4"):
            world.cut_off(one, other)
    ids = [directory_of(world, f"n{n}") for n in (1, 2, 3, 4)]
    world.force("n1", (ids[2], ids[3]))
    world.force("n3", (ids[0], ids[1]))
    world.run(10)
    numbers = world.numbers()
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    world.heal()
    world.run(10)
    assert world.numbers() == [max(numbers)] * 4


def test_what_may_have_been_decided_with_the_lost_is_taken_along() -> None:
    """n2 has accepted the second entry, perhaps with others who are gone."""
    world = a_ring(3)
    world.wish_bucket("n1", "b")
    while not world.log("n2")._register.vote.accepted:
        world.run(0.0005)
    world.machines["n1"].crash()
    world.machines["n3"].crash()
    world.run(0.1)
    world.force("n2", (directory_of(world, "n1"), directory_of(world, "n3")))
    world.run(5)
    assert "b" in dict(entry_of(world, "n2").buckets)


def test_a_wiped_one_of_two_goes_on_with_the_other_s_assent() -> None:
    world = a_ring(2)
    machine, former = world.machines["n2"], directory_of(world, "n2")
    machine.crash()
    machine.wipe()
    machine.start()
    world.run(2)
    outcomes = world.force("n2", (former,))
    world.run(5)
    assert outcomes[0].number
    assert entry_of(world, "n1").voters() == {
        "n1": directory_of(world, "n1"),
        "n2": machine.directory,
    }


# ── what others say ──


def test_nonsense_changes_nothing() -> None:
    world = a_ring()
    process = world.machines["n1"].process
    assert process is not None
    log, out = process.log, Outbox()
    log.request(2, RingEntry(b"nonsense"), world.now, out)
    log.answer("n2", RingEntry(b"nonsense"), world.now, out)
    assert [level for level, _ in out.events] == ["warning", "warning"]
    twin = entry_of(world, "n1")._replace(rows=entry_of(world, "n1").rows[:2])
    log.request(2, RingEntry(entries.pack(twin)), world.now, out)
    assert "two different ring entries have the number 1" in out.events[-1][1]
    log.request(2, RingEntry(log._register.packed), world.now, out)
    assert len(out.events) == 3
    assert log.number == 1


def random_messages(random: Random, world: World) -> list[RingRequest | RingAnswer]:
    """Each kind of message, with fields that might be right."""
    present = entry_of(world, "n1")
    following = follow(present, [(Create(f"b{random.random()}", DEFAULTS),)])
    assert following is not None
    twisted = following._replace(number=random.choice([1, 2, 3, 5, 1 << 48, (1 << 32) - 1, (1 << 64) - 1]))
    packed = [entries.pack(entry) for entry in (present, following, twisted)]
    ballots = [ballot_of(number, bytes(8)) for number in (0, 1, 3, 1 << 61, 1 << 63)]
    numbers = [0, 1, 2, 3, 1 << 48, (1 << 48) + 2, (1 << 64) - 1]
    names = [directory_of(world, name) for name in world.machines]

    def a(*choices: list[Any]) -> Any:
        return random.choice([choice for some in choices for choice in some])

    return [
        AskRing(a(numbers)),
        RingEntry(a(packed, [b"", random.randbytes(30)])),
        RingKnown(a(numbers)),
        RingPrepare(a(numbers), a(ballots, [b"", b"x"])),
        RingPromised(a(numbers), a(ballots), a(names), a(ballots, [b""]), a(packed, [b"", b"x"])),
        RingAccept(a(numbers), a(ballots), a(packed, [b"x"])),
        RingAccepted(a(numbers), a(ballots), a(names)),
        RingOutvoted(a(numbers), a(ballots, [b"", bytes(8)]), a(ballots, [b"", b"x"]), a(numbers)),
        RingFence(a(numbers), a(numbers)),
        RingFenced(a(numbers), a(numbers), a(names, [b""]), a(ballots, [b""]), a(packed, [b"", b"x"])),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_others_say_raises_nothing_else(seed: int) -> None:
    """Lies may well become entries; but no link can end a process."""
    world, random = a_ring(), Random(seed)
    process = world.machines["n1"].process
    assert process is not None
    log = process.log
    log.on_entry = lambda entry, now, out: None
    for step in range(60):
        now, out = world.now + step, Outbox()
        for message in random_messages(random, world):
            name = random.choice(["n1", "n2", "n3", "n9"])
            try:
                if isinstance(message, RingRequest):
                    log.request(7, message, now, out)
                if isinstance(message, RingAnswer):
                    log.answer(name, message, now, out)
            except ProtocolError:
                continue
        log.heard("n2", random.choice([0, 5, (1 << 64) - 1]), now, out)
        if random.random() < 0.2:
            log.wish(Create(f"b{step}", DEFAULTS), then=lambda *_: None, now=now, out=out, deadline=now + 3)
        if random.random() < 0.1:
            log.force(
                (directory_of(world, "n2"), directory_of(world, "n3")), then=lambda *_: None, now=now, out=out
            )
        log.tick(now, out)
        process.replica.keep(out)
        batch = process.replica.take_batch()
        if batch is not None:
            process.replica.committed(now, out)
    again = RingRegister(
        name="n1",
        directory=directory_of(world, "n1"),
        start=bytes(8),
        cluster=bytes,
        remembered={RING: log._register.packed, VOTE: votes.pack(log._register.vote)}.get,
        peers=Peers(),
        keep=process.replica.keep,
        is_dead=lambda name: False,
    )
    assert again.vote == log._register.vote, "and what is kept of it can be read again"


def test_whoever_asks_is_told_of_later_entries_only() -> None:
    world = a_ring()
    log, out = world.log("n1"), Outbox()
    log.request(2, AskRing(0), world.now, out)
    log.request(3, AskRing(1), world.now, out)
    assert out.replies == [(2, RingEntry(entries.pack(entry_of(world, "n1")))), (3, RingKnown(1))]


def test_entries_are_announced() -> None:
    told: list[int] = []
    world = a_ring()
    log = world.log("n2")
    looks = log.on_entry
    log.on_entry = lambda entry, now, out: (told.append(entry.number), looks(entry, now, out))
    world.wish_bucket("n2", "b")
    world.run(1)
    assert told == [2]


def test_a_log_that_is_not_started_waits_for_nothing() -> None:
    log = RingLog(
        name="n1",
        directory=bytes(16),
        start=bytes(8),
        cluster=bytes,
        remembered=lambda name: None,
        peers=Peers(),
        keep=lambda out: pytest.fail("nothing is kept"),
        is_dead=lambda name: False,
        config=Config(),
        random=World(1, count=1).random,
    )
    assert (log.entry, log.number, log.deadline()) == (None, 0, None)
    out = Outbox()
    log.start(0.0)
    log.tick(100.0, out)
    assert not out
    log.request(1, RingAccept(1, bytes(7) + b"\1" + bytes(8), b""), 0.0, out)
    assert not out.replies
