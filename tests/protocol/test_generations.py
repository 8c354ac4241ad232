"""How often a (partition, n) was reaped here: it only rises, and a restart knows it."""

from __future__ import annotations

from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.placement.hashing import slot_prefix
from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.generations import Generations
from dyno.protocol.identity import ROUNDS
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import GENERATIONS
from dyno.storage.memory import MemoryEngine

HEAD = slot_prefix(b"", 7, 3)
SLOT = slot_prefix(b"\1" * 8, 7, 3) + bytes(16)


def a_replica(engine: MemoryEngine) -> Replica:
    return Replica(engine=engine, minter=Minter(bytes(8)), config=Config())


def commit(replica: Replica, engine: MemoryEngine) -> None:
    batch = replica.take_batch()
    assert batch is not None
    engine.write_batch(batch.writes, batch.meta)
    replica.committed(0.0, Outbox())


def test_what_was_never_reaped_is_at_zero() -> None:
    assert Generations(a_replica(MemoryEngine())).of(SLOT) == 0


def test_a_number_rises_and_survives() -> None:
    engine = MemoryEngine()
    replica = a_replica(engine)
    generations = Generations(replica)
    batch = generations.rise(HEAD, 2)
    assert GENERATIONS + HEAD in batch.writes
    assert generations.of(SLOT) == 2
    generations.rise(HEAD, 1)  # doubled, or late
    assert generations.of(SLOT) == 2
    commit(replica, engine)
    assert Generations(a_replica(engine)).of(SLOT) == 2
    assert Generations(a_replica(engine)).of(slot_prefix(b"", 8, 3)) == 0


def test_a_damaged_number_is_none() -> None:
    engine = MemoryEngine()
    replica = a_replica(engine)
    Generations(replica).rise(HEAD, 2)
    commit(replica, engine)
    engine.corrupt(GENERATIONS + HEAD)
    assert Generations(a_replica(engine)).of(SLOT) == 0


def test_a_stamp_is_no_less_than_what_was_heard_in_greetings() -> None:
    engine = MemoryEngine()
    replica = a_replica(engine)
    generations = Generations(replica)
    generations.agree(HEAD, 9)
    for number in (5, 3):
        generations.learn(number)
        assert generations.stamp(slot_prefix(b"", 8, 3)) == 5
    assert (generations.stamp(SLOT), generations.of(SLOT), generations.highest) == (9, 0, 9)
    commit(replica, engine)
    again = Generations(a_replica(engine), remembered=engine.get_meta(ROUNDS) or b"")
    assert (again.stamp(slot_prefix(b"", 8, 3)), again.highest) == (5, 9)


def test_nonsense_leaves_room_for_rounds() -> None:
    generations = Generations(a_replica(MemoryEngine()))
    generations.learn((1 << 64) - 1)
    assert generations.stamp(SLOT) < NUMBER_MAX


def test_a_stamp_is_of_the_last_round_reaped_or_agreed_to() -> None:
    engine = MemoryEngine()
    replica = a_replica(engine)
    generations = Generations(replica)
    assert generations.stamp(SLOT) == 0
    generations.agree(HEAD, 3)
    generations.agree(HEAD, 2)  # another leader's, who did not know
    assert (generations.of(SLOT), generations.stamp(SLOT)) == (0, 3)
    generations.rise(HEAD, 4)
    assert (generations.of(SLOT), generations.stamp(SLOT)) == (4, 4)
    commit(replica, engine)
    again = Generations(a_replica(engine))
    assert (again.of(SLOT), again.stamp(SLOT)) == (4, 4)


def test_others_are_told_of_the_commit_with_a_promise() -> None:
    replica = a_replica(MemoryEngine())
    assert not Generations(replica).rise(HEAD, 1).own
    assert Generations(replica).agree(HEAD, 2).own
