"""One run: a cluster under load and faults, a quiet phase, and judgement.

    ├── hours of load, while faults come and go ──┤ load only │ silence until settled │ reads, checks

In: a seed, how many nodes, for how long, and which faults. Out: an `Outcome` with the digest of everything
that happened, and the violations that the checkers found, if any. The same arguments give the same outcome,
everywhere. A run that failed is told by running it once more with an ear on the key in question (`story`).

A scenario of one's own needs none of this: see docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from traceback import extract_tb
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from dyno.config import COPIES, Config
from dyno.protocol.ring import Ring
from dyno.protocol.rows import HINTS, rows_of
from dyno.simulator import checkers
from dyno.simulator.census import census
from dyno.simulator.checkers import Ending, Violation
from dyno.simulator.history import GET, History, Key, Operation
from dyno.simulator.load import User
from dyno.simulator.simulation import Simulation
from dyno.storage.cell import record_of
from dyno.storage.engine import CorruptRecord
from dyno.wire.members import NORMAL
from dyno.wire.messages import HandOver, Put, RingEntry, Store, StoreHint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dyno.simulator.client import Pending
    from dyno.simulator.machine import Machine
    from dyno.simulator.trace import What

# Of every node, unless somebody asks for others: what takes minutes or days in the field takes seconds.
CONFIG: Final = Config(reap_after_s=20.0, scrub_s=20.0)

NODES: Final = 5
NODES_MAX: Final = 100
HOURS: Final = 0.1
USERS: Final = 8
CALLS_PER_S: Final = 42.0  # some are about several keys: 50 operations per second
TIMEOUT_S: Final = 4.0  # of clients
KEYS: Final = 36
WIDE: Final = "wide"  # a bucket with more copies than others, where there are nodes for that
WIDE_COPIES: Final = 5
WIDE_EVERY: Final = 4  # one key in so many is in it
PLAIN: Final = "plain"
KEY_NAMES: Final = tuple(
    Key(WIDE if number % WIDE_EVERY == WIDE_EVERY - 1 else PLAIN, f"k{number}") for number in range(KEYS)
)

LOAD_AFTER_S: Final = 5.0  # goes on so long after the faults have ended
AGREE_WITHIN_S: Final = 60.0  # of the end of all faults: one ring, all links
# Of that: owners equal, nothing left. A corrupt record that nobody reads is met when its turn comes to be
# read (`scrub_s`).
SETTLE_WITHIN_S: Final = 120.0
LOOK_EVERY_S: Final = 1.0
HINTS_SHOWN_MAX: Final = 100
READ_LIMIT_S: Final = 60.0  # more than any session takes
CALLS_SHOWN: Final = 6  # of an error's traceback
LEFT_MAX: Final = 64  # items of a container in a node that nobody wants anything of
# Caches with a bound of their own, what a node remembers on purpose (writes that it saw, until the next ones
# come), and what it compares by turns.
_KEPT: Final = ("_planner.ring", "_engine", "membership", "_patience", "_exchanges._times", "_replica.seen")


class Plan(Protocol):
    """What goes wrong, and when. counts: how often, by kind."""

    counts: dict[str, int]

    def end(self) -> None:
        """Everything runs and is whole again, and stays so."""


class Outcome(NamedTuple):
    """operations: how many were begun. acknowledged: writes among them. simulated_s: from the first second to
    the last. faults: how often each kind struck."""

    seed: int
    digest: str
    violations: tuple[Violation, ...]
    operations: int
    acknowledged: int
    simulated_s: float
    faults: Mapping[str, int]


class Played(NamedTuple):
    outcome: Outcome
    history: History


def play(
    seed: int,
    *,
    faults: Callable[[Simulation, float], Plan],
    nodes: int = NODES,
    hours: float = HOURS,
    holders_lost: int = 0,
    listener: Callable[[float, str, str, What], object] | None = None,
    progress: Callable[[float], object] | None = None,
) -> Played:
    """One run. faults: begins the plan that lasts until a given second. holders_lost: how many holders of one
    write may lose their disk by it. listener: hears every event. progress: told once in a simulated second
    what share of the load is over."""
    scenario = Scenario(seed, nodes=nodes, listener=listener)
    history, seconds = scenario.history, hours * 3600
    plan = faults(scenario.sim, scenario.sim.now + seconds)
    try:
        scenario.load(seconds, progress)
        plan.end()
        scenario.load(LOAD_AFTER_S)
        ending = scenario.settle(holders_lost=holders_lost)
        violations = checkers.check(history, ending)
    except Exception as error:  # noqa: BLE001 - a machine of ours gave up, and this seed shows how
        violations = [Violation("crashed", None, scenario.sim.now, _where(error))]
    outcome = Outcome(
        seed,
        scenario.sim.digest(),
        tuple(violations),
        len(history.operations),
        sum(one.writes and one.acknowledged for one in history.operations),
        scenario.sim.now,
        dict(plan.counts),
    )
    return Played(outcome, history)


def _where(error: Exception) -> str:
    """The error and the calls that led to it, in one line."""
    calls = "; ".join(
        f"{frame.filename.rpartition('/dyno/')[2]}:{frame.lineno} {frame.name}"
        for frame in extract_tb(error.__traceback__)[-CALLS_SHOWN:]
    )
    return f"{type(error).__name__}: {error} (in {calls})"


class Scenario:
    """A cluster with its users. history: what these saw. keys: the popular ones first."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = NODES,
        config: Config = CONFIG,
        listener: Callable[[float, str, str, What], object] | None = None,
    ) -> None:
        self.sim = Simulation(seed, config=config)
        self._random = Random(f"{seed}/load")
        self.sim.add_cluster(nodes)
        names = list(self.sim.machines)
        self._judge = self.sim.client(*names)
        self._judge.create_bucket(WIDE, n=WIDE_COPIES)
        self.keys = KEY_NAMES
        copies = {PLAIN: min(COPIES, nodes), WIDE: min(WIDE_COPIES, nodes)}
        membership = self.sim.machines[names[0]].node.membership
        self.history = History(cluster=membership.cluster, copies=copies)
        ring = Ring(
            membership.ring_members(),
            cluster=membership.cluster,
            partitions=membership.partitions,
            fingerprint=membership.fingerprint,
        )
        copies_of = {PLAIN: COPIES, WIDE: WIDE_COPIES}
        self._plans = {
            key: ring.plan(key.bucket, key.key.encode(), copies_of[key.bucket]) for key in self.keys
        }
        self._key_of = {plan.slot: key for key, plan in self._plans.items()}
        self.users = [self._user() for _ in range(USERS)]
        trace = self.sim.trace
        trace.listeners.append(self._hear)
        if listener is not None:
            trace.listeners.append(listener)

    def _user(self) -> User:
        client = self.sim.client(*self.sim.machines, timeout=TIMEOUT_S)
        return User(client, self.history, self.keys, self._random)

    def load(self, seconds: float, progress: Callable[[float], object] | None = None) -> None:
        """Calls come for so long, each from any of the users. progress: as of `play`."""
        since = told_at = self.sim.now
        until = since + seconds
        while True:
            if progress is not None and self.sim.now >= told_at + 1:
                told_at = self.sim.now
                progress((told_at - since) / seconds)
            pause = self._random.expovariate(CALLS_PER_S)
            if self.sim.now + pause > until:
                self.sim.run_for(until - self.sim.now)
                return
            self.sim.run_for(pause)
            self._random.choice(self.users).act()

    def settle(self, *, holders_lost: int = 0) -> Ending:
        """Wait until the cluster is at rest, look at the disks, and read every key from all owners. Nothing
        may fail any more."""
        sim = self.sim
        left = []
        if not sim.run_until(sim.agreed, limit_s=AGREE_WITHIN_S):
            left.append(f"the nodes do not agree on the ring {AGREE_WITHIN_S:.0f} s after the faults ended")
        sim.run_until(self._is_silent, limit_s=SETTLE_WITHIN_S)
        self._await_settled()
        copies = {key: self.copies(key) for key in self._plans}
        left += self._left()
        reads = self._read_all()
        self.history.note_acknowledged()
        return Ending(
            reads=reads,
            owners={key: plan.owners for key, plan in self._plans.items()},
            copies=copies,
            left=tuple(left),
            starts=sum(machine.starts for machine in sim.machines.values()),
            holders_lost=holders_lost,
            reap_after_s=sim.config.reap_after_s,
        )

    # ── inside ──

    def _hear(self, now: float, source: str, target: str, what: What) -> None:
        if type(what) is Store or type(what) is StoreHint or type(what) is HandOver:
            key = self._key_of.get(what.slot)
            if key is not None:
                self.history.sightings.record(key, what.record, where=f"{source} → {target}", now=now)
        elif isinstance(what, RingEntry):
            self.history.sightings.ring(what.entry, where=f"{source} → {target}", now=now)
        elif isinstance(what, Put):
            if what.again:
                self.history.again(Key(what.bucket, what.key.decode()), what.request)
            if what.conditional:
                self.history.passed(what.value, what.context)

    def _is_silent(self) -> bool:
        return not any(user.busy for user in self.users) and not any(
            machine.node.busy for machine in self._running().values()
        )

    def _await_settled(self) -> None:
        until = self.sim.now + SETTLE_WITHIN_S
        while not self._is_settled() and self.sim.now < until:
            self.sim.run_for(LOOK_EVERY_S)

    def _is_settled(self) -> bool:
        """Whether all owners are equal, and nothing is left. What is reaped goes from one after the other."""
        for key, plan in self._plans.items():
            copies = self.copies(key)
            if len(dict.fromkeys(copies.get(name, b"") for name in plan.owners)) > 1:
                return False
        return not self._left()

    def _read_all(self) -> dict[Key, Operation]:
        """Every key, from all owners."""
        judge, reads = self._judge, {}
        for key in self.keys:
            read = self.history.begin(
                judge.machine, GET, key, now=judge.now, quorum=self.history.copies[key.bucket], strict=True
            )
            pending = judge.begin_get(key.bucket, key.key, r="all", pr="all")
            self.sim.run_until(partial(_is_done, pending), limit_s=READ_LIMIT_S)
            if isinstance(pending.outcome, Exception):
                read.fail(judge.now, pending.outcome)
            else:
                record = pending.outcome
                read.succeed(judge.now, returned=record.context, answered=record.replicas.answered)
                read.siblings = tuple(record.siblings)
                self.history.sightings.unpacked(key, record._record(), where=judge.machine, now=judge.now)
            reads[key] = read
        return reads

    def owners(self, key: Key) -> tuple[str, ...]:
        return self._plans[key].owners

    def copies(self, key: Key) -> dict[str, bytes]:
        """The packed record on each node's disk, b"" for none; a damaged one is left out."""
        slot, copies = self._plans[key].slot, {}
        for name, machine in self._running().items():
            try:
                cell = machine.engine.get(slot)
            except CorruptRecord:
                continue
            copies[name] = b"" if cell is None else record_of(cell)
        return copies

    def _running(self) -> dict[str, Machine]:
        """Where each node runs, by its name; two machines may have claimed it."""
        return {machine.birth.name: machine for machine in self.sim.machines.values() if machine.running}

    def _left(self) -> list[str]:
        running = self._running()
        left = [
            f"{machine.birth.name} does not run: {machine.ended}"
            for machine in self.sim.machines.values()
            if machine.birth.name not in running
        ]
        for name, machine in running.items():
            if machine.node.busy:
                left.append(f"{name} still works on a client's request")
            hints, _ = machine.engine.scan(*rows_of(HINTS), limit=HINTS_SHOWN_MAX)
            if hints:
                left.append(f"{name} still keeps hints, {len(hints)} or more")
        left += self._unwritten()
        return left or [*self._kept_too_long()]

    def _unwritten(self) -> list[str]:
        """What the ring's log does not say, or not to all."""
        running = self._running()
        logs = {machine.node.ring_log.entry: machine.node.ring_log.number for machine in running.values()}
        if len(logs) > 1:
            return [f"the nodes know different last entries of the ring's log: {sorted(logs.values())}"]
        entry = next(iter(logs), None)
        if entry is None:
            return ["the ring has no log"]
        rows = {row.name: row.directory for row in entry.rows if row.state == NORMAL}
        there = {name: machine.node.membership.me.directory for name, machine in running.items()}
        left = [] if rows == there else [f"the ring's log names {rows}, and there are {there}"]
        return left if WIDE in dict(entry.buckets) else [*left, f"the ring's log knows no bucket {WIDE}"]

    def _kept_too_long(self) -> Iterator[str]:
        """What is found by looking through whole nodes, which takes a while."""
        for name, machine in self._running().items():
            for path, length in census(machine.node).items():
                if length > LEFT_MAX and not any(kept in path for kept in _KEPT):
                    yield f"{name} still has {length} items in {path}"


def _is_done(pending: Pending) -> bool:
    return pending.done
