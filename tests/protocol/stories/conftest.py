"""Simulations that tell what happened when a test fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from dyno.protocol.healing import Healing
from dyno.simulator.simulation import Simulation

_FAILED = pytest.StashKey[bool]()
_EVENTS_TOLD = 120


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def unhealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrupt records stay corrupt."""
    monkeypatch.setattr(Healing, "deadline", lambda self: math.inf)
    monkeypatch.setattr(Healing, "tick", lambda self, now, out: None)


@pytest.fixture
def simulate(request: pytest.FixtureRequest) -> Iterator[Callable[..., Simulation]]:
    """Makes simulations; when the test fails, their stories are printed."""
    made: list[Simulation] = []

    def make(size: int = 0, seed: int = 1, **options: Any) -> Simulation:
        made.append(Simulation(seed, **options))
        if size:
            made[-1].add_cluster(size)
        return made[-1]

    yield make
    if request.node.stash.get(_FAILED, False):
        for sim in made:
            print(sim.story(_EVENTS_TOLD))
