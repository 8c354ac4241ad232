"""Many seeds with everything mixed, a few with each test: every checker holds for every one of them."""

from __future__ import annotations

from typing import Final

import pytest

from dyno.cli.simulate.report import Report
from dyno.cli.simulate.workers import Workers
from dyno.simulator.faults import FAULTS
from dyno.simulator.trial import Trial

SEEDS: Final = 100
AT_ONCE: Final = 10
MINUTES: Final = 1.0  # simulated, of load and faults, of each
TRIAL: Final = Trial(hours=MINUTES / 60, faults=FAULTS)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, AT_ONCE))
def test_every_checker_holds_for_every_seed(first: int) -> None:
    seeds = range(first, first + AT_ONCE)
    report = Report(TRIAL, seeds)
    failed: list[str] = []
    with Workers(TRIAL, seeds, processes=1) as workers:  # whose heap is small, and quickly collected
        for news in workers.news():
            failed += report.take(news, terse=True)
    print(*report.summary(), sep="\n")
    assert failed == [], "\n".join(failed)
    assert report.passed
