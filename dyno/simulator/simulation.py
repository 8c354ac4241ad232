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
from dyno.simulator.client import Client
from dyno.simulator.kernel import Kernel
from dyno.simulator.machine import Machine
from dyno.simulator.network import LATENCY_S, Network
from dyno.simulator.stranger import CLIENT_HELLO, Stranger
from dyno.simulator.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dyno.wire.messages import Hello

PARTITIONS: Final = 64  # a table of 1024 takes ten times as long to build, and shows nothing more
JOIN_LIMIT_S: Final = 60.0
EVENTS_KEPT: Final = 5000
_PORT: Final = 7100


class Simulation:
    """config: of every node that is not given its own. latency_s: least and most seconds of a frame's way.
    machines: by name."""

    def __init__(
        self,
        seed: int = 0,
        *,
        config: Config | None = None,
        partitions: int = PARTITIONS,
        latency_s: tuple[float, float] = LATENCY_S,
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
        self._network = Network(self._kernel, self._trace, latency_s=latency_s)

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
    ) -> Machine:
        """A new machine with a node on it. join: names of machines. wait: until it is ready."""
        assert name not in self.machines, f"there is a machine {name} already"
        birth = Birth(name, address_of(name), zone, weight, self._partitions, tuple(map(address_of, join)))
        machine = Machine(
            birth,
            config=config or self.config,
            kernel=self._kernel,
            network=self._network,
            trace=self._trace,
        )
        self.machines[name] = machine
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

    def kill(self, name: str, *, commits: bool | None = None) -> None:
        """At once; what is in memory is lost, what was committed is kept. commits: whether a commit under way
        is on the disk, though nobody heard of it; None lets the dice decide."""
        self.machines[name].kill(commits=commits)

    def restart(self, name: str) -> Machine:
        """A new process on the disk that is there."""
        machine = self.machines[name]
        machine.start()
        return machine

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

    # ── cables ──

    def cut(self, one: str, other: str) -> None:
        """Both directions. Connections stall until `heal`, as TCP's do; dials and datagrams are lost."""
        self._network.cut(one, other)
        self._network.cut(other, one)

    def cut_one_way(self, source: str, target: str) -> None:
        """What source sends does not arrive; what target sends does."""
        self._network.cut(source, target)

    def heal(self, one: str, other: str) -> None:
        self._network.heal(one, other)
        self._network.heal(other, one)

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

    # ── time ──

    @property
    def now(self) -> float:
        return self._kernel.now

    def run_for(self, seconds: float) -> None:
        self._kernel.run_for(seconds)

    def run_until(self, condition: Callable[[], bool], *, limit_s: float) -> bool:
        """False when the condition did not come true within so many seconds."""
        return self._kernel.run_until(condition, limit_s=limit_s)

    # ── what happened ──

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
