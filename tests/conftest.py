"""Coverage is demanded of every module's own tests, so it is measured in those alone.

What runs whole clusters, virtual or real, takes minutes as it is; to count statements there would double
that, and could only hide that a module's own tests leave something out.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from coverage import Coverage

UNMEASURED: Final = ("stories", "simulator", "cluster", "examples")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    running = Coverage.current()
    if running is None or not is_unmeasured(item.path):
        return (yield)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()


def is_unmeasured(path: Path) -> bool:
    return any(part in UNMEASURED for part in path.parts)
