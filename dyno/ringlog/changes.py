"""What may become of a ring: changes, and the entry that follows when some are made.

    joining ──▶ normal ◀──▶ leaving ──▶ left          joining and normal may be put out at once (evicted)

A change says what is to be, not what to do: made twice it changes nothing the second time, so whoever
wished for one and does not know what became of it wishes again. One that cannot be made raises
`NotPossible` with a sentence for people. `follow` makes as many as it can, each on top of those before it:
several wishes share an entry.

The log keeps its own rows consistent, no more: who has to move which seat, and when a move is done, is for
those to say who wish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from dyno.buckets.properties import Properties
from dyno.ringlog.entry import COPYING, SEALED, Entry, Move, Row, digest, pack
from dyno.ringlog.numbers import after
from dyno.wire.members import JOINING, LEAVING, LEFT, NORMAL, STATE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE: Final = 2  # of a move: the successor has the seat
ABORTED: Final = 3  # the predecessor keeps it
LEFT_KEPT: Final = 100  # members that left are known by an entry, the latest

_PHASE_NAMES: Final = ("copying", "sealed", "done", "aborted")
_STATES_AFTER: Final = {JOINING: (NORMAL, LEFT), NORMAL: (LEAVING, LEFT), LEAVING: (NORMAL, LEFT), LEFT: ()}
_PHASES_AFTER: Final = {COPYING: (SEALED, DONE, ABORTED), SEALED: (DONE, ABORTED)}


class NotPossible(Exception):
    """This change cannot be made to the present ring."""


class Draft:
    """An entry while changes are made to it."""

    __slots__ = ("buckets", "cluster", "moves", "number", "rows")

    def __init__(
        self,
        number: int,
        rows: dict[str, Row],
        moves: dict[tuple[int, int, bytes], Move],
        buckets: dict[str, Properties],
        cluster: bytes,
    ) -> None:
        self.number = number
        self.cluster = cluster
        self.rows = rows
        self.moves = moves
        self.buckets = buckets

    def copy(self) -> Draft:
        return Draft(self.number, dict(self.rows), dict(self.moves), dict(self.buckets), self.cluster)

    def equals(self, other: Draft) -> bool:
        return (self.rows, self.moves, self.buckets) == (other.rows, other.moves, other.buckets)

    def holder(self, name: str, directory: bytes) -> Row:
        row = self.rows.get(name)
        if row is None or row.directory != directory:
            raise NotPossible(f"{name} is not in the ring, or has another directory by now")
        return row

    def become(self, row: Row, state: int) -> None:
        self.rows[row.name] = row._replace(state=state, since=self.number)

    def entry(self, *, before: bytes, forced: bool = False) -> Entry:
        """Sorted, and without those that left long ago."""
        needed = {move.predecessor: True for move in self.moves.values()}
        gone = [row for row in self.rows.values() if row.state == LEFT and row.directory not in needed]
        gone.sort(key=lambda row: (row.since, row.name))
        forgotten = {row.name: True for row in gone[: max(0, len(gone) - LEFT_KEPT)]}
        rows = tuple(row for name, row in sorted(self.rows.items()) if name not in forgotten)
        moves = tuple(move for _, move in sorted(self.moves.items()))
        buckets = tuple(sorted(self.buckets.items()))
        return Entry(self.number, before, forced, rows, moves, buckets, self.cluster)


class Join(NamedTuple):
    """A member comes in, or, with `replaces`, takes the seat of a member, who leaves (then seat, zone and
    weight are those of that one, whatever is given here)."""

    name: str
    directory: bytes
    seat: bytes
    zone: str
    weight: float
    replaces: str = ""

    def make(self, draft: Draft) -> None:
        held = draft.rows.get(self.name)
        if held is not None and held.state != LEFT:
            if held.directory != self.directory:
                raise NotPossible(f"the name {self.name} belongs to a member with another directory")
            return
        for row in draft.rows.values():
            if row.name != self.name and row.directory == self.directory:
                raise NotPossible(f"{row.name} has the directory of {self.name}")
        seat, zone, weight = self.seat, self.zone, self.weight
        if self.replaces:
            old = draft.rows.get(self.replaces)
            if old is None or old.state not in (NORMAL, LEAVING):
                raise NotPossible(f"{self.replaces} is no member that {self.name} could replace")
            if any(row.replaces == old.name and row.state != LEFT for row in draft.rows.values()):
                raise NotPossible(f"{old.name} is being replaced already")
            seat, zone, weight = old.seat, old.zone, old.weight
            if old.state != LEAVING:
                draft.become(old, LEAVING)
        elif any(row.seat == seat and row.state != LEFT for row in draft.rows.values()):
            raise NotPossible(f"the seat of {self.name} is taken")
        if held is not None and any(move.predecessor == held.directory for move in draft.moves.values()):
            raise NotPossible(f"seats are still moving away from where {self.name} was; wait for them")
        draft.rows[self.name] = Row(
            self.name, self.directory, seat, zone, weight, JOINING, draft.number, self.replaces
        )


class Become(NamedTuple):
    """A member changes its state. state: NORMAL, LEAVING or LEFT; the last one aborts moves towards it."""

    name: str
    directory: bytes
    state: int

    def make(self, draft: Draft) -> None:
        row = draft.holder(self.name, self.directory)
        if row.state == self.state:
            return
        if self.state not in _STATES_AFTER[row.state]:
            states = STATE_NAMES[row.state], STATE_NAMES[self.state]
            raise NotPossible(f"{self.name} is {states[0]} and cannot become {states[1]}")
        others = [r for r in draft.rows.values() if r.state in (NORMAL, LEAVING) and r.name != self.name]
        if self.state == LEFT and not others:
            raise NotPossible(f"{self.name} is the last member that can decide anything")
        draft.become(row, self.state)
        if self.state == LEFT:
            draft.moves = {key: m for key, m in draft.moves.items() if m.successor != self.directory}


class Renew(NamedTuple):
    """A member's directory has another id: it was wiped, or is an old copy. Its moves begin anew."""

    name: str
    former: bytes
    directory: bytes

    def make(self, draft: Draft) -> None:
        row = draft.rows.get(self.name)
        if row is not None and row.directory == self.directory:
            return
        row = draft.holder(self.name, self.former)
        if row.state == LEFT:
            raise NotPossible(f"{self.name} has left the ring")
        if any(other.directory == self.directory for other in draft.rows.values()):
            raise NotPossible(f"another member has the new directory of {self.name}")
        draft.rows[self.name] = row._replace(directory=self.directory)
        moves, draft.moves = draft.moves, {}
        for move in moves.values():
            if self.former in (move.predecessor, move.successor):
                ids = {self.former: self.directory}
                move = move._replace(  # noqa: PLW2901
                    predecessor=ids.get(move.predecessor, move.predecessor),
                    successor=ids.get(move.successor, move.successor),
                    phase=COPYING,
                    since=draft.number,
                )
            draft.moves[move.key] = move


