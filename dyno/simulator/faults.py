"""A plan of faults from the seed: first everything goes wrong, then a quiet phase.

Faults begin after random gaps until `until_s`, several may overlap, and each has an end. `end` begins the
quiet phase: cables are whole and good, disks sound and fast, nobody is paused, and every machine runs, as
often as it takes to start it; only clocks stay as they are. A process that ends by itself is started again
after a moment at any time, as a service manager does.

In: a simulation and the kinds that are wanted. Out: calls of the simulation at their times, notes of every
begin and end in its story, and `counts`. The dice are the planner's own, so a client more does not change
the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dyno.simulator.cable_faults import CableFaults
from dyno.simulator.damage_faults import DamageFaults
from dyno.simulator.machine_faults import MachineFaults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.simulator.fault import Begin, Fault
    from dyno.simulator.simulation import Simulation

DESCRIPTIONS: Final[dict[str, str]] = {
    "partition": "the machines are split in two, one node is alone, or one bridges two halves",
    "oneway": "a node is not heard, or hears nothing, while the other direction works",
    "flapping": "a partition comes and goes every second or so",
    "loss": "up to 30% of all packets are lost, of one cable or of all",
    "duplicate": "datagrams arrive twice",
    "reorder": "datagrams arrive late, after others that were sent up to a second later",
    "latency": "packets take longer, up to half a second, or at times much longer",
    "bandwidth": "cables carry a few kilobytes a second",
    "reset": "connections break",
    "crash": "a process is killed between any two effects, and started again",
    "power": "a machine is off: nobody says goodbye, and its clock begins anew",
    "outage": "all processes are killed at once, for a few seconds",
    "stop": "a process ends cleanly, and is started again",
    "pause": "a process stands still as under SIGSTOP, up to 40 seconds",
    "disk-full": "a disk refuses to write for lack of room",
    "disk-readonly": "a disk refuses to write",
    "disk-slow": "a disk takes up to 1.5 seconds for a commit, and more for each record and read",
    "disk-broken": "an fsync fails, so the process stops, and is started again",
    "clock": "a node's clock runs up to 1% too fast or too slow from now on",
    "corrupt": "bits flip in some records of a disk",
    "wipe": "a node comes back with an empty disk",
    "old-copy": "a node comes back with an old copy of its disk",
    "lying-disk": "a disk says that commits are durable, and a power cut takes some of them",
    "twin": "another machine claims the name of a node, which lives or has just died",
}
FAULTS: Final[tuple[str, ...]] = tuple(DESCRIPTIONS)
DESTRUCTIVE: Final = ("corrupt", "wipe", "old-copy", "lying-disk", "twin")
HARMLESS: Final = tuple(kind for kind in FAULTS if kind not in DESTRUCTIVE)  # to data that was committed

_MEAN_GAP_S: Final = 3.0
_LOOK_EVERY_S: Final = 1.0  # at processes that have ended by themselves


class Faults:
    """kinds: of FAULTS. until_s: the time on the simulation's clock after which none begins. holders_max: how
    many machines may have lost data between full repairs; W-1 where every write is to survive. counts: how
    many faults of each kind there were so far."""

    def __init__(
        self,
        simulation: Simulation,
        *,
        kinds: Sequence[str],
        until_s: float,
        holders_max: int = 1,
        mean_gap_s: float = _MEAN_GAP_S,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in DESCRIPTIONS]
        assert not unknown, f"there are no faults named {', '.join(unknown)}"
        self.counts: dict[str, int] = dict.fromkeys(kinds, 0)
        self._sim = simulation
        self._random = random = simulation.random("faults")
        self._until_s = until_s
        self._mean_gap_s = mean_gap_s
        self._quiet = False
        self._under_way: dict[int, tuple[str, Fault]] = {}
        self._begun = 0
        self._cables = CableFaults(simulation, random)
        self._machines = MachineFaults(simulation, random)
        self._damage = DamageFaults(
            simulation,
            random,
            machines=self._machines,
            calm=lambda: self._cables.whole,
            holders_max=holders_max,
        )
        self._begins: dict[str, Begin] = {
            **self._cables.begins,
            **self._machines.begins,
            **self._damage.begins,
        }
        self._plan_next()
        simulation.after(_LOOK_EVERY_S, self._look_after_processes)

    @property
    def under_way(self) -> list[str]:
        """The kinds of all faults that have not ended."""
        return [kind for kind, _ in self._under_way.values()]

    def end(self) -> None:
        """Begin the quiet phase now."""
        if self._quiet:
            return
        self._quiet = True
        for number in list(self._under_way):
            self._end(number)
        self._mend_everything()
        self._note("the quiet phase begins")

    # ── one fault after the other ──

    def _plan_next(self) -> None:
        if self.counts:
            self._sim.after(self._random.expovariate(1.0 / self._mean_gap_s), self._begin_next)

    def _begin_next(self) -> None:
        if self._quiet or self._sim.now >= self._until_s:
            return
        kind = self._random.choice(list(self.counts))
        fault = self._begins[kind]()
        if fault is not None:
            self.counts[kind] += 1
            self._begun += 1
            self._note(f"{kind} {self._begun} begins: {fault.what}")
            self._under_way[self._begun] = (kind, fault)
            self._sim.after(fault.seconds, self._end, self._begun)
        self._plan_next()

    def _end(self, number: int) -> None:
        if number in self._under_way:
            kind, fault = self._under_way.pop(number)
            self._note(f"{kind} {number} ends")
            fault.end()

    def _mend_everything(self) -> None:
        """Whoever broke it."""
        sim = self._sim
        sim.heal_all()
        sim.repair_cables()
        for name, machine in sim.machines.items():
            disk = machine.engine
            disk.full = disk.read_only = disk.failing = disk.keeps_failed = False
            disk.sync()
            sim.slow_disk(name)
            sim.resume(name)

    def _look_after_processes(self) -> None:
        for name, machine in self._sim.machines.items():
            if not (machine.running or name in self._machines.down or name in self._damage.twins):
                self._note(f"{name} is started again, for it ended: {machine.ended}")
                self._sim.restart(name)
        self._sim.after(_LOOK_EVERY_S, self._look_after_processes)

    def _note(self, text: str) -> None:
        self._sim.note(text, by="faults")
