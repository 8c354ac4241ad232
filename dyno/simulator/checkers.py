"""What must hold of every run, judged from what clients were told and what lies on the disks in the end.

In: a `History`, and an `Ending`: how things stand after the quiet phase, when nothing fails any more and
nobody writes. Out: violations, each with a sentence that names the operations in question.

    lost      an acknowledged value is there in the end, or a write or delete that may have been done covers
              it, whose author had really read it
    returned  what the context of an acknowledged write or delete covers does not come back
    siblings  no two values stay side by side of which one's author had read the other
    once      no read ever shows one write twice
    refused   what a client was told was not done is never seen, nor what nobody wrote
    strict    a strict read covers every strict write that was acknowledged before it began, where R+W>N
    dots      no dot ever stands for two values, on its way or on a disk
    ring      no number has two entries of the ring's log
    settled   in the end every key can be read from all owners, whose bytes are equal, and nobody else has any
    drained   no hint, request or queue is left
    bounded   contexts are no longer than the number of process starts, and of writes sent again, explains

The judges reason simply, on purpose. What somebody had read is known from what the client saw (the values),
what a write must cover from the token that it passed (the dots): a context that says more than its owner had
read is found as a loss. A delete without a context reads by itself; where its fate is unknown, so is what it
has read, and it excuses every loss of its key. Losses that faults explain are excused only where the disks of
as many holders were destroyed as a write had asked for (`holders_lost`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.causality.record import Record
from dyno.simulator.history import DELETE, GET, NOT_DONE, OK, UPDATE, Key, Operation
from dyno.wire import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dyno.causality.context import Context
    from dyno.simulator.history import History

ACTORS_PER_START_MAX: Final = (
    4  # of one key's context: a new epoch is opened after a loss, or a failed commit
)


class Ending(NamedTuple):
    """reads: what was read of every key from all owners, at last. owners: of every key, by name. copies: of
    every key the packed record on each machine's disk, b"" for none. left: sentences about what is not empty.
    starts: of processes, altogether. holders_lost: how many holders of one write may have lost their disk.
    reap_after_s: what was covered for less time is in the contexts still."""

    reads: Mapping[Key, Operation]
    owners: Mapping[Key, tuple[str, ...]]
    copies: Mapping[Key, Mapping[str, bytes]]
    left: tuple[str, ...]
    starts: int
    holders_lost: int
    reap_after_s: float = math.inf


class Violation(NamedTuple):
    """checker: the name of what does not hold. at: seconds around which its story is. key: None where it is
    not about one."""

    checker: str
    key: Key | None
    at: float
    text: str

    def __str__(self) -> str:
        about = f" {self.key}" if self.key is not None else ""
        return f"{self.checker}{about} at {self.at:.3f} s: {self.text}"


def check(history: History, ending: Ending) -> list[Violation]:
    """All that does not hold, in the order of the checkers."""
    judges: tuple[Callable[[History, Ending], Iterable[Violation]], ...] = (
        lost,
        returned,
        siblings,
        once,
        refused,
        strict,
        dots,
        ring,
        settled,
        drained,
        bounded,
    )
    return [violation for judge in judges for violation in judge(history, ending)]


# ── nothing is lost, nothing comes back ──


def lost(history: History, ending: Ending) -> Iterable[Violation]:
    """Every acknowledged value is there, or was covered by somebody who had read it."""
    for key, operations in history.by_key().items():
        final = ending.reads.get(key)
        if final is None or final.outcome != OK:
            continue  # `settled` says so
        excused = dict.fromkeys(final.siblings)
        for operation in operations:
            if operation.writes and operation.perhaps_done:
                excused.update(dict.fromkeys(operation.read()))
        blind_deletes = [one for one in operations if _reads_by_itself(one) and one.perhaps_done]
        if any(not one.acknowledged for one in blind_deletes):
            continue
        for operation in operations:
            value = operation.value
            if value is None or not _counts(operation, ending) or value in excused:
                continue
            if not any(_covers(history, delete, value) for delete in blind_deletes):
                yield Violation(
                    "lost",
                    key,
                    operation.ended,
                    f"{_told(operation)} was acknowledged by {', '.join(operation.answered)}, is not among "
                    f"{_shown(final.siblings)} in the end, and nobody who had read it wrote or deleted the "
                    f"key; {_suspects(history, operations, value)}",
                )


def returned(history: History, ending: Ending) -> Iterable[Violation]:
    """What an acknowledged write or delete covers is gone."""
    by_key = history.by_key()
    for key, final in ending.reads.items():
        operations = [one for one in by_key[key] if one.writes and _counts(one, ending)]
        for value in final.siblings:
            for operation in operations:
                if operation.value != value and _covers(history, operation, value):
                    yield Violation(
                        "returned",
                        key,
                        operation.ended,
                        f"{_told(operation)} was acknowledged by {', '.join(operation.answered)} and covers "
                        f"{_author(history, value)}, which is there in the end",
                    )
                    break


def siblings(history: History, ending: Ending) -> Iterable[Violation]:
    """Values that stay side by side were written by people who had not read each other's."""
    for key, final in ending.reads.items():
        for value in final.siblings:
            author = history.of_value(value)
            if author is None or author.acknowledged:
                continue  # `refused` or `returned` looks at it
            for other in final.siblings:
                if other != value and _covers(history, author, other):
                    yield Violation(
                        "siblings",
                        key,
                        author.began,
                        f"{_told(author)} had read {_author(history, other)}, and both are there in the end",
                    )


