"""Random users, random mishaps, several of them at once: no read is stale, and no listing misses a key.

Users get, get_many, put, put_many, put with `if_context` and delete, in buckets of n = 1, 3 and 5 that are
created meanwhile, while nodes are killed, stopped and restarted, links drop, cables are cut, ways are long
and disks are full or slow. `read_history` judges every read and every listing, not only those in the end, by
what was acknowledged before it began, and by what was overwritten, deleted or refused. In the end everybody
has been answered, and no node holds anything of a request any more.

Odd seeds have tiny limits, so that requests are refused for all reasons there are. Plants, bugs that only
these tests have, show that the judge finds what is wrong. As many seeds as so many seconds suffice for:

    python -m tests.protocol.stories.test_freshness FIRST_SEED SECONDS
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pytest

from dyno.config import Config
from dyno.errors import ConnectFailed, DynoError, StorageFailed
from dyno.simulator.client import Client, Pending
from dyno.simulator.simulation import Simulation
from dyno.storage.engine import Scanned
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import ALIVE
from tests.protocol.stories.read_history import History, Key, Written, may_be_done

Simulate = Callable[..., Simulation]

_BUCKETS = {"bucket": 3, "wide": 5, "one": 1}  # n
_KEYS = tuple(f"key {number}" for number in range(6))
_USERS = 6
_PHASES = 8


class Seen(NamedTuple):
    """What a user knows of a key: a context, and the values that it covers as far as the user read them."""

    context: bytes
    values: tuple[int, ...]


NOTHING = Seen(b"", ())


class User:
    """One call after the other. reads: options of every read."""

    def __init__(
        self, client: Client, history: History, random: Random, *, first_value: int, reads: dict[str, Any]
    ) -> None:
        self._client = client
        self._history = history
        self._random = random
        self._value = first_value
        self._reads = {"sloppy": False, **reads}  # what is fresh is promised of primaries alone
        self._seen: dict[Key, Seen] = {}
        self._pending: Pending | None = None
        self._ended: Callable[[Pending], None] = self._got

    def step(self) -> None:
        """Take in what has ended, and begin the next; nothing while a call is under way."""
        if self.rest():
            calls = [self._get, self._get_many, self._put, self._blind, self._put_if, self._delete]
            call = self._random.choices([*calls, self._put_many], [5, 5, 4, 1, 1, 1, 2])[0]
            self._key = (self._random.choice(list(_BUCKETS)), self._random.choice(_KEYS))
            call()

    def rest(self) -> bool:
        """Take in what has ended; False while a call is under way."""
        if self._pending is not None:
            if not self._pending.done:
                return False
            self._ended(self._pending)
            self._pending = None
        return True

    # ── reads ──

    def _get(self) -> None:
        self._ended = self._got
        self._pending = self._client.begin_get(*self._key, **self._reads)

    def _got(self, pending: Pending) -> None:
        self._history.count("get", pending.error)
        if pending.error is None:
            self._saw(self._key, pending.result(), pending)

    def _get_many(self) -> None:
        bucket = self._key[0]
        self._ended = partial(self._got_many, bucket)
        self._pending = self._client.begin_get_many(bucket, self._some_keys(0.8), **self._reads)

    def _got_many(self, bucket: str, pending: Pending) -> None:
        if pending.error is not None:
            assert isinstance(pending.error, ConnectFailed)
            return
        for key, record in pending.result().items():
            self._history.count("get of many", record.error)
            if record.error is None:
                self._saw((bucket, key), record, pending)

    def _saw(self, key: Key, record: Any, pending: Pending) -> None:
        self._history.check(key, record.siblings, pending.began)
        self._seen[key] = Seen(record.context, tuple(record.siblings))

    # ── writes ──

    def _put(self) -> None:
        self._begin_put("context", self._seen.get(self._key, NOTHING))

    def _blind(self) -> None:
        self._begin_put("context", NOTHING)

    def _put_if(self) -> None:
        self._begin_put("if_context", self._seen.get(self._key, NOTHING))

    def _begin_put(self, option: str, seen: Seen) -> None:
        written, context = self._writing(self._key, seen), {option: seen.context, "sloppy": False}
        self._ended = partial(self._put_ended, written)
        self._pending = self._client.begin_put(*self._key, written.value, **context)  # type: ignore[arg-type]

    def _put_ended(self, written: Written, pending: Pending) -> None:
        self._wrote(written, pending, pending.error, pending.error is None and pending.result())

    def _delete(self) -> None:
        seen = self._seen.get(self._key, NOTHING)
        if not seen.context:
            self._get()
            return
        written = Written(self._key, 0, seen.values)
        self._history.begin(written)
        self._ended = partial(self._put_ended, written)
        self._pending = self._client.begin_delete(*self._key, context=seen.context, sloppy=False)

    def _put_many(self) -> None:
        bucket, contexts, writing = self._key[0], {}, {}
        for key in self._some_keys(0.5):
            seen = self._seen.get((bucket, key), NOTHING)
            writing[key] = self._writing((bucket, key), seen)
            if seen.context:
                contexts[key] = seen.context
        self._ended = partial(self._put_many_ended, writing)
        values = {key: written.value for key, written in writing.items()}
        self._pending = self._client.begin_put_many(bucket, values, contexts=contexts, sloppy=False)

    def _put_many_ended(self, writing: dict[str, Written], pending: Pending) -> None:
        if pending.error is not None:
            assert isinstance(pending.error, ConnectFailed)  # so each of them may be done, for all we know
            return
        for key, result in pending.result().items():
            self._wrote(writing[key], pending, result.error, result)

    def _writing(self, key: Key, seen: Seen) -> Written:
        self._value += 1
        written = Written(key, self._value, seen.values)
        self._history.begin(written)
        return written

    def _wrote(self, written: Written, pending: Pending, error: Exception | None, result: Any) -> None:
        self._history.end(written, error, pending.ended)
        if error is not None:
            self._seen.pop(written.key, None)
        elif written.value:
            self._seen[written.key] = Seen(result.context, (*written.read, written.value))

    def _some_keys(self, chance: float) -> list[str]:
        return [key for key in _KEYS if self._random.random() < chance] or [_KEYS[0]]


class Mishaps:
    """Whatever goes wrong stays so until the dice put it right, or `mend` does."""

    _KINDS = (
        *("kill", "kill", "start", "start", "start", "stop", "drop", "drop", "cut", "one way"),
        *("isolate", "heal", "heal", "full", "slow", "far", "far"),
    )

    def __init__(self, sim: Simulation, random: Random) -> None:
        self._sim = sim
        self._random = random
        self._usual_s = random.choice([(0.0001, 0.001), (0.001, 0.02)])

    def next(self) -> None:
        sim, random = self._sim, self._random
        one, other = random.sample(list(sim.machines), 2)
        machine = sim.machines[one]
        match random.choice(self._KINDS):
            case "kill" if machine.running:
                sim.kill(one)
            case "stop" if machine.running:
                machine.stop()
            case "start":
                self._start(limit=1)
            case "drop":
                sim.drop_links(one, other)
            case "cut":
                sim.cut(one, other)
            case "one way":
                sim.cut_one_way(one, other)
            case "isolate":
                sim.isolate(one)
            case "heal":
                sim.heal_all()
            case "full":
                machine.engine.full = not machine.engine.full
            case "slow":
                machine.commit_s = random.choice([(0.0005, 0.004), (0.05, 0.3), (0.01, 1.0)])
            case "far":
                sim.set_latency(one, other, random.choice([self._usual_s, (0.02, 0.2), (0.1, 0.9)]))
        if not any(machine.running for machine in sim.machines.values()):
            self.mend()

    def mend(self) -> None:
        sim, names = self._sim, list(self._sim.machines)
        sim.heal_all()
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                sim.set_latency(one, other, self._usual_s)
        for machine in sim.machines.values():
            machine.engine.full = False
            machine.commit_s = (0.0005, 0.004)
        for machine in sim.machines.values():
            if machine.running and machine.node._coordinator._stopping:
                assert sim.run_until(lambda machine=machine: not machine.running, limit_s=30)  # type: ignore[misc]
        self._start(limit=len(names))

    def _start(self, *, limit: int) -> None:
        down = [name for name, machine in self._sim.machines.items() if not machine.running]
        for name in down[:limit]:
            self._sim.restart(name)


class World:
    """The users, the mishaps, and somebody who creates buckets and lists keys."""

    def __init__(self, sim: Simulation, random: Random, history: History, reads: dict[str, Any]) -> None:
        self._sim = sim
        self._random = random
        self._history = history
        self._mishaps = Mishaps(sim, random)
        self._client = sim.client(*sim.machines)
        self._created: list[Pending] = []
        self._users = [
            User(
                sim.client(*sim.machines, timeout=3),
                history,
                random,
                first_value=number * 1_000_000,
                reads=reads,
            )
            for number in range(1, _USERS + 1)
        ]

    def run(self) -> None:
        random = self._random
        for bucket, n in _BUCKETS.items():
            if n != 3 and random.random() < 0.8:
                self._created.append(self._client.begin_create_bucket(bucket, n=n))
            self._steps(random.randrange(3), pause_s=0.003)
        for _ in range(_PHASES):
            for _ in range(random.randrange(1, 4)):
                self._mishaps.next()
            self._steps(random.randrange(20, 120), pause_s=0.01)
            if random.random() < 0.5:
                self._list(random.choice(list(_BUCKETS)))
            if random.random() < 0.3:
                self._mishaps.mend()
        self._end()

    def _steps(self, count: int, *, pause_s: float) -> None:
        for _ in range(count):
            self._sim.run_for(self._random.expovariate(1 / pause_s))
            for user in self._users:
                user.step()

    def _list(self, bucket: str) -> None:
        began = self._sim.now
        try:
            keys = self._client.keys(bucket, timeout=5)
        except DynoError as error:
            self._history.count("keys", error)
        else:
            self._history.count("keys", None)
            self._history.check_listing(bucket, keys, began)

    def _end(self) -> None:
        """All is well again, and stays so."""
        sim = self._sim
        self._mishaps.mend()
        assert sim.run_until(self._is_well, limit_s=120)
        sim.run_for(20)
        assert sim.run_until(self._is_well, limit_s=120)
        assert all(user.rest() for user in self._users)
        assert all(pending.done for pending in self._created)
        self._check_idle()
        for bucket in _BUCKETS:
            found = {key: self._read_all(bucket, key) for key in _KEYS}
            listed = sorted(self._client.keys(bucket))
            missing = [key for key in _KEYS if found[key] and key not in listed]
            assert not missing, f"{missing} is not listed"
            assert listed == [key for key in _KEYS if found[key]]
        sim.run_for(5)
        self._check_idle()

    def _is_well(self) -> bool:
        tables = [machine.node.membership.table for machine in self._sim.machines.values()]
        return self._sim.agreed() and all(
            member.liveness == ALIVE for table in tables for member in table.members()
        )

    def _read_all(self, bucket: str, key: str) -> list[int]:
        began = self._sim.now
        found: list[int] = self._client.get(bucket, key, r="all").siblings
        self._history.check((bucket, key), found, began)
        return found

    def _check_idle(self) -> None:
        """Nobody asks for anything, so nothing of any request is left."""
        for machine in self._sim.machines.values():
            bulk, coordinator = machine.node._bulk_reads, machine.node._coordinator
            assert (bulk.pending, bulk.held_bytes, bulk.busy, coordinator.busy) == (0, 0, False, False)


def campaign(
    simulate: Simulate,
    seed: int,
    *,
    believes: Callable[[DynoError], bool] = may_be_done,
    disk: type[MemoryEngine] = MemoryEngine,
    **reads: Any,
) -> Counter[str]:
    """Gives how calls ended. The rest is for plants: what users believe, on which disks, how they read."""
    random = Random(seed)
    config = tiny(random) if seed % 2 else Config()
    sim = simulate(random.choice([3, 3, 4, 5, 5]), seed=seed, config=config)
    if disk is not MemoryEngine:
        put_in(sim, disk)
    history = History(believes)
    World(sim, random, history, reads).run()
    return history.counts


def tiny(random: Random) -> Config:
    """Limits that six users get to feel."""
    return Config(
        requests_max=random.choice([2, 12, 10_000]),
        read_bytes_max=random.choice([200, 2000, 1 << 26]),
        batch_count_max=random.choice([5, 50, 20_000]),
        batch_waiters_max=random.choice([5, 50_000]),
        listings_max=2,
        hedge_after_s=random.choice([0.01, 0.05]),
        get_timeout_s=random.choice([0.3, 2.0]),
        put_timeout_s=random.choice([0.4, 3.0]),
        write_delay_max_s=random.choice([0.02, 0.5]),
    )


@pytest.mark.parametrize("seed", range(16))
def test_no_read_is_stale_and_no_listing_misses_a_key(simulate: Simulate, seed: int) -> None:
    counts = campaign(simulate, seed)
    assert min(counts["write"], counts["get"], counts["get of many"]) > 5


# ── what is planted is found ──


class Forgetful(MemoryEngine):
    """One commit in twenty says that it was made, and was not."""

    def write_batch(self, writes: Any, meta: Any) -> int:
        return super().write_batch({} if self.commit_number % 20 == 19 else writes, meta)


class Shortsighted(MemoryEngine):
    """Every other record is not found by a scan."""

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        items, cursor = super().scan(start, end, limit=limit)
        return [item for item in items if item[0][-1] % 2], cursor


def put_in(sim: Simulation, disk: type[MemoryEngine]) -> None:
    """Every machine gets a disk of that kind, with what it knows of its cluster on it."""
    for name, machine in sim.machines.items():
        sim.kill(name)
        another = disk()
        another.write_batch({}, machine.engine._meta)
        machine.engine = another
        sim.restart(name)
        assert sim.run_until(sim.agreed, limit_s=60)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        ({"r": 1}, "is missing in"),  # a read does not meet the writes before it
        ({"disk": Forgetful}, "is missing in|contradict each other"),  # or a dot was minted twice
        ({"disk": Shortsighted}, "is not listed"),
        ({"believes": lambda error: False}, "said not to be done"),  # a client that is too sure
    ],
    ids=["reads of one copy", "forgetful disks", "shortsighted disks", "overconfident clients"],
)
def test_what_is_planted_is_found_within_a_few_seeds(
    simulate: Simulate, plant: dict[str, Any], found: str
) -> None:
    for seed in range(8):
        try:
            campaign(simulate, seed, **plant)
        except (AssertionError, StorageFailed) as error:
            assert re.search(found, str(error))
            return
    pytest.fail("nothing was found")


def main() -> None:
    seed, seconds = int(sys.argv[1]), float(sys.argv[2])
    began, counts, bad = time.monotonic(), Counter[str](), []
    first = seed
    while time.monotonic() < began + seconds:
        try:
            counts += campaign(_simulation, seed)
        except Exception:  # noqa: BLE001 - told, and the next seed may fail for another reason
            traceback.print_exc()
            bad.append(seed)
        seed += 1
    print(f"seeds {first} to {seed - 1}: {dict(sorted(counts.items()))}")
    if bad:
        sys.exit(f"seeds that failed: {bad}")


def _simulation(size: int, *, seed: int, config: Config) -> Simulation:
    sim = Simulation(seed, config=config)
    sim.add_cluster(size)
    return sim


if __name__ == "__main__":
    main()
