"""Nodes that are nothing but a ring log and a disk, on virtual time, with everything going wrong that a
seed says.

Messages are lost, doubled, late and overtake each other, even from one life of a process to the next; disks
are slow and refuse commits; processes die with what has not reached the disk. Whatever is decided is
checked at the moment when it happens, by what is on the disks and not by what anybody says: `Disagreement`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from dyno.buckets.properties import DEFAULTS
from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.protocol.group_commit import Batch
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.protocol.ring_log import RingLog
from dyno.protocol.ring_proposals import Outcome
from dyno.protocol.ring_register import RING, VOTE
from dyno.ringlog import entry as entries
from dyno.ringlog import vote as votes
from dyno.ringlog.changes import Change, Create
from dyno.ringlog.entry import Entry, digest, first, majority
from dyno.ringlog.vote import Vote
from dyno.storage.memory import MemoryEngine
from dyno.wire.codec import append, decode_fields
from dyno.wire.members import ALIVE, NORMAL, Member

CONFIG = Config(push_pull_interval_s=5.0)


class Disagreement(AssertionError):
    """The log has done what it must not."""


@dataclass
class Faults:
    """Chances, per message or commit."""

    loss: float = 0.0
    doubling: float = 0.0
    late: float = 0.0
    slow_disk: float = 0.0
    full_disk: float = 0.0


def a_member(number: int, directory: bytes) -> Member:
    name = f"n{number}"
    seat = bytes([number]) * 16
    return Member(name, directory, seat, bytes(8), 1, 0, NORMAL, ALIVE, f"{name}:1", "", 1.0)


class Process:
    """One life of a node."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.world = world
        self.machine = machine
        self.start = world.random.randbytes(8)
        self.replica = Replica(engine=machine.engine, minter=Minter(self.start), config=CONFIG)
        self.peers = Peers()
        self.began_with = machine.engine.commit_number
        self.directory = machine.directory
        self.log = RingLog(
            name=machine.name,
            directory=machine.directory,
            start=self.start,
            cluster=bytes,
            remembered=machine.engine.get_meta,
            peers=self.peers,
            keep=self._keep,
            is_dead=lambda name: not world.can_talk(machine.name, name),
            config=CONFIG,
            random=world.random,
        )
        self.log.on_entry = lambda entry, now, out: world.checks.learned(entry)
        self.ticks_at: float | None = None
        self._cast: list[Vote] = []  # that are not on the disk yet, as far as is known
        self.life = machine.lives

    def find(self, now: float) -> None:
        """There may be no log yet."""
        origin = self.world.origin(self.machine.number)
        if self.log.entry is None and self.machine.name in origin.voters():
            self.log.found(origin, now)

    def do(self, verb: Callable[[float, Outbox], object]) -> None:
        """Something happens here; then what it wants."""
        if self.machine.process is not self:
            return
        out = Outbox()
        verb(self.world.now, out)
        self.carry_out(out)

    def _keep(self, out: Outbox) -> Batch:
        packed = out.meta.get(VOTE)
        if packed:
            self._cast.append(votes.unpack(packed))
        return self.replica.keep(out)

    def carry_out(self, out: Outbox) -> None:
        world, me = self.world, self.machine
        if out.meta or out.durable_sends or out.durable_replies:
            self.replica.keep(out)
        for address, message in out.sends:
            name = address.partition(":")[0]
            world.send(me.name, name, message, partial(self._ask, name, message))
        for link, answer in out.replies:
            answered = partial(self._answer, f"n{link}", answer, me.engine.commit_number)
            world.send(me.name, f"n{link}", answer, answered)
        world.events += [text for level, text in out.events if level == "error"]
        batch = self.replica.take_batch(world.now)
        if batch is not None:
            slow = world.random.random() < world.faults.slow_disk
            delay = world.random.uniform(0.2, 1.0) if slow else world.random.uniform(0.001, 0.01)
            world.at(world.now + delay, partial(self._commit, batch, list(self._cast)))
        self._schedule()

    def _schedule(self) -> None:
        times = [at for at in (self.log.deadline(), self.replica.deadline()) if at is not None]
        at = min(times, default=None)
        if at is not None and (self.ticks_at is None or at < self.ticks_at):
            self.ticks_at = at
            self.world.at(max(at, self.world.now), partial(self._tick, at))

    def _tick(self, at: float) -> None:
        if self.ticks_at == at:
            self.ticks_at = None
            self.do(lambda now, out: (self.replica.tick(now), self.log.tick(now, out)))

    def _commit(self, batch: Any, cast: list[Vote]) -> None:
        """The disk has a batch, or refuses it. A process that died meanwhile left it to chance. cast: the
        votes that are in it, those too that others in it replace."""
        world, machine = self.world, self.machine
        if machine.process is not self:
            if machine.lives == self.life and world.random.random() < 0.5:
                machine.write(batch, cast)
            return
        if world.random.random() < world.faults.full_disk:
            self.do(lambda now, out: self.replica.commit_failed(world.random.randbytes(8), now, out))
            return
        machine.write(batch, cast)
        del self._cast[: len(cast)]
        if batch.own:
            world.tell_commit(machine)
        self.do(self.replica.committed)

    def _ask(self, name: str, message: Any) -> None:
        target = self.world.machines[name].process
        if target is not None:
            target.do(lambda now, out: target.log.request(self.machine.number, message, now, out))

    def _answer(self, name: str, answer: Any, number: int) -> None:
        """number: of the last commit here when it was sent."""
        machine = self.world.machines[name]
        asker = machine.process
        if asker is not None:
            machine.note(self, number)
            asker.do(lambda now, out: asker.log.answer(self.machine.name, answer, now, out))


