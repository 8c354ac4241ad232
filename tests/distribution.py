"""Which tests go together where several processes share them (`pytest -n`).

A process takes the tests of one module after the other, but for two kinds. What takes seconds by itself and
needs nobody else, as each simulated run does, is dealt one by one. What runs real processes, and judges them
by the clock as well, is all for one process, so that there are never two such clusters at once. As that takes
longest it begins first, and the simulated runs next: in the end there is little left to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

TOGETHER: Final = "tests/cluster/"
ONE_BY_ONE: Final = "tests/simulator/"


class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(TOGETHER):
            return TOGETHER
        return nodeid if nodeid.startswith(ONE_BY_ONE) else nodeid.partition("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(ONE_BY_ONE))
    items.sort(key=lambda item: not item.nodeid.startswith(TOGETHER))
