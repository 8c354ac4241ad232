"""Random schedules of everything that can go wrong with the ring log: it never says two things, and goes on.

Nodes wish for buckets, come in, leave and are put out, while they crash and come back, some with an empty
or an old disk, cables are cut, messages are lost, doubled and late, and disks are slow or refuse. At every
commit and whenever an entry is believed it is looked at on the disks whether a majority of the right ones
decided it, and nothing else. When all is quiet, every node knows the same last entry, and the next wish
comes true.

The same schedules find what is broken on purpose, each bug below. (That a node votes before it has met others
is found by a story in test_ring_log: those who know better are hardly ever that late here.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import pytest

from dyno.protocol.outbox import Outbox
from dyno.protocol.ring_proposals import Ballot, Outcome, Phase, RingProposals
from dyno.protocol.ring_register import VOTE, RingRegister
from dyno.protocol.ring_votes import RingVotes
from dyno.ringlog import entry as entries
from dyno.ringlog.changes import Become, Join, Renew
from dyno.ringlog.entry import Entry, majority
from dyno.ringlog.vote import Vote
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import JOINING, LEAVING, LEFT, NORMAL
from tests.protocol.ring_log_harness import Disagreement, Faults, Machine, World

SCHEDULES = 600
SEARCHED = 1000  # seeds, for a bug
STEPS = 40
_WEIGHTS = {"bucket": 8, "state": 5, "crash": 4, "start": 6, "cut": 2, "heal": 2, "disk": 1}
_NEXT_STATES = {JOINING: [NORMAL, NORMAL, LEFT], NORMAL: [LEAVING, LEAVING, LEFT], LEAVING: [NORMAL, LEFT]}


class Schedule:
    """One seed's."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        members = random.choice([1, 2, 3, 3, 3, 4, 5])
        self.world = world = World(seed, count=members + 1, members=members)
        for number in range(1, members + 1):
            if random.random() < 0.3:  # not everybody knows the same buckets
                self._named(f"origin {number}")
                world.buckets[number] = f"origin {number}"
        world.faults = Faults(
            loss=random.choice([0, 0, 0.05, 0.3]),
            doubling=random.choice([0, 0.2]),
            late=random.choice([0, 0.05, 0.2]),
            slow_disk=random.choice([0, 0.1]),
            full_disk=random.choice([0, 0, 0.1]),
        )
        self.damage = random.choice([self._wipe, self._set_back])
        self.copies: dict[str, list[MemoryEngine]] = {}
        self.wishes = 0
        self.weights = _WEIGHTS | {"force": random.choice([0, 0, 0, 6])}

    def run(self) -> None:
        world, random = self.world, self.random
        world.start()
        for _ in range(STEPS):
            world.run(random.choice([0.0, 0.01, 0.05, 0.5, 1.0]))
            action = random.choices(list(self.weights), list(self.weights.values()))[0]
            getattr(self, f"_{action}")()
        self._quieten()
        self._expect_progress()

    # ── what happens ──

    def _bucket(self) -> None:
        machine = self._anybody()
        if machine is not None:
            self.wishes += 1
            self._wish_bucket(machine, f"bucket {self.wishes}", self.random.choice([None, 0.5, 3.0]))

    def _state(self) -> None:
        """The next state of somebody, as anybody sees it."""
        machine, target = self._anybody(), self.random.choice(list(self.world.machines.values()))
        if machine is None or machine.process is None or machine.process.log.entry is None:
            return
        row = machine.process.log.entry.row(target.name)
        directory = target.directory
        if row is None or row.state == LEFT:
            change: Join | Become | Renew = Join(target.name, directory, bytes([target.number]) * 16, "", 1.0)
        elif row.directory != directory:
            change = Renew(target.name, row.directory, directory)
        else:
            change = Become(target.name, directory, self.random.choice(_NEXT_STATES[row.state]))
        self.world.wish(machine.name, change, deadline_s=self.random.choice([None, 2.0]))

    def _crash(self) -> None:
        machine = self._anybody()
        if machine is not None:
            machine.crash()

    def _start(self) -> None:
        down = [machine for machine in self.world.machines.values() if machine.process is None]
        if down:
            self.random.choice(down).start()

    def _cut(self) -> None:
        one, other = self.random.sample(list(self.world.machines), 2)
        self.world.cut_off(one, other)

    def _heal(self) -> None:
        self.world.heal()

    def _force(self) -> None:
        """Somebody takes all whom he cannot reach for lost for good, which they are not."""
        machine, world = self._anybody(), self.world
        if machine is None or machine.process is None or machine.process.log.entry is None:
            return
        voters = machine.process.log.entry.voters()
        lost = tuple(d for name, d in voters.items() if not world.can_talk(machine.name, name))
        world.force(machine.name, lost, deadline_s=self.random.choice([1.0, 5.0]))

    def _disk(self) -> None:
        if self.world.checks.decided:
            self.damage()

    def _wipe(self) -> None:
        """One that is down, where a majority of the others can go on."""
        voters = self._last().voters()
        down = [
            m for m in self.world.machines.values() if m.process is None and m.directory in voters.values()
        ]
        intact = [m for m in self.world.machines.values() if m.directory in voters.values()]
        if down and len(intact) - 1 >= majority(len(voters)):
            self.random.choice(down).wipe()

    def _set_back(self) -> None:
        """Now or later: an old copy, while those who know better are there."""
        world = self.world
        machine = self.random.choice(list(world.machines.values()))
        copies = self.copies.setdefault(machine.name, [])
        if self.random.random() < 0.5 or not copies:
            copies.append(machine.engine.copy())
            return
        world.heal()
        for other in world.machines.values():
            if other.process is None:
                other.start()
        world.run(0.1)  # each knows the commits of all others
        machine.crash()
        machine.set_back(self.random.choice(copies))
        copies.clear()
        machine.start()
        world.run(0.1)

    # ── the end ──

    def _quieten(self) -> None:
        world = self.world
        world.faults = Faults()
        world.heal()
        for machine in world.machines.values():
            if machine.process is None:
                machine.start()
        world.run(40)

    def _expect_progress(self) -> None:
        world = self.world
        assert all(world.numbers()), "there is no log"
        intact = self._intact()
        if len(intact) < majority(len(self._last().voters())):
            self._go_on_by_force(intact)
            intact = self._intact()
        for machine in world.machines.values():
            row = self._last().row(machine.name)
            if row is not None and row.state != LEFT and row.directory != machine.directory:
                world.wish(intact[0].name, Renew(machine.name, row.directory, machine.directory))
        world.run(20)
        outcomes = self._wish_bucket(self.random.choice(intact), "the last", None)
        world.run(30)
        assert outcomes, f"no progress: {world.numbers()}"
        assert outcomes[0].number
        assert len(set(world.numbers())) == 1, world.numbers()
        assert not world.events, world.events
        world.checks.at_the_end(self._last())

    def _go_on_by_force(self, intact: list[Machine]) -> None:
        """Whoever is left goes on; where nobody is, one who has another directory by now."""
        voters = self._last().voters()
        lost = tuple(d for d in voters.values() if d not in [machine.directory for machine in intact])
        names = [machine.name for machine in intact] or list(voters)
        outcomes = self.world.force(self.random.choice(names), lost)
        self.world.run(20)
        assert outcomes, "nothing came of going on by force"
        assert outcomes[0].number, outcomes[0].why

    # ── inside ──

    def _anybody(self) -> Machine | None:
        alive = [machine for machine in self.world.machines.values() if machine.process is not None]
        return self.random.choice(alive) if alive else None

    def _intact(self) -> list[Machine]:
        voters = self._last().voters()
        return [m for m in self.world.machines.values() if voters.get(m.name) == m.directory]

    def _named(self, bucket: str) -> None:
        self.world.checks.wished[bucket] = None

    def _wish_bucket(self, machine: Machine, bucket: str, deadline_s: float | None) -> list[Outcome]:
        self._named(bucket)
        return self.world.wish_bucket(machine.name, bucket, deadline_s=deadline_s)

    def _last(self) -> Entry:
        """The last one that anybody believes."""
        world = self.world
        known = [m.process.log.entry for m in world.machines.values() if m.process is not None]
        believed = [entry for entry in known if entry is not None]
        if believed:
            return max(believed)
        return entries.unpack(world.checks.decided[max(world.checks.decided)])