class Machine:
    """A name, a disk, and the process on it. known: commit numbers by (directory, start) of others."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"n{number}"
        self.engine = MemoryEngine()
        self.engine.write_batch({}, {"directory": bytes([number]) * 16})
        self.process: Process | None = None
        self.lives = 0
        self.known: dict[tuple[bytes, bytes], int] = {}

    @property
    def directory(self) -> bytes:
        directory = self.engine.get_meta("directory")
        assert directory is not None
        return directory

    def write(self, batch: Any, cast: list[Vote]) -> None:
        self.engine.write_batch(batch.writes, batch.meta)
        for vote in cast:
            self.world.checks.committed(self, vote)

    def start(self) -> None:
        assert self.process is None
        self.lives += 1
        process = self.process = Process(self.world, self)
        process.do(self._begin)
        for other in self.world.machines.values():
            if other is not self:
                self.world.greet_soon(self, other)

    def _begin(self, now: float, out: Outbox) -> None:
        assert self.process is not None
        self.process.log.start(now)
        self.process.find(now)

    def crash(self) -> None:
        """What was on its way to the disk may still get there, if nobody is quicker."""
        self.process = None

    def wipe(self) -> None:
        """Another disk under the same name."""
        self._exchange_disk(MemoryEngine())
        self.engine.write_batch({}, {"directory": self.world.random.randbytes(16)})
        self.known.clear()

    def set_back(self, copy: MemoryEngine) -> None:
        """An old copy of the disk."""
        self._exchange_disk(copy.copy())

    def _exchange_disk(self, engine: MemoryEngine) -> None:
        assert self.process is None
        self.lives += 1
        self.engine = engine

    def greet(self, process: Process, other: Machine) -> None:
        """Links of these two come up, if they can talk; both are told of what the other knows."""
        theirs = other.process
        if self.process is not process or theirs is None or not self.world.can_talk(self.name, other.name):
            return
        self._hear(process, other)
        other._hear(theirs, self)
        self.note(theirs, other.engine.commit_number)
        other.note(process, self.engine.commit_number)
        for one, far in ((process, other), (theirs, self)):
            one.peers.place({m.name: f"{m.name}:1" for m in self.world.machines.values()})
            one.peers.up(far.name, f"{far.name}:1")
            one.do(lambda now, out, one=one, far=far: (one.find(now), one.log.link_up(far.name, out)))

    def note(self, process: Process, number: int) -> None:
        """Somebody's commit number."""
        life = (process.directory, process.start)
        self.known[life] = max(self.known.get(life, 0), number)

    def _hear(self, process: Process, other: Machine) -> None:
        """As Lineage does."""
        before = [
            number
            for (directory, start), number in other.known.items()
            if directory == self.directory and start != process.start
        ]
        if max(before, default=0) <= process.began_with:
            process.log.met(other.name, other.directory)
            return
        directory = self.world.random.randbytes(16)
        process.began_with = 1 << 60  # there is one new id for each start
        process.directory = directory
        self.engine.write_batch({}, {"directory": directory})
        process.do(lambda now, out: process.log.renewed(directory, out))


