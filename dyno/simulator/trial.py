"""What `dyno simulate` does for each seed: a run in which things go wrong, and the story of a failure.

In: what to run, as plain values that go from process to process. Out: an outcome for a seed, and for people
the story of a key and the one command that runs it again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.simulator import story
from dyno.simulator.faults import DESTRUCTIVE, FAULTS, Faults
from dyno.simulator.scenario import HOURS, NODES, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.simulator.history import Key
    from dyno.simulator.scenario import Outcome, Played
    from dyno.simulator.simulation import Simulation

NONE: Final = "none"  # how no faults at all are called
HOLDERS_MAX: Final = 1  # of one write, whose disks are destroyed between two full repairs


class Trial(NamedTuple):
    """faults: kinds, of `FAULTS`."""

    nodes: int = NODES
    hours: float = HOURS
    faults: tuple[str, ...] = FAULTS

    @property
    def holders_lost(self) -> int:
        """Of one write: fewer than hold it for certain, so none where one node is the whole cluster."""
        destroys = any(kind in DESTRUCTIVE for kind in self.faults)
        return min(HOLDERS_MAX, self.nodes - 1) if destroys else 0

    def run(self, seed: int, progress: Callable[[float], object] | None = None) -> Outcome:
        """progress: told now and then what share of the run is over, 0 to 1."""
        return self._play(seed, progress=progress).outcome

    def tell(self, seed: int, key: Key, at: float | None = None) -> list[str]:
        """The story of a key: all of it, or what was around a time."""
        if at is None:
            ear = story.Ear(key)
        else:
            ear = story.Ear(key, since=at - story.BEFORE_S, until=at + story.AFTER_S)
        played = self._play(seed, ear)
        operations = played.history.by_key().get(key, [])
        if at is not None:
            operations = [one for one in operations if at - story.BEFORE_S <= one.ended <= at + story.AFTER_S]
        return story.told(ear.events, operations, at=0.0 if at is None else at)

    def command(self, seed: int) -> str:
        """What to type to run this seed again."""
        words = ["dyno simulate", f"--seed {seed}"]
        if self.nodes != NODES:
            words.append(f"--nodes {self.nodes}")
        if self.hours != HOURS:
            words.append(f"--hours {self.hours!r}")
        if self.faults != FAULTS:
            words.append(f"--faults {','.join(self.faults) or NONE}")
        return " ".join(words)

    def _play(
        self, seed: int, ear: story.Ear | None = None, progress: Callable[[float], object] | None = None
    ) -> Played:
        holders_lost = self.holders_lost
        return play(
            seed,
            faults=partial(_plan, self.faults, holders_lost),
            nodes=self.nodes,
            hours=self.hours,
            holders_lost=holders_lost,
            listener=None if ear is None else ear.hear,
            progress=progress,
        )


def _plan(kinds: tuple[str, ...], holders_max: int, simulation: Simulation, until_s: float) -> Faults:
    return Faults(simulation, kinds=kinds, until_s=until_s, holders_max=holders_max)