class Reweigh(NamedTuple):
    """A member has another zone or weight."""

    name: str
    directory: bytes
    zone: str
    weight: float

    def make(self, draft: Draft) -> None:
        row = draft.holder(self.name, self.directory)
        draft.rows[self.name] = row._replace(zone=self.zone, weight=self.weight)


class Begin(NamedTuple):
    """Seats begin to move. moves: (partition, n, predecessor, successor) each, all of them or none."""

    moves: tuple[tuple[int, int, bytes, bytes], ...]

    def make(self, draft: Draft) -> None:
        present = {row.directory: row for row in draft.rows.values()}
        sources = {(move.partition, move.n, move.predecessor): True for move in draft.moves.values()}
        for partition, n, predecessor, successor in self.moves:
            move = Move(partition, n, predecessor, successor, COPYING, draft.number)
            held = draft.moves.get(move.key)
            if held is not None and held.predecessor == predecessor:
                continue
            target = present.get(successor)
            if (
                predecessor not in present
                or target is None
                or target.state == LEFT
                or predecessor == successor
            ):
                raise NotPossible(f"a seat of partition {partition} cannot move to or from who is not there")
            if held is not None or (partition, n, predecessor) in sources:
                raise NotPossible(f"that seat of partition {partition} (n={n}) is moving already")
            sources[partition, n, predecessor] = True
            draft.moves[move.key] = move