@dataclass
class Checks:
    """decided: packed entries by number, as majorities have them on their disks. votes: durable acceptances,
    directories by (number, ballot, value)."""

    world: World
    entries: dict[int, bytes] = field(default_factory=dict)
    votes: dict[tuple[int, bytes, bytes], dict[bytes, str]] = field(default_factory=dict)
    decided: dict[int, bytes] = field(default_factory=dict)
    wished: dict[str, Outcome | None] = field(default_factory=dict)
    is_forced: bool = False  # then even what was decided may be lost with those who are

    def committed(self, machine: Machine, vote: Vote) -> None:
        if not vote.accepted or vote.directory != machine.directory:
            return
        key = (vote.number, vote.accepted, vote.value)
        voted = self.votes.setdefault(key, {})
        if vote.directory in voted:
            return
        voted[vote.directory] = machine.name
        is_decided = self._is_enough(vote.number, vote.value, voted)
        if is_decided and self.decided.setdefault(vote.number, vote.value) != vote.value:
            raise Disagreement(f"two entries with the number {vote.number} are decided")

    def _is_enough(self, number: int, value: bytes, voted: dict[bytes, str]) -> bool:
        if number == 1:
            return all(name in voted.values() for name in entries.unpack(value).voters())
        before = self.entries.get(number - 1)
        if before is None:
            return False
        voters = entries.unpack(before).voters()
        return sum(directory in voted for directory in voters.values()) >= majority(len(voters))

    def learned(self, entry: Entry) -> None:
        packed = entries.pack(entry)
        if self.entries.setdefault(entry.number, packed) != packed:
            raise Disagreement(f"two entries with the number {entry.number} are believed")
        if entry.forced:
            self.is_forced = True
            return
        if self.decided.get(entry.number) != packed:
            raise Disagreement(f"entry {entry.number} is believed, and no majority has it on its disk")
        before = self.entries.get(entry.number - 1)
        if before is not None and entry.before != digest(before):
            raise Disagreement(f"entry {entry.number} does not follow the one before")
        for name, _ in entry.buckets:
            if name not in self.wished:
                raise Disagreement(f"nobody wished for bucket {name}")

    def ended(self, bucket: str, outcome: Outcome) -> None:
        if self.wished[bucket] is not None:
            raise Disagreement("a wish was answered twice")
        self.wished[bucket] = outcome
        if outcome.number:
            named = dict(entries.unpack(self.entries[outcome.number]).buckets)
            if bucket not in named:
                raise Disagreement(f"bucket {bucket} is said to be in entry {outcome.number}, and is not")

    def at_the_end(self, last: Entry) -> None:
        created = dict(last.buckets)
        for bucket, outcome in self.wished.items():
            if outcome is not None and outcome.number == 0 and not outcome.is_open and bucket in created:
                raise Disagreement(f"bucket {bucket} was said not to come, and came")
            if outcome is not None and outcome.number and bucket not in created and not self.is_forced:
                raise Disagreement(f"bucket {bucket} was created, and is gone")


