from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from dyno.cli.bench.loading import ATTEMPTS, KEYS_AT_ONCE, Loading
from dyno.errors import DynoError, InvalidRequest, Overloaded, QuorumNotMet, RequestTimeout
from dyno.workload.payload import Payload

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.cli.bench.conftest import Shelf

NAMES = [f"user{number}" for number in range(200)]
SIZE = 10


def loading(shelf: Shelf, *, keep_contexts: bool = True) -> Loading:
    return Loading(shelf, Payload(Random(1), SIZE), value_bytes=SIZE, keep_contexts=keep_contexts)


def size_of_all(shelf: Shelf) -> set[tuple[int, int]]:
    """How many values the keys have, and of what size."""
    found = [shelf.values_of(name) for name in NAMES]
    return {(len(values), len(value)) for values in found for value in values if isinstance(value, bytes)}


async def test_every_key_gets_a_value_many_at_once(shelf: Shelf, autojump_clock: MockClock) -> None:
    load = loading(shelf)
    await load.run(iter(NAMES))
    assert load.done == len(NAMES)
    assert size_of_all(shelf) == {(1, SIZE)}
    assert shelf.under_way_most == KEYS_AT_ONCE


async def test_what_it_knows_of_a_key_lets_a_write_replace_its_value(
    shelf: Shelf, autojump_clock: MockClock
) -> None:
    load = loading(shelf)
    shelf.fill("user7", b"of another", b"size")
    await load.run(iter(NAMES))
    assert sorted(load.contexts) == sorted(NAMES)
    for name in NAMES:
        await shelf.put(name, b"new", context=load.contexts[name])
        assert shelf.values_of(name) == [b"new"]


async def test_contexts_that_nobody_needs_are_not_kept(shelf: Shelf, autojump_clock: MockClock) -> None:
    load = loading(shelf, keep_contexts=False)
    await load.run(iter(NAMES))
    assert load.contexts == {}


async def test_what_an_earlier_run_left_is_only_read(shelf: Shelf, autojump_clock: MockClock) -> None:
    await loading(shelf).run(iter(NAMES))
    shelf.puts.clear()
    load = loading(shelf)
    await load.run(iter(NAMES))
    assert shelf.puts == []
    assert (load.done, len(load.contexts)) == (len(NAMES), len(NAMES))


async def test_what_does_not_fit_is_replaced(shelf: Shelf, autojump_clock: MockClock) -> None:
    await loading(shelf).run(iter(NAMES))
    shelf.puts.clear()
    shelf.fill("user1", b"a sibling!")
    shelf.records.pop("user2")
    shelf.records.pop("user3")
    shelf.fill("user3", "0123456789")  # of the right length, but text
    shelf.records.pop("user4")
    shelf.fill("user4", b"short")
    await loading(shelf).run(iter(NAMES))
    assert sorted(shelf.puts) == ["user1", "user2", "user3", "user4"]
    assert size_of_all(shelf) == {(1, SIZE)}


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("too much", retry_after=0.5),
        QuorumNotMet("one of two", needed=2, answered=1, nodes=("n1",), indeterminate=True),
        RequestTimeout("too late", needed=2, answered=1, nodes=("n1",), indeterminate=True),
    ],
)
async def test_what_fails_for_the_moment_is_repeated(
    shelf: Shelf, error: DynoError, autojump_clock: MockClock
) -> None:
    failures = Counter[str]()

    def objection(what: str, key: str) -> Exception | None:
        if what == "put" and failures[key] < ATTEMPTS - 1:
            failures[key] += 1
            return error
        return None

    shelf.objection = objection
    await loading(shelf).run(iter(NAMES))
    assert failures.total() == len(NAMES) * (ATTEMPTS - 1)
    assert size_of_all(shelf) == {(1, SIZE)}


async def test_what_goes_on_failing_ends_the_load(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.objection = lambda what, key: Overloaded("too much", retry_after=0.5)
    with pytest.raises(ExceptionGroup) as raised:
        await loading(shelf).run(iter(["user0"]))
    assert raised.group_contains(Overloaded)
    assert shelf.gets == ["user0"] * ATTEMPTS


async def test_what_cannot_help_is_not_repeated(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.objection = lambda what, key: InvalidRequest("never") if what == "put" else None
    with pytest.raises(ExceptionGroup) as raised:
        await loading(shelf).run(iter(["user0"]))
    assert raised.group_contains(InvalidRequest)
    assert shelf.puts == ["user0"]
