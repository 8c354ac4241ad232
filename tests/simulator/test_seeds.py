"""Many seeds with everything mixed, on all cores: every checker holds for every one of them."""

from __future__ import annotations

from typing import Final

from dyno.cli.simulate.report import Report
from dyno.cli.simulate.workers import Workers
from dyno.simulator.faults import FAULTS
from dyno.simulator.trial import Trial

SEEDS: Final = 100
MINUTES: Final = 1.0  # simulated, of load and faults, of each
TRIAL: Final = Trial(hours=MINUTES / 60, faults=FAULTS)


def test_every_checker_holds_for_every_seed() -> None:
    seeds = range(1, SEEDS + 1)
    report = Report(TRIAL, seeds)
    failed: list[str] = []
    with Workers(TRIAL, seeds) as workers:
        for news in workers.news():
            failed += report.take(news, terse=True)
    print(*report.summary(), sep="\n")
    assert failed == [], "\n".join(failed)
    assert report.passed
