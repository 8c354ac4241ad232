"""Records, contexts and minting together, against whole causal histories.

The model knows for every write the full set of writes that its author had read, and for every replica and
every context ever handed out the full set of writes behind it. Replicas get, put, delete, merge, receive old
messages late, forget their copies and notes, restart, and fail in the middle of a commit; contexts of any age
come back at any time, and writes are done again where nobody knows of them. What dyno keeps in a few dots
must agree with the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality.context import Context
from dyno.causality.dots import Dot, dot_of_request
from dyno.causality.mint import Minter, Note
from dyno.causality.record import Record, put_context

REPLICAS = 3
Writes = frozenset[int]
NONE: Writes = frozenset()


@dataclass(frozen=True)
class Read:
    """A context that some client holds, and every write that it had read by then."""

    context: Context = Context.EMPTY
    writes: Writes = NONE


@dataclass(frozen=True)
class Copy:
    """A record, and its whole history: every write that took part in it, and those that were overwritten."""

    record: Record = Record.EMPTY
    seen: Writes = NONE
    gone: Writes = NONE

    def merge(self, other: Copy) -> Copy:
        return Copy(self.record.merge(other.record), self.seen | other.seen, self.gone | other.gone)


@dataclass
class Replica:
    minter: Minter
    copy: Copy = field(default_factory=Copy)
    note: Note | None = None


class World:
    """One key on a few replicas."""

    def __init__(self) -> None:
        self.starts = 0
        self.replicas = [Replica(Minter(self.new_start())) for _ in range(REPLICAS)]
        self.reads = [Read()]  # a write with the first one is blind
        self.messages = [Copy()]
        self.dots: dict[Dot, int] = {}
        self.authors: list[Read] = []  # what the author of each write had read
        self.twice: dict[int, None] = {}  # writes that were done again

    def new_start(self) -> bytes:
        self.starts += 1
        return self.starts.to_bytes(8, "big")

    # What may happen. `at` and `to` choose replicas; `choice` chooses a context or a message of any age.

    def get(self, at: int, to: int, choice: int) -> None:
        copy = self.replicas[at].copy
        self.reads.append(Read(copy.record.context, copy.seen))

    def put(self, at: int, to: int, choice: int) -> None:
        replica, read = self.replicas[at], self.chosen_read(choice)
        before = replica.copy.record.context
        replica.copy, replica.note, dot = self.written(replica, read)
        handed_back = put_context(read.context, before, dot)
        self.reads.append(Read(handed_back, read.writes | {self.dots[dot]}))

    def put_and_replicate(self, at: int, to: int, choice: int) -> None:
        self.put(at, to, choice)
        self.merge(to, at, choice)

    def put_whose_commit_fails(self, at: int, to: int, choice: int) -> None:
        """The write reached another replica; the coordinator itself is as before, under a new start id."""
        replica = self.replicas[at]
        sent, _, _ = self.written(replica, self.chosen_read(choice))
        if to != at:
            self.replicas[to].copy = self.replicas[to].copy.merge(sent)
        replica.minter.restart(self.new_start())

    def put_again(self, at: int, to: int, choice: int) -> None:
        """A write that this replica never heard of is sent again."""
        write = choice % max(len(self.authors), 1)
        replica = self.replicas[at]
        if write >= len(self.authors) or write in replica.copy.seen:
            return
        read, old, value = self.authors[write], replica.copy, write.to_bytes(16, "big")
        dot = dot_of_request(value)
        self.dots[dot] = write
        self.twice[write] = None
        record = old.record.write(read.context, dot, value, value)
        replica.copy = Copy(record, old.seen | read.writes | {write}, old.gone | read.writes)

    def delete(self, at: int, to: int, choice: int) -> None:
        replica, read = self.replicas[at], self.chosen_read(choice)
        old = replica.copy
        replica.copy = Copy(old.record.delete(read.context), old.seen | read.writes, old.gone | read.writes)

    def merge(self, at: int, to: int, choice: int) -> None:
        self.replicas[at].copy = self.replicas[at].copy.merge(self.replicas[to].copy)

    def send(self, at: int, to: int, choice: int) -> None:
        self.messages.append(self.replicas[at].copy)

    def deliver(self, at: int, to: int, choice: int) -> None:
        self.replicas[at].copy = self.replicas[at].copy.merge(self.messages[choice % len(self.messages)])

    def forget_copy(self, at: int, to: int, choice: int) -> None:
        """One copy is lost, of several: another replica has it all. The note may go or stay."""
        if to != at:
            self.merge(to, at, choice)
            self.replicas[at].copy = Copy()
            self.replicas[at].note = self.replicas[at].note if choice % 2 else None

    def restart(self, at: int, to: int, choice: int) -> None:
        self.replicas[at].minter = Minter(self.new_start())

    def chosen_read(self, choice: int) -> Read:
        return self.reads[choice % len(self.reads)]

    def written(self, replica: Replica, read: Read) -> tuple[Copy, Note, Dot]:
        old = replica.copy
        dot, note = replica.minter.mint(old.record.context.union(read.context), replica.note)
        assert dot not in self.dots, "a dot was issued twice"
        write = self.dots[dot] = len(self.authors)
        self.authors.append(read)
        value = write.to_bytes(16, "big")
        record = old.record.write(read.context, dot, value, value)
        assert live(record) - {write} == live(old.record) - {
            self.dots[sibling.dot]
            for sibling in old.record.siblings
            if read.context.covers(sibling.dot) or read.context.knows(sibling.request)
        }, "a put drops exactly the values that its context covers"
        return Copy(record, old.seen | read.writes | {write}, old.gone | read.writes), note, dot

    # What must hold.

    def check_always(self) -> None:
        for replica in self.replicas:
            record, seen, gone = replica.copy.record, replica.copy.seen, replica.copy.gone
            assert live(record) >= seen - gone, "a value was lost that no author of an overwrite had read"
            assert live(record) <= seen
            assert len(live(record)) == len({sibling.request for sibling in record.siblings})
            assert self.covered(record.context) <= seen
            assert Record.unpack(record.pack()) == record
        for read in self.reads[-2:]:
            assert self.covered(read.context) <= read.writes, "a context covers what its holder has not read"

    def check_at_the_end(self) -> None:
        copies = [replica.copy for replica in self.replicas] + self.messages
        forward, backward = Copy(), Copy()
        for copy in copies:
            forward = forward.merge(copy)
        for copy in reversed(copies):
            backward = copy.merge(backward)
        assert forward.record.pack() == backward.record.pack()
        assert live(forward.record) >= forward.seen - forward.gone, "lost"
        # What was overwritten as it was done first is known as that by who stored it then alone.
        assert live(forward.record) - forward.seen.difference(forward.gone) <= {*self.twice}, "kept"

    def covered(self, context: Context) -> set[int]:
        return {write for dot, write in self.dots.items() if context.covers(dot)}


def live(record: Record) -> set[int]:
    return {int.from_bytes(sibling.value, "big") for sibling in record.siblings}


STEPS = [
    World.get,
    World.get,
    World.put,
    World.put,
    World.put_and_replicate,
    World.put_and_replicate,
    World.put_whose_commit_fails,
    World.put_again,
    World.delete,
    World.merge,
    World.send,
    World.deliver,
    World.forget_copy,
    World.restart,
]
replicas = st.integers(0, REPLICAS - 1)


@given(st.lists(st.tuples(st.sampled_from(STEPS), replicas, replicas, st.integers(0, 40)), max_size=20))
@settings(deadline=None, max_examples=200)
def test_records_agree_with_whole_histories(history):
    world = World()
    for step, at, to, choice in history:
        step(world, at, to, choice)
        world.check_always()
    world.check_at_the_end()


@pytest.mark.parametrize("seed", range(100))
def test_records_agree_with_long_histories(seed: int):
    random = Random(seed)
    world = World()
    for _ in range(100):
        at, to = random.randrange(REPLICAS), random.randrange(REPLICAS)
        random.choice(STEPS)(world, at, to, random.randrange(1000))
        world.check_always()
    world.check_at_the_end()
