"""Faults of machines: processes that die, stop or stand still, power cuts, disks, clocks.

Only a minority of the nodes is down, or cannot write, at any time, but for an outage of all of them now and
then, which is short. What takes data away is in `damage_faults`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dyno.simulator.clock import RATE_MAX, RATE_MIN
from dyno.simulator.fault import Begin, Fault

if TYPE_CHECKING:
    from random import Random

    from dyno.simulator.simulation import Simulation

_DOWN_MEAN_S = 6.0
_DOWN_MAX_S = 40.0
_OUTAGE_MAX_S = 4.0
_EFFECTS_MAX = 12  # after which a process is killed in the middle of a turn
_BOOTED_BEFORE_MAX_S = 1e6  # a clock of a machine shows at most this much when its node starts
_CLOCK_S = 1.0  # the clock stays as it is; this is how long it is a fault under way


class MachineFaults:
    """begins: by kind. down: machines whose process is not to run now. passing: machines that are there for a
    moment only, and which no fault of machines befalls, for it would outlast them."""

    def __init__(self, simulation: Simulation, random: Random) -> None:
        self._sim = simulation
        self._random = random
        self._troubled: dict[str, None] = {}  # machines that a fault has got hold of
        self.down: dict[str, None] = {}
        self.passing: dict[str, None] = {}
        self.begins: dict[str, Begin] = {
            "crash": self._crash,
            "power": self._power_cut,
            "outage": self._outage,
            "stop": self._stop,
            "pause": self._pause,
            "disk-full": self._disk_full,
            "disk-readonly": self._disk_read_only,
            "disk-slow": self._disk_slow,
            "disk-broken": self._disk_broken,
            "clock": self._clock,
        }

    # ── who may be befallen ──

    @property
    def may_trouble(self) -> bool:
        """Whether one more machine may be in trouble."""
        return len(self._troubled) < max(1, (len(self._sim.machines) - 1) // 2)

    def trouble(self, name: str) -> None:
        """No other fault of machines befalls it until `release`."""
        self._troubled[name] = None

    def release(self, name: str) -> None:
        self._troubled.pop(name, None)

    def untroubled(self) -> list[str]:
        """Machines on which a node runs undisturbed."""
        return [
            name
            for name, machine in self._sim.machines.items()
            if name not in self._troubled and name not in self.passing and machine.running
        ]

    def victim(self) -> str | None:
        """One that is in trouble from now on; None if there are enough of those."""
        names = self.untroubled() if self.may_trouble else []
        if not names:
            return None
        name = self._random.choice(names)
        self.trouble(name)
        return name

    # ── processes ──

    def _crash(self) -> Fault | None:
        """Between any two effects; of a commit under way the dice know."""
        if (name := self.victim()) is None:
            return None
        effects = self._random.randint(0, _EFFECTS_MAX)
        self._sim.kill(name, after_effects=effects)
        return self._downtime(name, f"{name} is killed after {effects} more effects")

    def _power_cut(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        self.cut_power(name)
        return self._downtime(name, f"{name} loses its power")

    def cut_power(self, name: str) -> None:
        """When it is on again, its clock shows anything."""
        self._sim.cut_power(name)
        self._sim.begin_clock(name, at=self._random.uniform(0.0, _BOOTED_BEFORE_MAX_S))

    def _outage(self) -> Fault | None:
        """All nodes at once, each in the middle of something."""
        names = self.untroubled()
        if self._troubled or len(names) < len(self._sim.machines):
            return None
        ends: list[Fault] = []
        for name in names:
            self.trouble(name)
            self._sim.kill(name, after_effects=self._random.randint(0, _EFFECTS_MAX))
            ends.append(self._downtime(name, name))

        def end() -> None:
            self._random.shuffle(ends)
            for fault in ends:
                fault.end()

        return Fault("all nodes are killed", self._random.uniform(0.5, _OUTAGE_MAX_S), end)

    def _stop(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        self._sim.machines[name].stop()
        return self._downtime(name, f"{name} is stopped")

    def _pause(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        self._sim.pause(name)

        def end() -> None:
            self._sim.resume(name)
            self.release(name)

        return Fault(f"{name} stands still", self._seconds(), end)

    def _downtime(self, name: str, what: str) -> Fault:
        self.down[name] = None
        return Fault(what, self._seconds(), partial(self.bring_up, name))

    def bring_up(self, name: str) -> None:
        """Run a process again, whether the last one has ended by now or not."""
        if self._sim.machines[name].running:
            self._sim.kill(name)
        self._sim.restart(name)
        del self.down[name]
        self.release(name)

    # ── disks ──

    def _disk_full(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        self._sim.fill_disk(name)

        def end() -> None:
            self._sim.free_disk(name)
            self.release(name)

        return Fault(f"the disk of {name} is full", self._seconds(), end)

    def _disk_read_only(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        self._sim.write_protect(name)

        def end() -> None:
            self._sim.write_protect(name, False)
            self.release(name)

        return Fault(f"the disk of {name} is read-only", self._seconds(), end)

    def _disk_slow(self) -> Fault | None:
        if (name := self.victim()) is None:
            return None
        least = self._random.choice((0.01, 0.05, 0.3))
        self._sim.slow_disk(
            name,
            commit_s=(least, least * self._random.uniform(1.0, 5.0)),
            seconds_per_record=self._random.choice((0.0, 0.002, 0.02)),
            seconds_per_read=self._random.choice((0.0, 0.002, 0.02)),
        )

        def end() -> None:
            self._sim.slow_disk(name)
            self.release(name)

        return Fault(f"the disk of {name} is slow", self._seconds(), end)

    def _disk_broken(self) -> Fault | None:
        """An fsync fails, the process stops; the next one finds the disk in order."""
        if (name := self.victim()) is None:
            return None
        self._sim.break_disk(name, keeps=self._random.random() < 0.5)

        def end() -> None:
            self._sim.mend_disk(name)
            self.bring_up(name)

        self.down[name] = None
        return Fault(f"the disk of {name} fails", self._seconds(), end)

    # ── clocks ──

    def _clock(self) -> Fault | None:
        name = self._random.choice(list(self._sim.machines))
        rate = round(self._random.uniform(RATE_MIN, RATE_MAX), 4)
        self._sim.run_clock(name, rate=rate)
        return Fault(f"the clock of {name} runs at {rate}", _CLOCK_S, _nothing)

    def _seconds(self) -> float:
        return min(_DOWN_MAX_S, 0.2 + self._random.expovariate(1.0 / _DOWN_MEAN_S))


def _nothing() -> None:
    """A clock stays as it is."""
