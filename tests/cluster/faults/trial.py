"""One trial: a cluster of real processes under load, while things go wrong; then silence, and judgement.

    ├── load, while faults come and go ──┤ load only │ hints drained, all read │ stopped, disks read, checked

In: a seed, which decides what goes wrong and when and what users do, though not what the machine does in
between; how many nodes, for how long, which kinds of faults. Out: an `Outcome`: figures, and what the judges
of the simulator (dyno.simulator.checkers) have found. All processes, file systems and namespaces of a trial
are gone when `run` returns or raises, Ctrl-C included.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import trio

import dyno
from dyno.simulator import checkers
from dyno.simulator.checkers import Ending, Violation
from dyno.simulator.history import GET, History, Key, Operation
from dyno.simulator.load import User
from tests.cluster.faults import plan
from tests.cluster.faults.disks import look
from tests.cluster.faults.glimpse import rot
from tests.cluster.faults.grounds import LOSSY, NARROW, Grounds, Loopback, Namespaces, why_no_namespaces
from tests.cluster.faults.node import FaultyNode, sweep, why_no_disks
from tests.cluster.faults.users import Shell

USERS: Final = 8
CALLS_PER_S: Final = 120.0
TIMEOUT_S: Final = 4.0
KEYS: Final = 36
PLAIN, WIDE = "plain", "wide"  # the second keeps 5 copies, where there are nodes for that
READY_WITHIN_S: Final = 60.0
LOAD_AFTER_S: Final = 1.0
SETTLE_WITHIN_S: Final = 120.0
LOOK_EVERY_S: Final = 0.25
ROT_SHARE: Final = 3  # one of so many records on a disk


class Outcome(NamedTuple):
    """operations: how many calls about one key. acknowledged: writes among them. left_out: kinds of faults
    that this machine cannot have, and why. faults: how often each kind struck."""

    seed: int
    violations: list[Violation]
    operations: int
    acknowledged: int
    seconds: float
    faults: dict[str, int]
    starts: int
    left_out: dict[str, str]

    @property
    def lost(self) -> int:
        return sum(violation.checker == "lost" for violation in self.violations)


class Options(NamedTuple):
    """kinds: which faults are wanted; those that cannot be had are left out. loopback: even where there could
    be namespaces."""

    seed: int
    nodes: int = 5
    seconds: float = 20.0
    kinds: Sequence[str] = plan.KINDS
    loopback: bool = False


def run(options: Options, *, say: Callable[[str], object] = lambda text: None) -> Outcome:
    """say: told what happens, line by line."""
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dyno-faults-")))
        why_not = "only loopback was asked for" if options.loopback else why_no_namespaces()
        grounds: Grounds = Loopback(options.nodes) if why_not else Namespaces(options.nodes)
        stack.callback(grounds.close)
        no_disks = why_no_disks()
        if not no_disks:
            sweep()
        left_out = {
            kind: why_not or "the kernel has no netem"
            for kind in plan.NETWORK
            if kind in options.kinds and kind not in grounds.faults
        }
        if plan.FULL in options.kinds and no_disks:
            left_out[plan.FULL] = no_disks
        lifeline, keep = os.pipe()
        stack.callback(os.close, lifeline)
        stack.callback(os.close, keep)
        addresses = [grounds.address(number) for number in range(1, options.nodes + 1)]
        nodes: list[FaultyNode] = []
        for number, address in enumerate(addresses, 1):
            node = FaultyNode(
                f"n{number}",
                address=address,
                path=path,
                join=[other for other in addresses if other != address],
                words=grounds.words(number),
                lifeline=lifeline,
                own_disk=not no_disks,
                founds=number == 1,
            )
            stack.callback(node.close)
            nodes.append(node)
        kinds = [kind for kind in options.kinds if kind not in left_out]
        # What is taken down is taken down whole, however often somebody types Ctrl-C.
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        trial = _Trial(options, grounds, nodes, kinds, say)
        trio.run(_until_interrupted, trial.play)
        return trial.judge(left_out)


async def _until_interrupted(play: Callable[[], Awaitable[None]]) -> None:
    """Ctrl-C and SIGTERM end it in order, wherever they meet it: an exception that a signal raises in
    the middle of a client's or Trio's own steps would leave them half done. Raises KeyboardInterrupt then."""
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                nonlocal interrupted
                await anext(aiter(signals))
                interrupted = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            await play()
            nursery.cancel_scope.cancel()
    if interrupted:
        raise KeyboardInterrupt


class _Trial:
    def __init__(
        self,
        options: Options,
        grounds: Grounds,
        nodes: list[FaultyNode],
        kinds: Sequence[str],
        say: Callable[[str], object],
    ) -> None:
        self._options = options
        self._grounds = grounds
        self._nodes = nodes
        self._say = say
        self._faults = plan.draw(
            Random(f"{options.seed}/faults"), nodes=options.nodes, seconds=options.seconds, kinds=kinds
        )
        self._random = Random(f"{options.seed}/load")
        wide = min(5, options.nodes)
        self._copies = {PLAIN: min(3, options.nodes), WIDE: wide}
        self._keys = [Key(WIDE if number % 4 == 3 else PLAIN, f"k{number}") for number in range(KEYS)]
        self._violations: list[Violation] = []
        self._left: list[str] = []
        self._stopped: dict[str, bool] = {}  # nodes that are down on purpose, by name
        self._reads: dict[Key, Operation] = {}
        self._owners: dict[Key, tuple[str, ...]] = {}
        self._struck: list[plan.Fault] = []
        self._destroyed: dict[str, bool] = {}  # nodes whose disks were, by name
        self._since = 0.0
        self.history = History(cluster=b"", copies=self._copies)

    @property
    def _now(self) -> float:
        return trio.current_time() - self._since

    # ── the trial ──

    async def play(self) -> None:
        for node in self._nodes:
            node.start()
        async with trio.open_nursery() as nursery:
            self._since = trio.current_time()
            addresses = [node.address for node in self._nodes]
            await self._all_alive(READY_WITHIN_S)
            judge = await dyno.connect(*addresses, timeout=TIMEOUT_S).open()
            status = await judge.status()
            self.history.cluster = bytes.fromhex(status["cluster"])
            await judge.create_bucket(WIDE, n=5)
            self._say(
                f"{len(self._nodes)} nodes are up; {len(self._faults)} faults in {self._options.seconds:g} s"
            )
            nursery.start_soon(self._watch)
            users = []
            for number in range(1, USERS + 1):
                client = await dyno.connect(*addresses, timeout=TIMEOUT_S).open()
                shell: Any = Shell(
                    f"user{number}",
                    client,
                    nursery,
                    history=self.history,
                    random=self._random,
                    since=self._since,
                )
                users.append(User(shell, self.history, self._keys, self._random))
            began = trio.current_time()
            async with trio.open_nursery() as faults:
                for fault in self._faults:
                    faults.start_soon(self._suffer, fault, began)
                await self._load(users, self._options.seconds)
            self._say("all faults are over")
            await self._all_alive(SETTLE_WITHIN_S)
            await self._load(users, LOAD_AFTER_S)
            await self._settle(judge, users)
            nursery.cancel_scope.cancel()

    async def _load(self, users: list[User], seconds: float) -> None:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            await trio.sleep(self._random.expovariate(CALLS_PER_S))
            self._random.choice(users).act()

    async def _watch(self) -> None:
        """No node may end by itself."""
        while True:
            for node in self._nodes:
                obituary = "" if node.name in self._stopped else node.obituary()
                if obituary:
                    self._violations.append(Violation("ended", None, self._now, obituary))
                    self._stopped[node.name] = True
            await trio.sleep(LOOK_EVERY_S)

    # ── faults ──

    async def _suffer(self, fault: plan.Fault, began: float) -> None:
        await trio.sleep_until(began + fault.at)
        if fault.kind in plan.DESTRUCTIVE:
            if not await self._is_whole():
                self._say(f"{self._now:7.2f} s  no {fault.kind} yet: the last disk is not made up for")
                return
            self._destroyed[self._nodes[fault.nodes[0] - 1].name] = True
        self._struck.append(fault)
        self._say(f"{self._now:7.2f} s  {fault.kind} {' '.join(map(_named, fault.nodes))}")
        await trio.to_thread.run_sync(partial(self._strike, fault))
        await trio.sleep_until(began + fault.until)
        await trio.to_thread.run_sync(partial(self._mend, fault))
        self._say(f"{self._now:7.2f} s  {' '.join(map(_named, fault.nodes))} again without {fault.kind}")

    async def _is_whole(self) -> bool:
        """Whether those whose disks were destroyed hold all that they should again: a second holder of one
        write may not lose it before."""
        if not self._destroyed:
            return True
        try:
            async with dyno.connect(*[node.address for node in self._nodes], timeout=TIMEOUT_S) as client:
                explained = [await client.explain(key.bucket, key.key) for key in self._keys]
        except dyno.DynoError:
            return False
        theirs = [one for each in explained for one in each["replicas"] if one["node"] in self._destroyed]
        return all(
            one["reach"] == "heard" and not one["weak"] and one["copy"]["state"] != "corrupt"
            for one in theirs
        )

    def _strike(self, fault: plan.Fault) -> None:
        grounds, (first, *rest) = self._grounds, fault.nodes
        nodes = [self._nodes[number - 1] for number in fault.nodes]
        node = nodes[0]
        match fault.kind:
            case plan.KILL | plan.WIPE | plan.RESTORE | plan.ROT:
                self._stopped[node.name] = True
                node.kill()
                if fault.kind == plan.WIPE:
                    node.wipe()
                elif fault.kind == plan.ROT:
                    rot(node.directory, share=ROT_SHARE)
                elif fault.kind == plan.RESTORE and node.has_copy:
                    node.restore()
                else:
                    node.keep_copy()
            case plan.HALF:
                for node in nodes:
                    self._stopped[node.name] = True
                    node.kill()
            case plan.PAUSE:
                node.pause()
            case plan.FULL:
                node.fill()
            case plan.PART | plan.ISOLATE:
                for cable in plan.cables(fault, len(self._nodes)):
                    grounds.part(*cable)
            case plan.ONE_WAY:
                grounds.part_one_way(first, *rest)
            case plan.NARROW | plan.LOSSY:
                grounds.worsen(first, *rest, NARROW if fault.kind == plan.NARROW else LOSSY)

    def _mend(self, fault: plan.Fault) -> None:
        nodes = [self._nodes[number - 1] for number in fault.nodes]
        node = nodes[0]
        match fault.kind:
            case plan.KILL | plan.WIPE | plan.RESTORE | plan.ROT | plan.HALF:
                for node in nodes:
                    node.start()
                    self._stopped.pop(node.name, None)
            case plan.PAUSE:
                node.resume()
            case plan.FULL:
                node.free()
            case _:
                for cable in plan.cables(fault, len(self._nodes)):
                    self._grounds.mend(*cable)

    # ── the end ──

    async def _all_alive(self, within_s: float) -> None:
        """Every node sees every other alive."""
        with trio.move_on_after(within_s) as limit:
            for node in self._nodes:
                while not await self._sees_all_alive(node):
                    await trio.sleep(LOOK_EVERY_S)
        if limit.cancelled_caught:
            self._left.append(f"not every node sees all others alive {within_s:g} s later")

    async def _sees_all_alive(self, node: FaultyNode) -> bool:
        try:
            async with dyno.connect(node.address, timeout=2) as client:
                members = (await client.status())["members"]
        except dyno.DynoError:
            return False
        alive = [member["name"] for member in members if member["liveness"] == "alive"]
        return len(alive) == len(self._nodes)

    async def _settle(self, judge: dyno.Client, users: list[User]) -> None:
        with trio.move_on_after(SETTLE_WITHIN_S):
            while any(user.busy for user in users):
                await trio.sleep(LOOK_EVERY_S)
        try:
            await judge.hints_drained(timeout=SETTLE_WITHIN_S)
        except dyno.DynoError as error:
            self._left.append(f"hints are left: {error}")
        for key in self._keys:
            self._reads[key] = await self._read(judge, key)
        with trio.move_on_after(SETTLE_WITHIN_S) as limit:
            for key in self._keys:
                while not await self._is_settled(judge, key):
                    await trio.sleep(LOOK_EVERY_S)
        if limit.cancelled_caught:
            self._left.append(f"owners still differ, or are not complete, {SETTLE_WITHIN_S:g} s later")

    async def _is_settled(self, judge: dyno.Client, key: Key) -> bool:
        """All owners say that they hold the same; what the last reads found is being repaired meanwhile."""
        try:
            explained = await judge.explain(key.bucket, key.key)
        except dyno.DynoError:
            return False
        self._owners[key] = tuple(explained["primaries"])
        weak = any(replica["weak"] for replica in explained["replicas"])
        return bool(explained["agree"]) and not weak

    async def _read(self, judge: dyno.Client, key: Key) -> Operation:
        """From all owners; only the last attempt counts."""
        read = self.history.begin(
            "the judge", GET, key, now=self._now, quorum=self._copies[key.bucket], strict=True
        )
        until = trio.current_time() + SETTLE_WITHIN_S / 4
        while True:
            try:
                record = await judge.bucket(key.bucket).get(key.key, r="all", pr="all")
            except dyno.DynoError as error:
                read.fail(self._now, error)
                if trio.current_time() > until:
                    return read
                await trio.sleep(LOOK_EVERY_S)
            else:
                read.succeed(self._now, returned=record.context, answered=record.replicas.answered)
                read.siblings = tuple(record.siblings)
                self.history.sightings.unpacked(key, record._record(), where="the judge", now=self._now)
                return read

    def judge(self, left_out: dict[str, str]) -> Outcome:
        """Stop the nodes, look at their disks, and check everything."""
        for node in self._nodes:
            if node.running and (code := node.stop()):
                self._left.append(f"{node.name} stopped with exit code {code}")
        found = look({node.name: node.directory for node in self._nodes}, self._keys)
        self.history.note_acknowledged()
        ending = Ending(
            reads=self._reads,
            owners={key: self._owners.get(key, ()) for key in self._keys},
            copies=found.copies,
            left=(*self._left, *found.left),
            starts=sum(node.starts for node in self._nodes),
            holders_lost=1 if self._destroyed else 0,
        )
        operations = self.history.operations
        return Outcome(
            self._options.seed,
            [*self._violations, *checkers.check(self.history, ending)],
            len(operations),
            sum(one.writes and one.acknowledged for one in operations),
            self._options.seconds,
            plan.counted(self._struck),
            ending.starts,
            left_out,
        )


def _named(node: int) -> str:
    return f"n{node}" if node else "clients"
