from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import sqrt
from random import Random

import pytest

from dyno.workload.mixes import INSERT, MIXES, READ, RMW, UPDATE, Operation, Workload

DRAWS = 50_000


def workload(name: str, *, seed: int = 1, records: int = 1000, run: str = "r1") -> Workload:
    return Workload(MIXES[name], records=records, random=Random(seed), run=run)


def operations(of: Workload, *, acknowledging: bool = True) -> Iterator[Operation]:
    while True:
        operation = of.next()
        yield operation
        if operation.kind == INSERT and acknowledging:
            of.acknowledge(operation)


def test_the_mixes_are_ycsbs() -> None:
    assert {name: dict(mix.shares) for name, mix in MIXES.items()} == {
        "a": {READ: 0.5, UPDATE: 0.5},
        "b": {READ: 0.95, UPDATE: 0.05},
        "c": {READ: 1.0},
        "d": {READ: 0.95, INSERT: 0.05},
        "f": {READ: 0.5, RMW: 0.5},
    }
    assert [name for name, mix in MIXES.items() if mix.latest] == ["d"]
    assert MIXES["f"].kinds == (READ, RMW)


@pytest.mark.parametrize("name", MIXES)
def test_every_operation_has_its_share(name: str) -> None:
    drawn = Counter(operation.kind for operation in islice(operations(workload(name)), DRAWS))
    assert drawn.total() == DRAWS
    for kind, share in MIXES[name].shares:
        assert abs(drawn[kind] - DRAWS * share) <= 4 * sqrt(DRAWS * share * (1 - share))


@pytest.mark.parametrize("name", MIXES)
def test_the_same_seed_gives_the_same_operations(name: str) -> None:
    one, same, other = (islice(operations(workload(name, seed=seed)), 1000) for seed in (1, 1, 2))
    first = list(one)
    assert first == list(same)
    assert first != list(other)


def test_the_records_to_load_are_those_that_are_asked_for() -> None:
    for name in "abcf":
        keys = list(workload(name, records=50).keys_to_load())
        assert keys == [f"user{number}" for number in range(50)]
        asked = {operation.key for operation in islice(operations(workload(name, records=50)), 5000)}
        assert asked == set(keys)


def test_updates_and_reads_have_the_same_popular_keys() -> None:
    drawn = {READ: Counter[str](), UPDATE: Counter[str]()}
    for operation in islice(operations(workload("a")), DRAWS):
        drawn[operation.kind][operation.key] += 1
    (read, _), (updated, _) = (keys.most_common(1)[0] for keys in drawn.values())
    assert read == updated


def test_only_acknowledged_inserts_are_read_in_whatever_order_they_come() -> None:
    of, chance = workload("d", records=10), Random(4)
    keys = set(of.keys_to_load())
    under_way: list[Operation] = []
    inserted: set[str] = set()
    read_of_inserted = 0
    for _ in range(DRAWS):
        operation = of.next()
        if operation.kind == INSERT:
            assert operation.key not in inserted | keys
            inserted.add(operation.key)
            under_way.append(operation)
        else:
            assert operation.key in keys
            read_of_inserted += operation.key in inserted
        if under_way and chance.random() < 0.1:
            insert = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.7:  # the others failed, and are never heard of again
                of.acknowledge(insert)
                keys.add(insert.key)
    assert read_of_inserted > DRAWS / 2
    assert inserted - keys


def test_what_was_acknowledged_last_is_read_most() -> None:
    of = workload("d", records=100)
    inserts = (operation for operation in iter(of.next, None) if operation.kind == INSERT)
    first, second = islice(inserts, 2)
    of.acknowledge(second)
    of.acknowledge(first)
    reads = Counter(operation.key for operation in islice(operations(of, acknowledging=False), DRAWS))
    assert [key for key, _ in reads.most_common(3)] == [first.key, second.key, "user99"]


def test_another_run_inserts_other_keys() -> None:
    keys = [
        {
            operation.key
            for operation in islice(operations(workload("d", run=run)), 1000)
            if operation.kind == INSERT
        }
        for run in ("r1", "r2")
    ]
    assert not keys[0] & keys[1]
