"""Bugs that real stores have had, to be planted into this one: the checkers must find each of them.

Every bug is a few functions of the product put in the place of others while `planted` lasts. The product's
code is never touched, and whoever leaves gets it back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter, Note
from dyno.causality.record import Record
from dyno.protocol import writes
from dyno.protocol.get import GetCoordinator
from dyno.protocol.handoff import Handoff
from dyno.protocol.hints import Hint, Hints
from dyno.protocol.outbox import Outbox
from dyno.protocol.peer_requests import PeerRequests
from dyno.protocol.put import PutCoordinator
from dyno.protocol.quorum import Tally
from dyno.protocol.replica import Batch, Replica
from dyno.protocol.roster import Roster
from dyno.protocol.writes import Writes
from dyno.session.calls import Call
from dyno.simulator.faults import FAULTS
from dyno.simulator.trial import Trial
from dyno.storage.cell import unpack_cell
from dyno.wire.messages import STATUS_OK, Delete, Put, Store, Stored
from tests.simulator.planted.handoff import HandoffTrial

SECONDS = 30.0  # simulated, of load and faults: enough for most bugs

# Commits fail, are late, and are lost with their process.
DISKS = Trial(
    hours=SECONDS / 3600,
    faults=("crash", "power", "outage", "disk-full", "disk-readonly", "disk-slow", "disk-broken"),
)
# Repairs come late, after other writes.
LATE = Trial(hours=2 * SECONDS / 3600, faults=("partition", "latency", "flapping", "bandwidth", "disk-slow"))

Original = Callable[..., Any]


class Bug(NamedTuple):
    """what: the bug in a sentence. places: functions that take the place of others, given what they replace.
    checkers: any of these is to find it. trial: what is run."""

    name: str
    what: str
    checkers: tuple[str, ...]
    places: tuple[tuple[Any, str, Callable[[Original], Any]], ...]
    trial: Trial | HandoffTrial = Trial(hours=SECONDS / 3600, faults=FAULTS)

    @contextmanager
    def planted(self) -> Iterator[None]:
        originals = [(owner, name, vars(owner)[name]) for owner, name, _ in self.places]
        for owner, name, make in self.places:
            setattr(owner, name, make(vars(owner)[name]))
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)


# ── acknowledgements ──


def _merge_and_say_it_is_there(original: Original) -> Any:
    def merge(self: Replica, *args: Any, **options: Any) -> Batch | None:
        original(self, *args, **options)
        return None

    return merge


def _count_own_copy_at_once(original: Original) -> Any:
    def copy(self: Writes, intent: Any, written: Any, *args: Any, **options: Any) -> None:
        before = len(written.batch.waiters)
        original(self, intent, written, *args, **options)
        now, out = args[-2:]
        for waiter in written.batch.waiters[before:]:
            waiter(STATUS_OK, now, out)
        del written.batch.waiters[before:]

    return copy


def _count_replies(original: Original) -> Any:
    def did(self: Tally, node: str) -> None:
        self.yes.append(node)

    return did


def _hear_twice(original: Original) -> Any:
    def answer(self: Writes, node: str, message: Stored, now: float, out: Outbox) -> None:
        original(self, node, message, now, out)
        original(self, node, message, now, out)

    return answer


def _take_failure_for_success(original: Original) -> Any:
    def commit_failed(self: Replica, new_start: bytes, now: float, out: Outbox) -> None:
        for batch in (self._committing, self._gathering):
            if batch is not None:
                waiters, batch.waiters = batch.waiters, []
                for waiter in waiters:
                    waiter(STATUS_OK, now, out)
        original(self, new_start, now, out)

    return commit_failed


def _call_it_undone(original: Original) -> Any:
    def fail(self: PutCoordinator, out: Outbox, how: str) -> None:
        sink = self._sink

        class Denying:
            def done(self, *args: Any) -> None:
                sink.done(*args)

            def failed(self, failure: Any, out: Outbox) -> None:
                sink.failed(failure._replace(indeterminate=False), out)

        self._sink = Denying()
        original(self, out, how)

    return fail


# ── dots and contexts ──


def _go_on_after_a_restart(original: Original) -> Any:
    def mint(self: Minter, context: Context, note: Note | None) -> tuple[Dot, Note]:
        if note is None:
            made: tuple[Dot, Note] = original(self, context, note)
            return made
        present = actor(note.start, note.epoch)
        counter = max(note.counter, context.highest(present)) + 1
        return Dot(present, counter), Note(note.start, note.epoch, counter)

    return mint


def _keep_the_start(original: Original) -> Any:
    def restart(self: Minter, start: bytes) -> None:
        pass

    return restart


def _hand_back_all(original: Original) -> Any:
    def put_context(caller: Context, before: Context, dot: Dot) -> Context:
        return caller.union(before).add(dot)

    return put_context


# ── records ──


def _write_over_all(original: Original) -> Any:
    def write(self: Record, context: Context, dot: Dot, request: bytes, value: bytes) -> Record:
        written: Record = original(self, context.union(self.context), dot, request, value)
        return written

    return write


def _delete_all(original: Original) -> Any:
    def delete(self: Record, context: Context) -> Record:
        deleted: Record = original(self, self.context.union(context))
        return deleted

    return delete


def _drop_a_sibling(original: Original) -> Any:
    def merge(self: Record, other: Record) -> Record:
        merged: Record = original(self, other)
        if merged is self or merged is other or len(merged.siblings) < 2:
            return merged
        return Record(merged.siblings[:-1], merged.context)

    return merge


def _repair_by_overwriting(original: Original) -> Any:
    def store(self: PeerRequests, link: int, message: Store, now: float, out: Outbox) -> None:
        cell, _ = self._replica._newest(message.slot)
        if message.id or cell is None:
            original(self, link, message, now, out)
        else:
            self._replica._store(message.slot, message.key, unpack_cell(cell)[1], message.record)

    return store


# ── reads, retries, membership ──


def _take_the_first(original: Original) -> Any:
    def merged(self: GetCoordinator, out: Outbox) -> bytes | None:
        return next(iter(self._answers.values()))

    return merged


def _believe_absence(original: Original) -> Any:
    def merged(self: GetCoordinator, out: Outbox) -> bytes | None:
        if b"" in self._answers.values():
            return b""
        found: bytes | None = original(self, out)
        return found

    return merged


def _send_again(original: Any) -> Any:
    def reads(self: Call) -> bool:
        return isinstance(self.request, Put | Delete) or bool(original.fget(self))

    return property(reads)


def _say_nothing(original: Original) -> Any:
    def refute(self: Roster, *args: Any) -> None:
        pass

    return refute


# ── hints ──


def _keep_nothing(original: Original) -> Any:
    def keep(self: Hints, *args: Any, **options: Any) -> Batch | None:
        return None

    return keep


def _delete_what_changed(original: Original) -> Any:
    def delete(self: Hints, target: str, hint: Hint) -> Batch | None:
        present, _ = self._replica.newest(hint.row)
        return None if present is None else self._write(target, hint.row, present, None)

    return delete


def _delete_what_was_sent(original: Original) -> Any:
    def send(self: Handoff, walk: Any, hint: Hint, ring: int, now: float, out: Outbox) -> None:
        original(self, walk, hint, ring, now, out)
        if hint in walk.under_way.values():
            self._watch(walk, self._hints.delete(walk.target, hint))

    return send


BUGS = (
    Bug(
        "ack-before-fsync",
        "A write is acknowledged when it is on its way to the disk.",
        ("lost", "strict"),
        ((Replica, "merge", _merge_and_say_it_is_there), (Writes, "_copy", _count_own_copy_at_once)),
        DISKS,
    ),
    Bug(
        "answer-counted-twice",
        "A quorum counts replies, and each comes twice.",
        ("strict", "lost"),
        ((Tally, "did", _count_replies), (Writes, "answer", _hear_twice)),
    ),
    Bug(
        "failed-commit-acknowledged",
        "Who waits for a commit that fails is told that it succeeded.",
        ("lost", "strict"),
        ((Replica, "commit_failed", _take_failure_for_success),),
        DISKS,
    ),
    Bug(
        "kept-write-called-undone",
        "A quorum that was missed is reported as if nothing had been written.",
        ("refused",),
        ((PutCoordinator, "_fail", _call_it_undone),),
    ),
    Bug(
        "reissued-dot",
        "Minting goes on where the note of an earlier process ends.",
        ("dots", "lost"),
        ((Minter, "mint", _go_on_after_a_restart),),
        DISKS,
    ),
    Bug(
        "failed-commit-forgotten",
        "After a failed commit minting goes on as if nothing had left the node.",
        ("dots", "lost"),
        ((Minter, "restart", _keep_the_start),),
        DISKS,
    ),
    Bug(
        "context-covers-too-much",
        "A put hands back the record's whole context.",
        ("lost",),
        ((writes, "put_context", _hand_back_all),),
    ),
    Bug(
        "put-drops-siblings",
        "A put replaces what its author has not read.",
        ("lost",),
        ((Record, "write", _write_over_all),),
    ),
    Bug(
        "delete-covers-unread",
        "A delete removes what its author has not read.",
        ("lost",),
        ((Record, "delete", _delete_all),),
    ),
    Bug(
        "merge-drops-sibling",
        "Merging concurrent records keeps one sibling too few.",
        ("lost",),
        ((Record, "merge", _drop_a_sibling),),
    ),
    Bug(
        "repair-overwrites",
        "Read repair puts its record in the place of what is there.",
        ("lost", "strict"),
        ((PeerRequests, "_store", _repair_by_overwriting),),
        LATE,
    ),
    Bug(
        "first-answer-wins",
        "A read answers with the first copy that it gets.",
        ("strict",),
        ((GetCoordinator, "_merged", _take_the_first),),
    ),
    Bug(
        "absence-wins",
        "A read that meets an owner without the key finds nothing.",
        ("strict",),
        ((GetCoordinator, "_merged", _believe_absence),),
    ),
    Bug(
        "put-sent-twice",
        "A session sends a write again whose fate it does not know, and the node writes it once more.",
        ("once", "siblings", "returned"),
        ((Call, "reads", _send_again),),
    ),
    Bug(
        "lost-hint",
        "A fallback says that it keeps a hint, and keeps none.",
        ("lost", "strict", "settled"),
        ((Hints, "keep", _keep_nothing),),
        HandoffTrial(),
    ),
    Bug(
        "hint-deleted-after-change",
        "A hint is deleted when its target has it, although it changed since it was sent.",
        ("settled",),
        ((Hints, "delete", _delete_what_changed),),
        HandoffTrial(),
    ),
    Bug(
        "hint-not-awaited",
        "A hint is deleted when it was sent, before its target has it.",
        ("settled",),
        ((Handoff, "_send", _delete_what_was_sent),),
        HandoffTrial(dies=True),
    ),
    Bug(
        "missed-refutation",
        "Who is suspected says nothing, and stays dead for the others.",
        ("settled", "drained"),
        ((Roster, "_refute", _say_nothing),),
    ),
)
BY_NAME = {bug.name: bug for bug in BUGS}
