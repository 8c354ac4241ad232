"""What users wrote, and what every read must therefore give: the judge of random schedules.

Every value is unique, and with every write goes down what its author had read. In: when writes begin, how
they end, and what reads give. A read fails, with an AssertionError that says why, unless

- an acknowledged value shows, if it was so before the read began, or somebody who had read it overwrote it
  with what shows, or deleted it;
- what an acknowledged write or delete had read shows no more;
- nothing shows of which it was said that it was not done, nor is that said of anything that was shown;
- a listing misses no key with an acknowledged value that nobody may have deleted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

from dyno.errors import DynoError

Key: TypeAlias = tuple[str, str]  # bucket, key


class Written(NamedTuple):
    """value: 0 for a delete. read: what its author had read."""

    key: Key
    value: int
    read: tuple[int, ...]


def may_be_done(error: DynoError) -> bool:
    """What a user has to believe of a write that failed."""
    return bool(getattr(error, "indeterminate", False))


@dataclass
class History:
    """begun: what was, or may be, carried out, in order. acknowledged: with the time when it was. refused:
    values that are said not to be done. shown: values that somebody read. counts: of calls, by how they
    ended. believes: of an error, whether the write may be done."""

    believes: Callable[[DynoError], bool] = may_be_done
    begun: dict[Key, list[Written]] = field(default_factory=partial(defaultdict, list))
    acknowledged: dict[Key, list[tuple[float, Written]]] = field(default_factory=partial(defaultdict, list))
    refused: set[int] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def begin(self, written: Written) -> None:
        self.begun[written.key].append(written)

    def end(self, written: Written, error: Exception | None, at: float) -> None:
        self.count("write", error)
        if error is None:
            self.acknowledged[written.key].append((at, written))
        elif isinstance(error, DynoError) and not self.believes(error):
            assert written.value not in self.shown, f"{written} was shown, and then said not to be done"
            self.begun[written.key].remove(written)
            self.refused.add(written.value)

    def count(self, kind: str, error: Exception | None) -> None:
        assert error is None or isinstance(error, DynoError)
        self.counts[f"{kind}: {type(error).__name__}" if error else kind] += 1

    def check(self, key: Key, found: Sequence[int], began: float) -> None:
        """found: all that a read gave which began then."""
        assert len(found) == len(set(found)), f"a value of {key} is there twice: {found}"
        begun = {written.value for written in self.begun[key]}
        for value in found:
            assert value not in self.refused, f"{value} of {key} was said not to be done"
            assert value in begun, f"{value} of {key} was never written"
        self.shown.update(found)
        covered = self._covered(key, found)
        for at, written in self.acknowledged[key]:
            if at <= began:
                assert not written.value or written.value in covered, f"{written} is missing in {found}"
                assert not any(value in found for value in written.read), f"{written} is undone by {found}"

    def check_listing(self, bucket: str, keys: Sequence[str | bytes], began: float) -> None:
        for key, acknowledged in self.acknowledged.items():
            if key[0] == bucket and key[1] not in keys:
                dead = self._covered(key, ())
                for at, written in acknowledged:
                    assert at > began or not written.value or written.value in dead, (
                        f"{written} is not listed"
                    )

    def _covered(self, key: Key, found: Sequence[int]) -> set[int]:
        """These, and all that was overwritten on the way to them, or perhaps deleted."""
        covered = set(found)
        for written in reversed(self.begun[key]):  # nobody reads what is begun later
            if not written.value or written.value in covered:
                covered.update(written.read)
        return covered
