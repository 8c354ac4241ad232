"""From an engine and the user's words to a node."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dyno.config import Config
from dyno.errors import ConfigurationError
from dyno.protocol.birth import Birth, node_on
from dyno.protocol.node import Node
from dyno.protocol.outbox import Outbox
from dyno.storage.memory import MemoryEngine

WORDS = Birth("n1", "n1:1", "zone", 2.0, 16, ())


def started(engine: MemoryEngine, birth: Birth = WORDS, seed: int = 1) -> Node:
    node = node_on(engine, birth, config=Config(), random=Random(seed))
    out = Outbox()
    node.start(0.0, out)
    batch = node.take_batch()
    if batch is not None:
        engine.write_batch(batch.writes, batch.meta)
        node.committed(0.0, out)
    return node


def test_a_new_engine_gets_an_identity_that_stays() -> None:
    engine = MemoryEngine()
    first, second = started(engine).membership.me, started(engine, seed=2).membership.me
    assert (second.directory, second.seat) == (first.directory, first.seat)
    assert len(first.directory) == len(first.seat) == 16
    assert (first.name, first.zone, first.weight, first.address) == ("n1", "zone", 2.0, "n1:1")


def test_every_start_has_an_id_and_a_stamp_of_its_own() -> None:
    engine = MemoryEngine()
    first, second = started(engine).membership.me, started(engine, seed=2).membership.me
    assert second.start != first.start
    assert len(second.start) == 8
    assert second.stamp > first.stamp


def test_the_address_and_the_seeds_may_change() -> None:
    engine = MemoryEngine()
    started(engine)
    node = started(engine, WORDS._replace(address="elsewhere:2", seeds=("n9:1",)), seed=2)
    assert not node.joined  # somebody may live at the old address still
    node.tick(Config().probe_timeout_s, Outbox())
    node.tick(Config().probe_timeout_s, Outbox())
    assert node.joined
    assert node.membership.me.address == "elsewhere:2"


def test_the_number_of_partitions_is_the_clusters() -> None:
    engine = MemoryEngine()
    started(engine)
    assert started(engine, WORDS._replace(partitions=64), seed=2).membership.partitions == 16


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"name": "n2"}, "born with name 'n1', not 'n2'"),
        ({"zone": "b"}, "born with zone 'zone', not 'b'"),
        ({"weight": 1.0}, "born with weight '2.0', not '1.0'"),
    ],
)
def test_other_words_than_at_birth_are_refused(other: dict[str, Any], complaint: str) -> None:
    engine = MemoryEngine()
    started(engine)
    with pytest.raises(ConfigurationError, match=complaint):
        started(engine, WORDS._replace(**other))


def test_a_directory_that_never_finished_joining_needs_somebody_to_join() -> None:
    engine = MemoryEngine()
    node_on(engine, WORDS, config=Config(), random=Random(1))
    engine.write_batch({}, {"cluster": b"c" * 16})
    with pytest.raises(ConfigurationError, match="began to join a cluster and never finished"):
        started(engine)
    assert not started(engine, WORDS._replace(seeds=("n9:1",))).joined
