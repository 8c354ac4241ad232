"""A cluster in a box: machines, clients and the cables between them, on one clock, from one seed.

    sim = Simulation(seed=1)
    sim.add_node("n1")
    sim.add_node("n2", join=["n1"])
    client = sim.client("n1")
    client.put("carts", "alice", {"milk": 1})
    sim.cut("n1", "n2")

In: what a test, or a plan of faults, does to it. Out: what users would see, a digest of everything that
happened, and a story for people. The same seed and the same calls give the same digest, always and
everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dyno.config import Config
from dyno.protocol.birth import Birth
from dyno.simulator.cable import LATENCY_S, STALL_MAX_S
from dyno.simulator.client import Client
from dyno.simulator.disk import Disk
from dyno.simulator.kernel import Kernel
from dyno.simulator.machine import Machine
from dyno.simulator.network import Network
from dyno.simulator.process import COMMIT_S
from dyno.simulator.stranger import CLIENT_HELLO, Stranger
from dyno.simulator.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.wire.messages import Hello

PARTITIONS: Final = 64  # a table of 1024 takes ten times as long to build, and shows nothing more
JOIN_LIMIT_S: Final = 60.0
EVENTS_KEPT: Final = 5000
_PORT: Final = 7100


class Simulation:
    """config: of every node that is not given its own. latency_s: least and most seconds of a frame's way.
    stall_max_s: how long a connection waits for a cut to be healed. machines: by name."""

    def __init__(
        self,
        seed: int = 0,
        *,
        config: Config | None = None,
        partitions: int = PARTITIONS,
        latency_s: tuple[float, float] = LATENCY_S,
        stall_max_s: float = STALL_MAX_S,
        events_kept: int = EVENTS_KEPT,
    ) -> None:
        self.seed = seed
        self.config = config or Config()
        self.machines: dict[str, Machine] = {}
        self._partitions = partitions
        self._clients = 0
        self._strangers = 0
        self._kernel = Kernel(seed)
        self._trace = Trace(kept=events_kept)
        self._network = Network(self._kernel, self._trace, latency_s=latency_s, stall_max_s=stall_max_s)

    # ── machines ──

    def add_node(
        self,
        name: str,
        *,
        join: Sequence[str] = (),
        zone: str = "",
        weight: float = 1.0,
        config: Config | None = None,
        wait: bool = True,
        host: str = "",
        disk: Disk | None = None,
    ) -> Machine:
        """A new machine with a node on it. join: names of machines. wait: until it is ready. host: the
        machine's name, where it is not the node's. disk: what the node finds there."""
        host = host or name
        assert host not in self.machines, f"there is a machine {host} already"
        birth = Birth(name, address_of(host), zone, weight, self._partitions, tuple(map(address_of, join)))
        machine = self.machines[host] = Machine(
            host,
            birth,
            config=config or self.config,
            kernel=self._kernel,
            network=self._network,
            trace=self._trace,
            disk=disk.copy() if disk is not None else None,
        )
        machine.start()
        if wait:
            assert self.run_until(lambda: machine.ready, limit_s=JOIN_LIMIT_S), f"{name} did not join"
        return machine

    def add_cluster(self, size: int, **options: Any) -> list[Machine]:
        """Nodes n1, n2, …, all joined by n1 and ready for data; options: of `add_node`."""
        names = [f"n{number}" for number in range(1, size + 1)]
        machines = [
            self.add_node(name, join=[] if name == names[0] else names[:1], **options) for name in names
        ]
        assert self.run_until(self.agreed, limit_s=JOIN_LIMIT_S), "the nodes do not agree on the ring"
        return machines

    def agreed(self) -> bool:
        """Whether all running nodes place alike, admit nobody, and have links to all others that run."""
        running = [machine for machine in self.machines.values() if machine.running]
        rings = {machine.node.membership.fingerprint for machine in running}
        return len(rings) == 1 and all(
            machine.ready
            and not machine.node.membership.admitting
            and all(machine.is_linked(other.address) for other in running if other is not machine)
            for machine in running
        )

    def stop(self, name: str) -> None:
        """A clean end: says goodbye and finishes what is on its way to the disk."""
        machine = self.machines[name]
        machine.stop()
        self.run_until(lambda: not machine.running, limit_s=JOIN_LIMIT_S)

    def kill(self, name: str, *, commits: bool | None = None, after_effects: int = 0) -> None:
        """At once; what is in memory is lost, what was committed is kept. commits: whether a commit under way
        is on the disk, though nobody heard of it; None lets the dice decide. after_effects: not at once, but
        when it has done so many more things, each a message, a datagram, a link or a batch for the disk."""
        self.machines[name].kill(commits=commits, after_effects=after_effects)

    def pause(self, name: str) -> None:
        """As SIGSTOP does: its process handles nothing, and its timers ring late."""
        self.machines[name].pause()

    def resume(self, name: str) -> None:
        self.machines[name].resume()

    def cut_power(self, name: str) -> None:
        """The machine is off: nobody says goodbye, nobody refuses dials, what a lying disk had not written is
        lost but for as much as the dice say. `restart` turns it on."""
        machine = self.machines[name]
        if machine.running:
            self.note(f"the power of {name} is cut")
        self._network.power_off(name)
        machine.kill()
        kept = self.random(f"{name}/power/{machine.starts}").randint(0, machine.engine.cached)
        if lost := machine.engine.lose_cached(kept):
            self.note(f"the disk of {name} lost {lost} commits that it had said to be durable")
        machine.clock.begin_at(0.0)

    def restart(self, name: str) -> Machine:
        """A new process on the disk that is there."""
        machine = self.machines[name]
        machine.start()
        return machine

    def scrap(self, name: str) -> None:
        """The machine is off for good, and its disk with it."""
        self.cut_power(name)
        del self.machines[name]

    def client(self, *nodes: str, timeout: float = 5.0) -> Client:
        """A client on a machine of its own (client-1, client-2, …) that knows these nodes' addresses."""
        self._clients += 1
        return Client(
            f"client-{self._clients}",
            [address_of(name) for name in nodes],
            timeout=timeout,
            kernel=self._kernel,
            network=self._network,
            trace=self._trace,
        )

    def stranger(self, node: str, hello: Hello | None = CLIENT_HELLO) -> Stranger:
        """A hand-made link to a node, from a machine of its own (stranger-1, …). hello: said at once."""
        self._strangers += 1
        stranger = Stranger(
            f"stranger-{self._strangers}", address_of(node), kernel=self._kernel, network=self._network
        )
        if hello is not None:
            stranger.ask(hello)
        return stranger

    # ── disks and clocks ──

    def fill_disk(self, name: str) -> None:
        """Commits are refused until `free_disk`; reads go on."""
        self._note_disk(name, "is full")
        self.machines[name].engine.full = True

    def free_disk(self, name: str) -> None:
        self._note_disk(name, "has room again")
        self.machines[name].engine.full = False

    def write_protect(self, name: str, protected: bool = True) -> None:
        """Commits are refused while it is; reads go on."""
        self._note_disk(name, "is read-only" if protected else "can be written again")
        self.machines[name].engine.read_only = protected

    def slow_disk(
        self,
        name: str,
        *,
        commit_s: tuple[float, float] = COMMIT_S,
        seconds_per_record: float = 0.0,
        seconds_per_read: float = 0.0,
    ) -> None:
        """commit_s: least and most of a commit, and so much more for each record in it. Without any of them
        it is fast again."""
        machine = self.machines[name]
        self._note_disk(
            name, f"takes {commit_s} s, {seconds_per_record} s a record, {seconds_per_read} s a read"
        )
        machine.commit_s = commit_s
        machine.seconds_per_record = seconds_per_record
        machine.seconds_per_read = seconds_per_read

    def break_disk(self, name: str, *, keeps: bool = False) -> None:
        """The next commit fails, and so does every other until `mend_disk`: the process ends. keeps: whether
        that commit is on the disk all the same."""
        self._note_disk(name, "fails the next commit")
        engine = self.machines[name].engine
        engine.failing, engine.keeps_failed = True, keeps

    def mend_disk(self, name: str) -> None:
        self._note_disk(name, "works again")
        engine = self.machines[name].engine
        engine.failing = engine.keeps_failed = False

    def lie_about_commits(self, name: str) -> None:
        """The disk calls durable what it only has in a cache, which `cut_power` may take."""
        self._note_disk(name, "lies about commits")
        self.machines[name].engine.lie()

    def rot_disk(self, name: str, *, records: int = 1) -> list[bytes]:
        """Flip a bit in so many records, which the dice choose. Their engine keys."""
        engine = self.machines[name].engine
        rotten = engine.rot(self.random(f"{name}/rot/{engine.commit_number}"), records=records)
        self._note_disk(name, f"rots: {' '.join(key.hex() for key in rotten) or 'it holds nothing'}")
        return rotten

    def wipe(self, name: str) -> None:
        """A new disk, for a machine on which nothing runs. Its next process joins by all others: the first
        node of a cluster would found another one without."""
        machine = self.machines[name]
        assert not machine.running, f"{name} runs"
        self._note_disk(name, "is new and empty")
        machine.engine = Disk()
        others = tuple(other.address for other in self.machines.values() if other is not machine)
        machine.birth = machine.birth._replace(seeds=others)

    def copy_disk(self, name: str) -> Disk:
        """All that is committed, whether a process runs or not."""
        self._note_disk(name, "is copied")
        return self.machines[name].engine.copy()

    def restore_disk(self, name: str, copy: Disk) -> None:
        """Put a copy in the place of the disk of a machine on which nothing runs."""
        machine = self.machines[name]
        assert not machine.running, f"{name} runs"
        before = machine.engine.commit_number
        self._note_disk(name, f"is set back from commit {before} to a copy from commit {copy.commit_number}")
        machine.engine = copy.copy()

    def _note_disk(self, name: str, what: str) -> None:
        self._trace.note(self.now, name, "", f"the disk {what}")

    def run_clock(self, name: str, *, rate: float) -> None:
        """Its clock shows so many seconds per second from now on."""
        self._trace.note(self.now, name, "", f"the clock runs at {rate}")
        self.machines[name].clock.run_at(rate)

    def begin_clock(self, name: str, *, at: float) -> None:
        """The clock of a machine on which nothing runs shows this now, as after a restart of the machine."""
        assert not self.machines[name].running, f"{name} runs"
        self._trace.note(self.now, name, "", f"the clock begins at {at}")
        self.machines[name].clock.begin_at(at)

    # ── cables ──

    @property
    def network(self) -> Network:
        return self._network

    def cut(self, one: str, other: str) -> None:
        """Both directions. Connections stall until `heal`, as TCP's do, and those that have something to say
        give up after `stall_max_s`; dials and datagrams are lost."""
        self._network.cut(one, other)
        self._network.cut(other, one)

    def cut_one_way(self, source: str, target: str) -> None:
        """What source sends does not arrive; what target sends does."""
        self._network.cut(source, target)

    def heal(self, one: str, other: str) -> None:
        self._network.heal(one, other)
        self._network.heal(other, one)

    def heal_one_way(self, source: str, target: str) -> None:
        self._network.heal(source, target)

    def isolate(self, name: str) -> None:
        """Cut a machine off all others that are there now."""
        for other in self._network.machines():
            if other != name:
                self.cut(name, other)

    def heal_all(self) -> None:
        for source, target in self._network.cuts():
            self._network.heal(source, target)

    def drop_links(self, one: str, other: str) -> None:
        """Every connection between two machines breaks; they may dial again at once."""
        self._network.drop(one, other)

    def set_latency(self, one: str, other: str, latency_s: tuple[float, float]) -> None:
        self._network.set_latency(one, other, latency_s)
        self._network.set_latency(other, one, latency_s)

    def lose(self, one: str, other: str, share: float) -> None:
        """Of the packets in both directions. Connections send them again, until they give up."""
        self.degrade(one, other, loss=share)

    def duplicate(self, one: str, other: str, share: float) -> None:
        """So many datagrams arrive twice."""
        self.degrade(one, other, duplicates=share)

    def reorder(self, one: str, other: str, share: float) -> None:
        """So many datagrams arrive late, up to a second."""
        self.degrade(one, other, strays=share)

    def limit_bandwidth(self, one: str, other: str, bytes_per_s: float) -> None:
        """In each direction; what is more queues up."""
        self.degrade(one, other, bytes_per_s=bytes_per_s)

    def degrade(self, one: str, other: str, **qualities: Any) -> None:
        """Change qualities (see `cable.Quality`) of both directions."""
        for source, target in ((one, other), (other, one)):
            self._note_cable(source, target, qualities)
            quality = self._network.quality(source, target)
            self._network.set_quality(source, target, quality._replace(**qualities))

    def degrade_all(self, **qualities: Any) -> None:
        """Change qualities of all cables, also of those to machines that come later, but for those that were
        given some of their own."""
        self._note_cable("all cables", "", qualities)
        self._network.set_common_quality(self._network.common_quality._replace(**qualities))

    def repair_cables(self) -> None:
        """All are as good as in the beginning. Cuts stay: see `heal_all`."""
        self.note("all cables are as good as new")
        self._network.repair()

    def _note_cable(self, source: str, target: str, qualities: dict[str, Any]) -> None:
        told = ", ".join(f"{name}={value}" for name, value in qualities.items())
        self._trace.note(self.now, source, target, f"the cable: {told}")

    # ── time and dice ──

    @property
    def now(self) -> float:
        return self._kernel.now

    def run_for(self, seconds: float) -> None:
        self._kernel.run_for(seconds)

    def run_until(self, condition: Callable[[], bool], *, limit_s: float) -> bool:
        """False when the condition did not come true within so many seconds."""
        return self._kernel.run_until(condition, limit_s=limit_s)

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Do something later, while the simulation runs."""
        self._kernel.after(seconds, action, *args)

    def random(self, purpose: str) -> Random:
        """Dice of their own for every purpose, always the same ones for a seed."""
        return self._kernel.random(purpose)

    # ── what happened ──

    def note(self, text: str, *, by: str = "simulation") -> None:
        """Add an event to the story and to the digest."""
        self._trace.note(self.now, by, "", text)

    @property
    def events(self) -> int:
        """How many there were so far."""
        return self._trace.count

    @property
    def trace(self) -> Trace:
        return self._trace

    def digest(self) -> str:
        return self._trace.digest()

    def story(self, events: int = 200) -> str:
        """The last so many events, a line each: when, who to whom, what."""
        return f"seed {self.seed}, {self.now:.6f} s\n{self._trace.story(events)}"


def address_of(machine: str) -> str:
    return f"{machine}:{_PORT}"
