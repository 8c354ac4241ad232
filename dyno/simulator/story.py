"""What happened to one key: who sent what, when, to whom, and what went wrong around it.

An `Ear` listens to a simulation's trace and keeps what is about its key: requests and records by key or slot,
answers by the question that they belong to, and everything said in words (a cable is cut, a process ends).
A run is deterministic, so whoever wants to know more of one runs it again with an ear on the key.

In: events, and the operations of users. Out: lines for people, in order of time, those nearest to the time
in question where there are too many.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.placement.hashing import bucket_id
from dyno.simulator.trace import line
from dyno.wire.rows import unpack_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyno.simulator.history import Key, Operation
    from dyno.simulator.trace import What

LINES_MAX: Final = 60
LINE_CHARS_MAX: Final = 180
BEFORE_S: Final = 5.0
AFTER_S: Final = 15.0

_PARTITION_AND_COPIES: Final = 3  # bytes that a slot begins with
_ASKED_MAX: Final = 100_000


class Event(NamedTuple):
    at: float
    text: str


class Ear:
    """key: what it listens for. since, until: seconds. It keeps at most `LINES_MAX` lines around `at`."""

    def __init__(self, key: Key, *, since: float = 0.0, until: float = math.inf) -> None:
        self.events: list[Event] = []
        self._shown = str(key)
        self._bucket = key.bucket
        self._key = key.key.encode()
        self._slot = bucket_id(key.bucket) + blake2b(self._key, digest_size=16).digest()
        self._since = since
        self._until = until
        self._asked: dict[tuple[str, str, int], None] = {}  # asker, asked, id

    def hear(self, now: float, source: str, target: str, what: What) -> None:
        """A trace's listener."""
        if now <= self._until and self._concerns(source, target, what) and now >= self._since:
            self.events.append(Event(now, line(now, source, target, what)))

    def _concerns(self, source: str, target: str, what: What) -> bool:
        if isinstance(what, str):
            return not what.startswith(("get", "put", "update", "delete")) or self._shown in what.split()
        number = getattr(what, "id", None)
        if self._names(what):
            if number and len(self._asked) < _ASKED_MAX:
                self._asked[source, target, number] = None
            return True
        if number is not None and (target, source, number) in self._asked:
            del self._asked[target, source, number]
            return True
        return False

    def _names(self, what: What) -> bool:
        slot = getattr(what, "slot", None)
        if slot is not None:
            return bool(slot[_PARTITION_AND_COPIES:] == self._slot)
        if getattr(what, "bucket", None) != self._bucket:
            return False
        keys = getattr(what, "keys", None)
        return getattr(what, "key", None) == self._key or (
            keys is not None and self._key in unpack_row(keys, items_max=1 << 16)
        )


def told(events: Iterable[Event], operations: Iterable[Operation], *, at: float) -> list[str]:
    """One line for every event, and for every operation where it ended, nearest to `at` where there are too
    many."""
    lines = [*events, *(Event(one.ended, _line(one)) for one in operations if one.ended < math.inf)]
    lines.sort(key=lambda event: abs(event.at - at))
    kept = sorted(lines[:LINES_MAX], key=lambda event: event.at)
    return [_cut(event.text) for event in kept]


def _cut(text: str) -> str:
    return text if len(text) <= LINE_CHARS_MAX else f"{text[: LINE_CHARS_MAX - 1]}…"


def _line(operation: Operation) -> str:
    """An operation as its user saw it."""
    what = f"{operation.kind} #{operation.number}"
    if operation.basis is not None:
        what += f" after {operation.basis.kind} #{operation.basis.number}"
    if operation.siblings:
        what += f" saw {', '.join(map(str, operation.siblings))}"
    quorum = f"{'R' if operation.kind == 'get' else 'W'}={operation.quorum}"
    where = f" by {', '.join(operation.answered)}" if operation.answered else ""
    text = f"== {what} of {operation.key}, {quorum}{', strict' if operation.strict else ''}: "
    text += f"{operation.outcome}{where}, begun at {operation.began:.6f}"
    if operation.error:
        text += f" ({operation.error})"
    return f"{operation.ended:12.6f}  {operation.client:<24} {text}"
