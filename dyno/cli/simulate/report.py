"""What came of a simulation, as lines: of each seed, of what did not hold, and of all together.

In: results as they come. Out: lines in the order of the seeds, and a digest over those of all seeds, so that
neither depends on which process was faster.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from dyno.cli.simulate.workers import Far, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dyno.simulator.trial import Trial

VIOLATIONS_SHOWN = 3  # of one seed

_DIGEST_BYTES = 16


class Report:
    def __init__(self, trial: Trial, seeds: range) -> None:
        self._trial = trial
        self._seeds = seeds
        self._next = seeds.start  # the seed whose lines come next
        self._waiting: dict[int, Result] = {}
        self._digests: list[str] = []
        self._faults: dict[str, int] = {}
        self._operations = 0
        self._acknowledged = 0
        self._violations = 0
        self._simulated_s = 0.0
        self._cpu_s = 0.0

    @property
    def passed(self) -> bool:
        return not self._violations and self._next == self._seeds.stop

    def take(self, news: Far | Result, *, terse: bool) -> Iterator[str]:
        """The lines of the seeds whose turn has come. terse: nothing of those that passed."""
        if isinstance(news, Far):
            return
        self._waiting[news.seed] = news
        while (result := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._count(result)
            if not terse or result.outcome.violations:
                yield from self._lines(result)

    def rest(self, *, terse: bool) -> Iterator[str]:
        """The lines of the seeds that still waited for one before them, which will not come any more."""
        for seed in sorted(self._waiting):
            result = self._waiting.pop(seed)
            if not terse or result.outcome.violations:
                yield from self._lines(result)

    def summary(self) -> list[str]:
        hours = self._simulated_s / 3600
        speed = self._simulated_s / self._cpu_s if self._cpu_s else 0.0
        seeds = _counted(len(self._digests), "seed")
        return [
            f"{seeds} of {self._trial.nodes} nodes, {hours:.2f} simulated hours",
            f"{self._operations:,} operations, {self._acknowledged:,} acknowledged writes",
            "faults: " + (", ".join(f"{kind} {count:,}" for kind, count in self._faults.items()) or "none"),
            f"violations: {self._violations:,}",
            f"speed: {speed:.0f} × real time per core",
            f"digest {self._digest()}",
        ]

    def _count(self, result: Result) -> None:
        outcome = result.outcome
        self._digests.append(outcome.digest)
        for kind, count in outcome.faults.items():
            self._faults[kind] = self._faults.get(kind, 0) + count
        self._operations += outcome.operations
        self._acknowledged += outcome.acknowledged
        self._violations += len(outcome.violations)
        self._simulated_s += outcome.simulated_s
        self._cpu_s += result.cpu_s

    def _lines(self, result: Result) -> Iterator[str]:
        outcome = result.outcome
        violations = outcome.violations
        yield (
            f"seed {outcome.seed}: {outcome.operations:,} operations, "
            f"{sum(outcome.faults.values())} faults, {_counted(len(violations), 'violation')}, "
            f"digest {outcome.digest}"
        )
        for number, violation in enumerate(violations[:VIOLATIONS_SHOWN]):
            yield f"  {violation}"
            for line in result.stories[number] if number < len(result.stories) else ():
                yield f"    {line}"
        if len(violations) > VIOLATIONS_SHOWN:
            yield f"  and {len(violations) - VIOLATIONS_SHOWN} more"
        if violations:
            yield f"  run it again: {self._trial.command(outcome.seed)}"

    def _digest(self) -> str:
        if len(self._seeds) == 1:
            return self._digests[0]
        return blake2b("".join(self._digests).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
