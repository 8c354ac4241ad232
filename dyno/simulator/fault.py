"""What a planner of faults and those who carry them out have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Fault(NamedTuple):
    """One that has begun. what: for people. seconds: how long it lasts. end: undoes what can be undone."""

    what: str
    seconds: float
    end: Callable[[], None]


# Begins a fault; None when there is nothing now that it could befall.
Begin: TypeAlias = Callable[[], Fault | None]
