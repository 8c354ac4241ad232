"""Faults that take data away: bit rot, wiped disks, old copies, disks that lie, a name with two owners.

No store survives the loss of all copies, so these befall at most `holders_max` machines between full repairs.
A machine counts as damaged until it runs, is not recovering and has no unreadable record, and all others run
and have compared everything with each other since: from then on every write has all its copies again.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from dyno.protocol.rows import is_row
from dyno.simulator.fault import Begin, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from dyno.simulator.machine_faults import MachineFaults
    from dyno.simulator.simulation import Simulation

_ROTTEN_MAX = 8  # records
_DOWN_S = (0.2, 8.0)
_BEFORE_S = (3.0, 10.0)  # from a copy of the disk, or the first lie, to the damage
_LOOK_EVERY_S = 1.0  # whether cables are whole again
_CLOCK_ERROR = 0.02  # of the time since, for clocks that changed their rates


class Comparing(Protocol):
    """What a node says of its repair. recovering: whether its reads do not count yet. compared_since: by its
    own clock, the begin of the least recent of its latest finished exchanges with each peer for each
    partition; minus infinity while some never finished."""

    recovering: bool
    compared_since: float


class DamageFaults:
    """begins: by kind. calm: whether no cable is cut now."""

    def __init__(
        self,
        simulation: Simulation,
        random: Random,
        *,
        machines: MachineFaults,
        calm: Callable[[], bool],
        holders_max: int,
    ) -> None:
        self._sim = simulation
        self._random = random
        self._machines = machines
        self._calm = calm
        self._holders_max = holders_max
        self._damaged: dict[str, float] = {}  # since when; infinite while the damage is under way
        self._twins = 0
        self.twins = machines.passing  # the machines that claim a name
        self.begins: dict[str, Begin] = {
            "corrupt": self._corrupt,
            "wipe": self._wipe,
            "old-copy": self._old_copy,
            "lying-disk": self._lying_disk,
            "twin": self._twin,
        }

    # ── what may be damaged ──

    @property
    def damaged(self) -> list[str]:
        """Machines that were, and the cluster is not known to have been whole since."""
        for name, since in list(self._damaged.items()):
            if self._is_repaired(name, since):
                del self._damaged[name]
        return list(self._damaged)

    def _is_repaired(self, name: str, since: float) -> bool:
        machines = self._sim.machines
        if not all(machine.running for machine in machines.values()):
            return False
        compared_by = since + _CLOCK_ERROR * (self._sim.now - since) if since < math.inf else math.inf
        for machine in machines.values():
            compared_since = cast("Comparing", machine.node).compared_since
            if machine.clock.true_time(compared_since) <= compared_by:
                return False
        recovering = cast("Comparing", machines[name].node).recovering
        # A row beside the records has no copies, so nothing heals it.
        return not recovering and all(is_row(key) for key in machines[name].engine.rotten())

    def _victim(self) -> str | None:
        """A machine that may be damaged, and is in trouble from now on. All others must be there to tell it
        what it lost: an old copy whose better-knowing peers are all away cannot be told from a good disk."""
        if len(self._sim.machines) == 1:
            return None
        untroubled = self._machines.untroubled()
        if not (self._calm() and self._machines.may_trouble and len(untroubled) == len(self._sim.machines)):
            return None
        damaged = self.damaged
        names = untroubled if len(damaged) < self._holders_max else damaged
        if not names:
            return None
        name = self._random.choice(names)
        self._machines.trouble(name)
        self._damaged[name] = math.inf
        return name

    def _was_damaged(self, name: str) -> None:
        self._damaged[name] = self._sim.now

    # ── the kinds ──

    def _corrupt(self) -> Fault | None:
        if (name := self._victim()) is None:
            return None
        rotten = self._sim.rot_disk(name, records=self._random.randint(1, _ROTTEN_MAX))
        self._was_damaged(name)
        return Fault(f"{len(rotten)} records of {name} rot", 0.0, partial(self._machines.release, name))

    def _wipe(self) -> Fault | None:
        if (name := self._victim()) is None:
            return None
        self._put_down(name)
        self._sim.wipe(name)
        self._was_damaged(name)
        return self._downtime(name, f"{name} gets an empty disk")

    def _old_copy(self) -> Fault | None:
        """If nothing was committed meanwhile, the copy is no old one."""
        if (name := self._victim()) is None:
            return None
        copy = self._sim.copy_disk(name)

        def end() -> None:
            if self._sim.machines[name].engine.commit_number > copy.commit_number:
                self._put_down(name)
                self._sim.restore_disk(name, copy)
                self._machines.bring_up(name)
            else:
                self._machines.release(name)
            self._was_damaged(name)

        return Fault(f"{name} is set back", self._random.uniform(*_BEFORE_S), partial(self._once_calm, end))

    def _lying_disk(self) -> Fault | None:
        """It calls durable what a power cut takes."""
        if (name := self._victim()) is None:
            return None
        self._sim.lie_about_commits(name)

        def end() -> None:
            self._machines.down[name] = None
            self._machines.cut_power(name)
            self._was_damaged(name)
            self._machines.bring_up(name)

        return Fault(
            f"the disk of {name} lies", self._random.uniform(*_BEFORE_S), partial(self._once_calm, end)
        )

    def _twin(self) -> Fault | None:
        """Another machine claims a node's name, now and then while that node is away; what it was given is
        gone with it."""
        if (name := self._victim()) is None:
            return None
        if self._random.random() < 0.5:
            self._put_down(name)
        self._twins += 1
        host = f"{name}-twin-{self._twins}"
        self.twins[host] = None
        others = [other for other in self._sim.machines if other != name]
        self._sim.add_node(name, host=host, join=others, wait=False)

        def end() -> None:
            self._sim.scrap(host)
            del self.twins[host]
            self._machines.down[name] = None
            self._was_damaged(name)
            self._machines.bring_up(name)

        how_long_s = self._random.uniform(*_BEFORE_S)
        return Fault(f"{host} claims the name {name}", how_long_s, partial(self._once_calm, end))

    def _once_calm(self, end: Callable[[], None]) -> None:
        """Cables may have been cut since it began, and who comes back with less than others know of must
        meet them."""
        if self._calm():
            end()
        else:
            self._sim.after(_LOOK_EVERY_S, self._once_calm, end)

    def _put_down(self, name: str) -> None:
        self._machines.down[name] = None
        self._sim.kill(name)

    def _downtime(self, name: str, what: str) -> Fault:
        return Fault(what, self._random.uniform(*_DOWN_S), partial(self._machines.bring_up, name))