def once(history: History, ending: Ending) -> Iterable[Violation]:
    """No read shows one write twice."""
    for operation in history.operations:
        found = operation.siblings
        if len(found) > 1 and len(dict.fromkeys(found)) < len(found):
            value = next(value for value in found if found.count(value) > 1)
            yield Violation(
                "once",
                operation.key,
                operation.ended,
                f"{_told(operation)} showed {_author(history, value)} {found.count(value)} times, under the "
                f"dots {_dots(history, value)}",
            )


def refused(history: History, ending: Ending) -> Iterable[Violation]:
    """Nothing is seen of which somebody was told that it was not done, nor what nobody wrote."""
    seen: dict[tuple[Key, int], Operation] = {}
    for operation in history.operations:
        for value in operation.siblings:
            seen.setdefault((operation.key, value), operation)
    for (key, value), operation in seen.items():
        author = history.of_value(value)
        if author is None or author.key != key:
            yield Violation(
                "refused", key, operation.ended, f"{_told(operation)} showed {value}, which nobody wrote"
            )
        elif author.outcome == NOT_DONE:
            yield Violation(
                "refused",
                key,
                author.ended,
                f"{_told(author)} was told that it was not done ({author.error}), and {_told(operation)} "
                f"showed it",
            )


# ── reads ──


def strict(history: History, ending: Ending) -> Iterable[Violation]:
    """A read whose quorum of owners overlaps those of all earlier writes covers them: it shows the value, or
    its context has the dot, or the value was covered so long ago that it may have been reaped."""
    for key, operations in history.by_key().items():
        ours = [one for one in operations if one.strict and one.acknowledged]
        writes = [one for one in ours if one.writes and _counts(one, ending)]
        writes.sort(key=lambda one: one.ended)
        if not writes:
            continue
        covered_at = _covered_at(history, operations)
        copies, taken = history.copies[key.bucket], 0
        standing: list[Operation] = []  # writes that a read may not miss yet
        for read in ours:
            if read.kind != GET:
                continue
            while taken < len(writes) and writes[taken].ended < read.began:
                standing.append(writes[taken])
                taken += 1
            before = read.began - ending.reap_after_s
            standing = [one for one in standing if not _is_over(one, covered_at, before)]
            found = history.context(key, read.returned)
            for write in standing:
                if write.quorum + read.quorum <= copies:
                    continue
                # What a delete covered lately is in the contexts of all who know of it.
                values_of = write.read() if write.value is None else (write.value,)
                kept = [value for value in values_of if covered_at.get(value, math.inf) >= before]
                if _misses(history, read, found, write, kept):
                    yield _stale(read, write)
                    break


def _covered_at(history: History, operations: list[Operation]) -> dict[int, float]:
    """When each value was covered at first, as far as it was; by operations that may have been done."""
    covered_at: dict[int, float] = {}
    for one in operations:
        if one.writes and one.perhaps_done:
            values_of: Iterable[int] = one.read()
            if _reads_by_itself(one):
                values_of = (
                    other.value
                    for other in operations
                    if other.value is not None
                    and (not one.acknowledged or _covers(history, one, other.value))
                )
            for value in values_of:
                covered_at.setdefault(value, one.began)
    return covered_at


def _is_over(write: Operation, covered_at: dict[int, float], before: float) -> bool:
    """Whether nothing of it needs to be there any more."""
    since = write.ended if write.value is None else covered_at.get(write.value, math.inf)
    return since < before


def _misses(history: History, read: Operation, found: Context, write: Operation, kept: list[int]) -> bool:
    """found: the read's context. kept: values that are in it, if the read knows of the write."""
    if write.value is None and any(_covers_each(history, write, shown) for shown in read.siblings):
        return True
    for value in kept:
        dots = history.sightings.dots_of(value)
        if value not in read.siblings and dots and not any(found.covers(dot) for dot in dots):
            return True
    return False


def _stale(read: Operation, write: Operation) -> Violation:
    return Violation(
        "strict",
        read.key,
        read.began,
        f"{_told(read)} with R={read.quorum} from {', '.join(read.answered)} knows nothing of "
        f"{_told(write)}, which was acknowledged with W={write.quorum} by {', '.join(write.answered)} "
        f"at {write.ended:.3f} s, before the read began",
    )


# ── dots, copies, what is left ──


def dots(history: History, ending: Ending) -> Iterable[Violation]:
    """No dot stands for two values."""
    for key, dot, first, second in history.sightings.clashes:
        yield Violation(
            "dots",
            key,
            second[2],
            f"the dot {_dot(dot)} was issued twice: for {_author(history, first[0])}, seen at {first[1]} at "
            f"{first[2]:.3f} s, and for {_author(history, second[0])}, seen at {second[1]}",
        )