class World:
    """count: machines n1, n2, ... members: how many of them are in the ring from the first entry on."""

    def __init__(self, seed: int, *, count: int, members: int | None = None) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.faults = Faults()
        self.cut: dict[tuple[str, str], bool] = {}
        self.greetings: dict[tuple[str, str], float] = {}  # seconds that they take, between two names
        self.events: list[str] = []
        self.checks = Checks(self)
        self._members = members or count
        self.buckets: dict[int, str] = {}  # that a machine knows as created before there is a log
        self.machines = {f"n{i + 1}": Machine(self, i + 1) for i in range(count)}
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def start(self) -> None:
        for machine in self.machines.values():
            machine.start()

    def origin(self, number: int) -> Entry:
        """The first entry as that machine would have it."""
        bucket = self.buckets.get(number)
        members = [a_member(i + 1, self.machines[f"n{i + 1}"].directory) for i in range(self._members)]
        return first(members, {} if bucket is None else {bucket: DEFAULTS}, b"")

    def at(self, time: float, what: Callable[[], object]) -> None:
        self._count += 1
        heappush(self._queue, (time, self._count, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, what = heappop(self._queue)
            what()
        self.now = end

    def can_talk(self, one: str, other: str) -> bool:
        up = self.machines[one].process is not None and self.machines[other].process is not None
        return up and (one, other) not in self.cut

    def cut_off(self, one: str, other: str) -> None:
        self.cut[one, other] = self.cut[other, one] = True

    def heal(self) -> None:
        self.cut.clear()
        for machine in self.machines.values():
            for other in self.machines.values():
                if machine.number < other.number and machine.process is not None:
                    self.greet_soon(machine, other)

    def greet_soon(self, machine: Machine, other: Machine) -> None:
        assert machine.process is not None
        pair = min(machine.name, other.name), max(machine.name, other.name)
        delay = self.greetings.get(pair, self.random.uniform(0.01, 0.05))
        self.at(self.now + delay, partial(machine.greet, machine.process, other))

    def send(self, source: str, target: str, message: Any, deliver: Callable[[], object]) -> None:
        fields: list[object] = []
        append(message, fields)
        assert decode_fields(fields) == [message]
        if (source, target) in self.cut or self.random.random() < self.faults.loss:
            return
        for _ in range(2 if self.random.random() < self.faults.doubling else 1):
            late = self.random.random() < self.faults.late
            self.at(
                self.now + (self.random.uniform(0.5, 5) if late else self.random.uniform(0.001, 0.02)),
                deliver,
            )

    def tell_commit(self, machine: Machine) -> None:
        """As Committed does."""
        assert machine.process is not None
        for other in self.machines.values():
            if self.can_talk(machine.name, other.name):
                other.note(machine.process, machine.engine.commit_number)

    # ── users ──

    def wish(
        self,
        name: str,
        *changes: Change,
        deadline_s: float | None = None,
        then: Callable[[Outcome], object] = lambda outcome: None,
    ) -> list[Outcome]:
        """Gives the list in which the outcome will be."""
        outcomes: list[Outcome] = []

        def ended(outcome: Outcome, now: float, out: Outbox) -> None:
            outcomes.append(outcome)
            then(outcome)

        process = self.machines[name].process
        assert process is not None
        process.do(
            lambda now, out: process.log.wish(
                *changes,
                then=ended,
                deadline=None if deadline_s is None else now + deadline_s,
                now=now,
                out=out,
            )
        )
        return outcomes

    def wish_bucket(self, name: str, bucket: str, *, deadline_s: float | None = None) -> list[Outcome]:
        """The same for a bucket that nobody wished for before; its outcome is checked."""
        self.checks.wished[bucket] = None
        return self.wish(
            name, Create(bucket, DEFAULTS), deadline_s=deadline_s, then=partial(self.checks.ended, bucket)
        )

    def force(self, name: str, lost: tuple[bytes, ...], *, deadline_s: float | None = None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        process = self.machines[name].process
        assert process is not None
        process.do(
            lambda now, out: process.log.force(
                lost,
                then=lambda outcome, now, out: outcomes.append(outcome),
                deadline=None if deadline_s is None else now + deadline_s,
                now=now,
                out=out,
            )
        )
        return outcomes

    def numbers(self) -> list[int]:
        return [m.process.log.number for m in self.machines.values() if m.process is not None]

    def log(self, name: str) -> RingLog:
        process = self.machines[name].process
        assert process is not None
        return process.log


def on_disk(machine: Machine) -> Entry | None:
    packed = machine.engine.get_meta(RING)
    return entries.unpack(packed) if packed else None