@pytest.mark.parametrize("part", range(10))
def test_schedules(part: int) -> None:
    for seed in range(part * SCHEDULES // 10, (part + 1) * SCHEDULES // 10):
        try:
            Schedule(seed).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


# ── broken on purpose ──


class Bug(NamedTuple):
    """place, name: what is replaced. broken: what it is replaced by, given the original. seed: where looking
    for it begins, close to one that finds it."""

    what: str
    place: Any
    name: str
    broken: Callable[[Callable[..., Any]], Callable[..., Any]]
    seed: int = 0


def _answers_before_durable(original: Callable[..., Any]) -> Callable[..., Any]:
    def cast(self: RingVotes, link: int, vote: Vote, answer: Any, out: Outbox) -> None:
        self._register.keep_vote(vote, out)
        self._register.keep(out).own = True
        out.replies.append((link, answer))

    return cast


def _counts_its_own_vote_at_once(original: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: RingProposals, ballot: Ballot, vote: Vote | None, now: float, out: Outbox) -> None:
        original(self, ballot, vote, now, out)
        if vote is not None and self._register.may_vote():
            self._granted(ballot, self._register.name, vote.accepted, vote.value, now, out)

    return ask


def _forgets_its_vote_at_restart(original: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: RingRegister, **given: Any) -> None:
        remembered = given["remembered"]
        original(self, **given | {"remembered": lambda name: None if name == VOTE else remembered(name)})

    return init


def _prefers_its_own_value(original: Callable[..., Any]) -> Callable[..., Any]:
    def propose(self: RingProposals, ballot: Ballot, now: float, out: Outbox) -> None:
        if self._wishes:
            ballot.best = (b"", b"")
        original(self, ballot, now, out)

    return propose


def _takes_the_lowest_accepted(original: Callable[..., Any]) -> Callable[..., Any]:
    def note(self: Ballot, name: str, accepted: bytes, value: bytes) -> bool:
        best = self.best
        enough = bool(original(self, name, accepted, value))
        if value:
            self.best = min(best, (accepted, value)) if best[1] else (accepted, value)
        return enough

    return note


def _counts_the_members_of_the_entry_after(original: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Ballot, voters: dict[str, bytes], needed: int) -> None:
        if self.phase is Phase.ACCEPTING and self.entry is not None and self.number > 1:
            voters = self.entry.voters()
            needed = majority(len(voters))
        original(self, voters, needed)

    return ask


def _counts_answers_instead_of_nodes(original: Callable[..., Any]) -> Callable[..., Any]:
    def note(self: Ballot, name: str, accepted: bytes, value: bytes) -> bool:
        return bool(original(self, f"{name} {len(self.granted)}", accepted, value))

    return note


def _half_is_enough(original: Callable[..., Any]) -> Callable[..., Any]:
    def needed(self: RingRegister, count: int) -> int:
        return max(1, original(self, count) - 1)

    return needed


def _accepts_below_its_promise(original: Callable[..., Any]) -> Callable[..., Any]:
    def accept(self: Vote, ballot: bytes, value: bytes) -> Vote | None:
        return original(self._replace(promised=b""), ballot, value)  # type: ignore[no-any-return]

    return accept


def _keeps_voting_with_an_old_disk(original: Callable[..., Any]) -> Callable[..., Any]:
    def renewed(self: RingRegister, directory: bytes, out: Outbox) -> None:
        for name, known in self.voters().items():
            self.met(name, known)

    return renewed


BUGS = [
    Bug("answers before it is durable", RingVotes, "_cast", _answers_before_durable),
    Bug("counts its own vote at once", RingProposals, "_ask", _counts_its_own_vote_at_once),
    Bug("forgets its vote at restart", RingRegister, "__init__", _forgets_its_vote_at_restart),
    Bug("prefers its own value", RingProposals, "_propose", _prefers_its_own_value),
    Bug("takes the lowest accepted", Ballot, "note", _takes_the_lowest_accepted, 300),
    Bug("counts those of the entry after", Ballot, "ask", _counts_the_members_of_the_entry_after),
    Bug("counts answers, not nodes", Ballot, "note", _counts_answers_instead_of_nodes),
    Bug("half is enough", RingRegister, "needed", _half_is_enough),
    Bug("accepts below its promise", Vote, "accept", _accepts_below_its_promise),
    Bug("keeps voting with an old disk", RingRegister, "renewed", _keeps_voting_with_an_old_disk, 140),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bug.place, bug.name, bug.broken(getattr(bug.place, bug.name)))
    with pytest.raises(Disagreement):
        for seed in range(bug.seed, bug.seed + SEARCHED):
            with suppress_mere_standstill():
                Schedule(seed).run()


@contextmanager
def suppress_mere_standstill() -> Iterator[None]:
    """What is sought is a log that says two things; one that stops is found as well, but proves less."""
    try:
        yield
    except Disagreement:
        raise
    except (AssertionError, ValueError):
        return
