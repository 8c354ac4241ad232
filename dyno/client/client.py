"""`dyno.connect` and the asynchronous client, on Trio.

    async with dyno.connect("127.0.0.1:7101", "127.0.0.1:7102") as client:
        carts = client.bucket("carts")
        await carts.put("alice", {"milk": 1})

One client serves any number of tasks at once: what they ask in one turn of the loop travels together. It
finds the other nodes by itself, sends every request to a node that owns the key, reconnects when links
break, and repeats what can safely be repeated.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from trio import current_time
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from dyno.client.bucket import Bucket
from dyno.client.runner import BROKEN, Runner
from dyno.errors import DynoError, InvalidRequest
from dyno.session.drained import Drained
from dyno.session.options import BucketOptions
from dyno.session.repairing import Repairing
from dyno.session.repairing import told as told_of
from dyno.session.session import TIMEOUT_S, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from dyno.session.calls import Call
    from dyno.session.drained import Backlog


def connect(*addresses: str, timeout: float = TIMEOUT_S) -> Client:
    """A client of the cluster that these nodes belong to; use it with `async with`, or `open` and `aclose`.

    addresses: "host:port" of some nodes, at least one; any that can be reached will do. timeout: seconds, for
    opening and for every call that names none. Raises InvalidRequest for what can be no address or timeout.
    """
    return Client(addresses, timeout=timeout)


class Client:
    """A connection to a cluster; made by `connect`. Entering raises ConnectFailed if no node answers."""

    def __init__(self, addresses: tuple[str, ...], *, timeout: float) -> None:
        self._session = Session(addresses, random=random.Random(), timeout=timeout)
        self._runner: Runner | None = None
        self._unusable = "this client is not open; use 'async with dyno.connect(...)', or await its open()"
        self._broken_by: BaseException | None = None

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        return await self.open()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @enable_ki_protection
    async def open(self) -> Self:
        """Connect to one of the nodes at least. Returns the client itself. A client is opened once."""
        if self._runner is not None:
            raise InvalidRequest("this client was opened already; dyno.connect(...) makes another one")
        await checkpoint_if_cancelled()
        runner = self._runner = Runner(self._session, on_broken=self._broken)
        self._unusable = ""
        try:
            await runner.outcome(self._session.open(current_time(), runner.out))
        except BaseException:
            await self.aclose()
            raise
        return self

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close all links; calls that are under way in other tasks fail. Closing again does nothing."""
        self._unusable = "this client is closed; dyno.connect(...) makes another one"
        if self._runner is not None:
            await self._runner.close()

    def bucket(
        self,
        name: str,
        *,
        r: int | str | None = None,
        w: int | str | None = None,
        pr: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool = True,
    ) -> Bucket:
        """A handle to a bucket, which needs no creation. Quorums, timeout and sloppy are for its calls that
        name none."""
        return Bucket(self, BucketOptions(name, r=r, w=w, pr=pr, pw=pw, timeout=timeout, sloppy=sloppy))

    @enable_ki_protection
    async def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The cluster as one of its nodes sees it now, in the shape of `dyno status --json`."""
        runner = self.runner
        await checkpoint_if_cancelled()
        call = runner.session.status(timeout=timeout, now=current_time(), out=runner.out)
        status: dict[str, Any] = await runner.outcome(call)
        call = self.runner.session.repair(b"", "", timeout=timeout, now=current_time(), out=runner.out)
        return status | {"repairs": told_of(await runner.outcome(call))}

    @enable_ki_protection
    async def hints_drained(
        self, timeout: float | None = None, *, told: Callable[[Backlog], object] | None = None
    ) -> None:
        """Return once no hint waits for a living node: then what such nodes missed while they were away has
        been handed over to them. A living node that does not say which hints it keeps is waited for, too.

        timeout: seconds, after which RequestTimeout is raised; without one it takes as long as it takes.
        told: called with what still waits, as often as the cluster was asked."""
        runner = self.runner
        await checkpoint_if_cancelled()
        drained = Drained(runner.session, timeout=timeout, now=current_time())
        call: Call | None = drained.start(current_time(), runner.out)
        while call is not None:
            await self.runner.wait(call)  # asked for anew: the client may have been closed
            call = drained.step(call, current_time(), runner.out)
            if told is not None and drained.backlog:
                told(drained.backlog)

    @enable_ki_protection
    async def repair(
        self,
        bucket: str | None = None,
        *,
        quarantine: bool = False,
        timeout: float | None = None,
        told: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """Have all nodes compare their copies now, and repair what differs; return once that is done, in the
        shape of `dyno repair --json`. Its "done" is False where nodes could not be reached: "unreached" names
        them, and all others are repaired.

        bucket: no more than what is kept in as many copies as this one. quarantine: first merge back what
        nodes have set aside, which may bring back values that were deleted. timeout: seconds, after which
        RequestTimeout is raised; without one it takes as long as it takes. told: called with how far it is,
        in the same shape."""
        runner = self.runner
        await checkpoint_if_cancelled()
        now = current_time()
        repairing = Repairing(runner.session, bucket=bucket, quarantine=quarantine, timeout=timeout, now=now)
        call: Call | None = repairing.start(now, runner.out)
        while call is not None:
            await self.runner.wait(call)  # asked for anew: the client may have been closed
            call = repairing.step(call, current_time(), runner.out)
            if told is not None:
                told(repairing.progress)
        return repairing.progress

    @enable_ki_protection
    async def explain(self, bucket: str, key: str | bytes, *, timeout: float | None = None) -> dict[str, Any]:
        """What every node holds of a key, in the shape of `dyno explain --json`: for people and for tests.
        Values are decoded; docs/operating.md has the fields."""
        runner = self.runner
        await checkpoint_if_cancelled()
        call = runner.session.explain(bucket, key, timeout=timeout, now=current_time(), out=runner.out)
        explanation: dict[str, Any] = await runner.outcome(call)
        return explanation

    @enable_ki_protection
    async def create_bucket(
        self,
        name: str,
        *,
        n: int | None = None,
        r: int | str | None = None,
        w: int | str | None = None,
        kind: str = "siblings",
        timeout: float | None = None,
    ) -> dict[str, int | str]:
        """Create a bucket of n copies (3), whose calls default to r and w ("quorum"); gives its properties.

        n and kind never change. Creating one again with the same properties succeeds; with others, or one
        that holds data already, raises InvalidRequest. Every member has to agree: QuorumNotMet where one is
        out of reach; when it says `.indeterminate`, the bucket may be created all the same."""
        runner = self.runner
        await checkpoint_if_cancelled()
        call = runner.session.create_bucket(
            name, n=n, r=r, w=w, kind=kind, timeout=timeout, now=current_time(), out=runner.out
        )
        properties: dict[str, int | str] = await runner.outcome(call)
        return properties

    @enable_ki_protection
    async def buckets(self, *, timeout: float | None = None) -> dict[str, dict[str, int | str]]:
        """The properties ("n", "r", "w", "kind") of every bucket that was created, by name in order."""
        runner = self.runner
        await checkpoint_if_cancelled()
        call = runner.session.buckets(timeout=timeout, now=current_time(), out=runner.out)
        buckets: dict[str, dict[str, int | str]] = await runner.outcome(call)
        return buckets

    @property
    def runner(self) -> Runner:
        """For `Bucket`. Raises InvalidRequest unless the client is open, DynoError if it broke."""
        if self._unusable:
            raise InvalidRequest(self._unusable)
        if self._broken_by is not None:
            raise DynoError(f"{BROKEN}: {self._broken_by!r}") from self._broken_by
        assert self._runner is not None
        return self._runner

    def _broken(self, cause: BaseException) -> None:
        self._broken_by = cause