class Advance(NamedTuple):
    """Moves go on to a phase: SEALED, DONE or ABORTED. moves: (partition, n, successor, since) each, since
    being that of the move's row: a later move of the same seat is not meant."""

    moves: tuple[tuple[int, int, bytes, int], ...]
    phase: int

    def make(self, draft: Draft) -> None:
        for partition, n, successor, since in self.moves:
            move = draft.moves.get((partition, n, successor))
            if move is None or move.since != since:
                if self.phase == SEALED:
                    raise NotPossible(f"that seat of partition {partition} (n={n}) is not moving any more")
                continue  # it ended, in whatever way: the entries tell
            if move.phase == self.phase:
                continue
            if self.phase not in _PHASES_AFTER[move.phase]:
                text = f"{_PHASE_NAMES[move.phase]} and cannot become {_PHASE_NAMES[self.phase]}"
                raise NotPossible(f"a seat of partition {partition} (n={n}) is {text}")
            if self.phase == SEALED:
                draft.moves[move.key] = move._replace(phase=SEALED)
            else:
                del draft.moves[move.key]


class Create(NamedTuple):
    """A bucket is created."""

    bucket: str
    properties: Properties

    def make(self, draft: Draft) -> None:
        held = draft.buckets.get(self.bucket)
        if held is not None and held != self.properties:
            raise NotPossible(f"bucket {self.bucket!r} was created with {held}; that cannot be changed")
        draft.buckets[self.bucket] = self.properties


Change: TypeAlias = Join | Become | Renew | Reweigh | Begin | Advance | Create


def judge(base: Entry, changes: Iterable[Change]) -> bool:
    """Whether a ring is already as the changes would have it. Raises NotPossible."""
    before = _draft(base, after(base.number))
    draft = before.copy()
    for change in changes:
        change.make(draft)
    return draft.equals(before)


def follow(base: Entry, wishes: Iterable[Iterable[Change]]) -> Entry | None:
    """The entry that follows, with the changes of all those wishes that are possible, each as a whole; None
    where that is nothing new."""
    before = _draft(base, after(base.number))
    draft = before.copy()
    for changes in wishes:
        attempt = draft.copy()
        try:
            for change in changes:
                change.make(attempt)
        except NotPossible:
            continue
        draft = attempt
    return None if draft.equals(before) else draft.entry(before=digest(pack(base)))


def force(base: Entry, number: int, lost: Iterable[bytes], *, name: str, directory: bytes) -> Entry:
    """The entry in which the members with these directories have left, whatever they would say. name,
    directory: of the member that forces it: that one is in the ring afterwards, under this directory."""
    draft = _draft(base, number)
    mine = draft.rows[name]
    if mine.state not in (NORMAL, LEAVING):
        draft.become(mine, NORMAL)
    Renew(name, mine.directory, directory).make(draft)
    for gone in lost:
        for row in list(draft.rows.values()):
            if row.directory == gone and row.name != name:
                Become(row.name, gone, LEFT).make(draft)
    return draft.entry(before=digest(pack(base)), forced=True)


def _draft(base: Entry, number: int) -> Draft:
    rows = {row.name: row for row in base.rows}
    moves = {move.key: move for move in base.moves}
    return Draft(number, rows, moves, dict(base.buckets), base.cluster)