def ring(history: History, ending: Ending) -> Iterable[Violation]:
    """No number has two entries of the ring's log."""
    for number, seen in history.sightings.rings.items():
        if len(seen) > 1:
            first, second, *_ = seen.values()
            text = (
                f"there are two ring entries {number:x}: one seen at {first[0]} at {first[1]:.3f} s, another"
            )
            yield Violation("ring", None, second[1], f"{text} at {second[0]}")


def settled(history: History, ending: Ending) -> Iterable[Violation]:
    """Every key can be read from all owners; they hold the same bytes, and nobody else holds any."""
    for key, final in ending.reads.items():
        if final.outcome != OK:
            text = f"cannot be read from all owners, long after all faults ended: {final.error}"
            yield Violation("settled", key, final.ended, text)
    for key, copies in ending.copies.items():
        owners = ending.owners[key]
        if len(dict.fromkeys(copies.get(name, b"") for name in owners)) > 1:
            held = "; ".join(f"{name} has {_held(copies.get(name, b''))}" for name in owners)
            yield Violation("settled", key, ending.reads[key].ended, f"its owners differ: {held}")
        strays = [name for name, packed in copies.items() if packed and name not in owners]
        if strays:
            text = f"{', '.join(strays)} still has a copy and is no owner; {', '.join(owners)} are"
            yield Violation("settled", key, ending.reads[key].ended, text)


def drained(history: History, ending: Ending) -> Iterable[Violation]:
    """No hint, request or queue is left."""
    at = max((read.ended for read in ending.reads.values()), default=0.0)
    return [Violation("drained", None, at, text) for text in ending.left]


def bounded(history: History, ending: Ending) -> Iterable[Violation]:
    """A context has a few actors for every process start, and one for every write that was done again; its
    length has nothing to do with how much was written."""
    for key, copies in ending.copies.items():
        most = ACTORS_PER_START_MAX * ending.starts + history.sent_again.get(key, 0)
        for name, packed in copies.items():
            actors = len(Record.unpack(packed).context.actors()) if packed else 0
            if actors > most:
                text = (
                    f"the context on {name} has {actors} actors after {ending.starts} process starts, and "
                    f"{history.sent_again.get(key, 0)} writes that were sent again"
                )
                yield Violation("bounded", key, ending.reads[key].ended, text)
                break


# ── what the judges share ──


def _counts(operation: Operation, ending: Ending) -> bool:
    """Whether it was acknowledged by more holders than may have lost their disk since."""
    return operation.acknowledged and operation.quorum > ending.holders_lost


def _reads_by_itself(operation: Operation) -> bool:
    return operation.kind == DELETE and operation.basis is None


def _covers(history: History, operation: Operation, value: int) -> bool:
    """Whether its context says that the value is to go."""
    if value in operation.read():
        return True
    if operation.kind == UPDATE:
        return False
    packed = operation.returned if _reads_by_itself(operation) else operation.token
    if not packed:
        return False
    context = history.context(operation.key, packed)
    return any(context.covers(dot) for dot in history.sightings.dots_of(value))


def _covers_each(history: History, operation: Operation, value: int) -> bool:
    """Whether its context has all dots of a value, so that nothing of it may be seen any more.

    A write has a second dot where it was done again while no owner that knew it could be asked. Whoever
    replaced it under the first has not replaced that one, and it shows until an owner is back that knows of
    both (docs/design/survival.md, Retries exactly once). In the end it is gone: `returned` looks at that."""
    packed = operation.returned if _reads_by_itself(operation) else operation.token
    context = history.context(operation.key, packed)
    dots = history.sightings.dots_of(value)
    return bool(dots) and all(context.covers(dot) for dot in dots)


def _suspects(history: History, operations: list[Operation], value: int) -> str:
    """Whose context covers a value that its author had not read."""
    for one in operations:
        if one.writes and one.perhaps_done and one.value != value and _covers(history, one, value):
            return f"the context of {_told(one)} covers it all the same"
    last = next((one for one in reversed(operations) if value in one.siblings), None)
    if last is None:
        return "no read has ever shown it"
    return f"it was last seen by {_told(last)}"


def _told(operation: Operation) -> str:
    what = f"{operation.kind} of {operation.value}" if operation.value else operation.kind
    return f"{operation.client}'s {what} (#{operation.number}, {operation.began:.3f} s)"


def _author(history: History, value: int) -> str:
    author = history.of_value(value)
    return f"{value}, which nobody wrote," if author is None else _told(author)


def _dots(history: History, value: int) -> str:
    return ", ".join(map(_dot, history.sightings.dots_of(value)))


def _dot(dot: tuple[bytes, int]) -> str:
    return f"{dot[0].hex()}:{dot[1]}"


def _shown(found: tuple[int, ...]) -> str:
    return f"the values {', '.join(map(str, found))}" if found else "the values (there are none)"


def _held(packed: bytes) -> str:
    if not packed:
        return "nothing"
    record = Record.unpack(packed)
    held = ", ".join(str(values.decode(sibling.value)) for sibling in record.siblings) or "no value"
    return f"{held} | {record.context!r}"
