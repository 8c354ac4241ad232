"""How the tests are run: what is measured, and which go together where several processes share them.

Coverage is demanded of every module's own tests, so it is measured in those alone. What runs whole clusters,
virtual or real, takes minutes as it is; to count statements there would double that, and could only hide that
a module's own tests leave something out.

`-n auto` is one process more than there are cores, for the one with the real clusters mostly waits.

Simulated runs make millions of objects and hardly any cycle, so the collector looks at the new ones less
often, and at what collecting the tests made not at all.

What the tests start may keep its bytecode in any case: to compile all of dyno takes longer than most of what
a test wants of a process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import Coverage

from tests.distribution import Scheduling, longest_first

if TYPE_CHECKING:
    from xdist.remote import Producer

UNMEASURED: Final = ("stories", "simulator", "cluster", "examples")
PROCESSES_MAX: Final = 8  # each imports and collects all that there is
LOOK_EVERY: Final = 100_000  # new objects

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not is_unmeasured(item.path):
        return (yield)
    paused = []
    while (
        running := Coverage.current()
    ) is not None:  # where several processes share the tests there are two
        running.stop()
        paused.append(running)
    try:
        return (yield)
    finally:
        for running in reversed(paused):
            running.start()


def is_unmeasured(path: Path) -> bool:
    return any(part in UNMEASURED for part in path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, PROCESSES_MAX)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    config.option.loadscopereorder = False  # the order is that of longest_first
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        longest_first(items)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(LOOK_EVERY)
