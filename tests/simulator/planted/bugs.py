"""Bugs that real stores have had, to be planted into this one: the checkers must find each of them.

Every bug is a few functions of the product put in the place of others while `planted` lasts. The product's
code is never touched, and whoever leaves gets it back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter, Note
from dyno.causality.record import Record
from dyno.protocol import reaping, writes
from dyno.protocol.commits import Commits
from dyno.protocol.dead_entries import DeadEntries
from dyno.protocol.exchange import Exchange
from dyno.protocol.get import GetCoordinator
from dyno.protocol.group_commit import Batch
from dyno.protocol.handoff import Handoff
from dyno.protocol.hints import Hint, Hints
from dyno.protocol.outbox import Outbox
from dyno.protocol.peer_requests import PeerRequests
from dyno.protocol.put import PutCoordinator
from dyno.protocol.quarantine import Quarantine
from dyno.protocol.quorum import Tally
from dyno.protocol.recovery import Recovery
from dyno.protocol.replica import Replica
from dyno.protocol.replication import Replication
from dyno.protocol.requests_seen import RequestsSeen
from dyno.protocol.roster import Roster
from dyno.protocol.substitute import Substitute
from dyno.protocol.trees import Trees
from dyno.protocol.walks import Found, TreeWalk
from dyno.session.calls import Call
from dyno.simulator.scenario import Outcome
from dyno.storage.cell import unpack_cell
from dyno.wire.messages import STATUS_OK, Delete, HandOver, Put, Store, Stored
from tests.simulator.planted.handoff import HandoffTrial
from tests.simulator.planted.missed import MissedTrial
from tests.simulator.planted.reaped import ReapTrial
from tests.simulator.planted.rough import Outages, Rough
from tests.simulator.planted.setback import ProofTrial, SetbackTrial

BRIEF = Rough(seconds=5.0)  # for what goes wrong all the time
LATE = Rough(("partition", "oneway", "flapping", "latency", "loss"))  # what is on its way stays so for long
BROKEN = Rough(("reset", "oneway", "flapping", "crash", "pause"))  # what was asked is not answered

MAX_NUMBER = (1 << 64) - 1

Original = Callable[..., Any]


class Runs(Protocol):
    """A trial; one is equal to another with the same fields."""

    def run(self, seed: int) -> Outcome: ...


class Bug(NamedTuple):
    """what: the bug in a sentence. places: functions that take the place of others, given what they replace.
    checkers: any of these is to find it. trial: what is run."""

    name: str
    what: str
    checkers: tuple[str, ...]
    places: tuple[tuple[Any, str, Callable[[Original], Any]], ...]
    trial: Runs

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


def _always(result: Any) -> Callable[[Original], Any]:
    def make(original: Original) -> Any:
        def always(*args: Any, **options: Any) -> Any:
            return result

        return always

    return make


# ── acknowledgements ──


def _merge_and_say_it_is_there(original: Original) -> Any:
    def merge(self: Replica, *args: Any, **options: Any) -> Batch | None:
        original(self, *args, **options)
        return None

    return merge


def _count_own_copy_at_once(original: Original) -> Any:
    def copy(self: Replication, intent: Any, written: Any, *args: Any, **options: Any) -> None:
        waiters = [] if written.batch is None else written.batch.waiters
        before = len(waiters)
        original(self, intent, written, *args, **options)
        now, out = args[-2:]
        for waiter in waiters[before:]:
            waiter(STATUS_OK, now, out)
        del waiters[before:]

    return copy


def _count_replies(original: Original) -> Any:
    def did(self: Tally, node: str) -> None:
        self.yes.append(node)

    return did


def _hear_twice(original: Original) -> Any:
    def answer(self: Replication, node: str, message: Stored, now: float, out: Outbox) -> None:
        original(self, node, message, now, out)
        original(self, node, message, now, out)

    return answer


def _take_failure_for_success(original: Original) -> Any:
    def commit_failed(self: Replica, new_start: bytes, now: float, out: Outbox) -> None:
        for batch in (self._committing, self._gathering):
            if batch is not None:
                waiters, batch.waiters = batch.waiters, []
                copies, batch.copies = batch.copies, []
                out.replies += [(link, Stored(id, STATUS_OK, self.commit_number)) for link, id in copies]
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
            _, note, before = unpack_cell(cell)
            self._replica._store(
                message.slot, message.key, note, message.record, before=Record.unpack(before)
            )

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


# ── what disks lack, and what is reaped ──


def _trust_whoever_was_not_greeted(original: Original) -> Any:
    def is_weak(self: Recovery, slot: bytes) -> bool:
        ungreeted, self._ungreeted = self._ungreeted, {}
        weak: bool = original(self, slot)
        self._ungreeted = ungreeted
        return weak

    return is_weak


def _take_instead_of_merging(original: Original) -> Any:
    def take(self: Exchange, run: Any, slot: bytes, key: bytes, record: bytes, *args: Any) -> None:
        cell, _ = self._replica._newest(slot)
        if cell is None:
            original(self, run, slot, key, record, *args)
        else:
            _, note, before = unpack_cell(cell)
            self._replica._store(slot, key, note, record, before=Record.unpack(before))

    return take


def _reap_at_once(original: Original) -> Any:
    def older(self: DeadEntries, groups: Any, least_ms: int) -> Context:
        every: Context = original(self, groups, 0)
        return every

    return older


def _take_hints_of_any_age(original: Original) -> Any:
    def hand_over(self: PeerRequests, link: int, message: HandOver, now: float, out: Outbox) -> None:
        original(self, link, message._replace(generation=MAX_NUMBER), now, out)

    return hand_over


# ── trees ──


def _feed_what_is_new(original: Original) -> Any:
    def committed(self: Trees, writes: Any, before: Any, now: float) -> None:
        fed = {slot: cell for slot, cell in writes.items() if not before.get(slot)}
        original(self, fed, before, now)

    return committed


def _count_nothing(original: Original) -> Any:
    def init(self: Trees, *, empty: bool) -> None:
        original(self, empty=True)

    return init


def _drop_the_first_difference(original: Original) -> Any:
    def compare_leaves(self: TreeWalk, answer: Any) -> Found:
        found: Found = original(self, answer)
        return Found(found.wanted[1:], found.missing[1:])

    return compare_leaves


def _forget_patience(original: Original) -> Any:
    def note_trees(self: Exchange, run: Any, *args: Any) -> None:
        original(self, run, *args)
        self._patience[run.peer] = {}

    return note_trees


# ── hints ──


def _keep_without_waiting(original: Original) -> Any:
    def keep(self: Hints, *args: Any, **options: Any) -> Batch | None:
        original(self, *args, **options)
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
    # acknowledgements
    Bug(
        "ack-before-fsync",
        "A write is acknowledged when it is on its way to the disk.",
        ("lost", "strict"),
        ((Replica, "merge", _merge_and_say_it_is_there), (Replication, "copy", _count_own_copy_at_once)),
        Outages(),
    ),
    Bug(
        "answer-counted-twice",
        "A quorum counts replies, and each comes twice.",
        ("strict", "lost", "returned"),
        ((Tally, "did", _count_replies), (Replication, "answer", _hear_twice)),
        SetbackTrial(),
    ),
    Bug(
        "failed-commit-acknowledged",
        "Who waits for a commit that fails is told that it succeeded.",
        ("lost", "strict"),
        ((Replica, "commit_failed", _take_failure_for_success),),
        Outages("disk-full"),
    ),
    Bug(
        "kept-write-called-undone",
        "A quorum that was missed is reported as if nothing had been written.",
        ("refused",),
        ((PutCoordinator, "_fail", _call_it_undone),),
        BRIEF,
    ),
    # dots and contexts
    Bug(
        "reissued-dot",
        "Minting goes on where the note of an earlier process ends.",
        ("dots", "lost"),
        ((Minter, "mint", _go_on_after_a_restart),),
        Outages(),
    ),
    Bug(
        "failed-commit-forgotten",
        "After a failed commit minting goes on as if nothing had left the node.",
        ("dots", "lost"),
        ((Minter, "restart", _always(None)),),
        Outages("disk-full"),
    ),
    Bug(
        "context-covers-too-much",
        "A put hands back the record's whole context.",
        ("lost",),
        ((writes, "put_context", _hand_back_all),),
        BRIEF,
    ),
    # records
    Bug(
        "put-drops-siblings",
        "A put replaces what its author has not read.",
        ("lost",),
        ((Record, "write", _write_over_all),),
        BRIEF,
    ),
    Bug(
        "delete-covers-unread",
        "A delete removes what its author has not read.",
        ("lost",),
        ((Record, "delete", _delete_all),),
        BRIEF,
    ),
    Bug(
        "merge-drops-sibling",
        "Merging concurrent records keeps one sibling too few.",
        ("lost",),
        ((Record, "merge", _drop_a_sibling),),
        BRIEF,
    ),
    Bug(
        "repair-overwrites",
        "Read repair puts its record in the place of what is there.",
        ("lost", "strict"),
        ((PeerRequests, "_store", _repair_by_overwriting),),
        Outages(),
    ),
    Bug(
        "exchange-overwrites",
        "A node that compares its copies takes those of the other instead of merging them.",
        ("lost", "strict", "returned"),
        ((Exchange, "_take", _take_instead_of_merging),),
        Outages(),
    ),
    # reads, retries, membership
    Bug(
        "first-answer-wins",
        "A read answers with the first copy that it gets.",
        ("strict",),
        ((GetCoordinator, "_merged", _take_the_first),),
        SetbackTrial(),
    ),
    Bug(
        "absence-wins",
        "A read that meets an owner without the key finds nothing.",
        ("strict",),
        ((GetCoordinator, "_merged", _believe_absence),),
        SetbackTrial(),
    ),
    Bug(
        "put-sent-twice",
        "A session sends a write again whose fate it does not know, and the node writes it once more.",
        ("once", "siblings", "returned"),
        ((Call, "reads", _send_again),),
        BROKEN,
    ),
    Bug(
        "retry-done-again",
        "A write that is sent again is done again, though it is known.",
        ("once", "returned", "siblings"),
        (
            (Replica, "recall", _always(None)),
            (Substitute, "recall", _always(None)),
            (RequestsSeen, "dots", _always([])),
        ),
        BROKEN,
    ),
    Bug(
        "missed-refutation",
        "Who is suspected says nothing, and stays dead for the others.",
        ("settled", "drained"),
        ((Roster, "_refute", _always(None)),),
        BROKEN,
    ),
    # hints
    Bug(
        "lost-hint",
        "A fallback says that it keeps a hint, and keeps none.",
        ("lost", "strict", "settled"),
        ((Hints, "keep", _always(None)),),
        HandoffTrial(),
    ),
    Bug(
        "hint-counted-early",
        "A hint counts for a write before it is on the disk.",
        ("lost",),
        ((Hints, "keep", _keep_without_waiting),),
        Outages(),
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
    # what disks lack
    Bug(
        "weak-copy-counted",
        "A node that is not complete again yet is believed like any other.",
        ("strict",),
        ((Recovery, "is_weak", _always(False)),),
        SetbackTrial(wiped=True),
    ),
    Bug(
        "old-copy-not-told",
        "A node whose disk was set back is not told that others know of later commits.",
        ("strict", "returned", "lost"),
        ((Commits, "from_before", _always(0)),),
        SetbackTrial(),
    ),
    Bug(
        "unproven-copy-counted",
        "A node that has just started is believed before all others could tell it that its disk is old.",
        ("strict",),
        ((Recovery, "is_weak", _trust_whoever_was_not_greeted),),
        ProofTrial(),
    ),
    # trees
    Bug(
        "write-not-fed",
        "A write that replaces another is committed, and its tree is not told.",
        ("settled",),
        ((Trees, "committed", _feed_what_is_new),),
        MissedTrial(),
    ),
    Bug(
        "trees-believed-empty",
        "After a restart nothing is counted: the trees are taken for complete as they are.",
        ("settled",),
        ((Trees, "__init__", _count_nothing),),
        MissedTrial(),
    ),
    Bug(
        "unsure-forgotten",
        "A record is written over something that nobody has read, and its tree is not counted anew.",
        ("trees",),
        ((Trees, "_doubt", _always(None)),),
        MissedTrial(),
    ),
    Bug(
        "difference-dropped",
        "Of what differs in the leaves that were compared, one record is not moved.",
        ("settled",),
        ((TreeWalk, "_compare_leaves", _drop_the_first_difference),),
        MissedTrial(),
    ),
    Bug(
        "left-out-for-ever",
        "What passes for written just now is left out of exchanges, each time and for ever.",
        ("settled",),
        ((Trees, "is_recent", _always(True)), (Exchange, "_note_trees", _forget_patience)),
        MissedTrial(),
    ),
    # reaping
    Bug(
        "reaped-too-early",
        "Dead entries of contexts go as soon as all owners have them, whatever is on its way.",
        ("returned", "strict", "lost"),
        ((DeadEntries, "_older", _reap_at_once),),
        LATE,
    ),
    Bug(
        "reaped-despite-hints",
        "Nobody asks for hints when tombstones are reaped, nor for their age when they are handed over.",
        ("returned",),
        (
            (reaping, "what_is_held", _always("")),
            (PeerRequests, "_hand_over", _take_hints_of_any_age),
        ),
        ReapTrial(hints=True),
    ),
    Bug(
        "no-quarantine",
        "An old copy of a disk serves the values whose tombstones were reaped since.",
        ("returned",),
        ((Quarantine, "begin", _always(None)),),
        ReapTrial(hints=False),
    ),
)
BY_NAME = {bug.name: bug for bug in BUGS}
