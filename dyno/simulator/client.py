"""A client on virtual time: what `dyno.client` is on real sockets, around the very same `session.Session`.

`get`, `put`, `get_many`, `keys`, `create_bucket` and the like let the simulation run until the call has
ended, and return or raise what it ended with. `begin_get` and the like return a `Pending` at once, so that
many calls can be under way; `wait` lets the simulation run until they all have ended.

In: the addresses of nodes, and calls. Out: results, exactly as users get them. Every call's begin and end
goes to the trace.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dyno.session.batch import GetBatch, PutBatch
from dyno.session.listing import Listing
from dyno.session.options import BucketOptions
from dyno.session.outbox import SessionOutbox
from dyno.session.repairing import Repairing, shown, told
from dyno.session.session import Session
from dyno.session.update import Update
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import Hello, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.session.batch import Batch
    from dyno.session.calls import Call
    from dyno.session.results import PutResult, Record
    from dyno.simulator.end import End
    from dyno.simulator.kernel import Kernel
    from dyno.simulator.network import Network
    from dyno.simulator.trace import Trace
    from dyno.wire.messages import Message

_PATIENCE_S: Final = 90_000.0  # longer than any timeout that a session takes


class Pending:
    """One call. what: for people. began, ended: seconds; ended is infinite while it is under way."""

    __slots__ = ("_error", "_result", "_update", "began", "ended", "what")

    def __init__(self, what: str, began: float, update: Update | None = None) -> None:
        self.what = what
        self.began = began
        self.ended = math.inf
        self._update = update
        self._result: Any = None
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.ended < math.inf

    @property
    def error(self) -> Exception | None:
        """What the call failed with, once it is done."""
        return self._error

    @property
    def outcome(self) -> Any:
        """What it returned, or the error that it failed with, which is not raised."""
        return self._result if self._error is None else self._error

    def result(self) -> Any:
        """What the call returns; raises what it raises. Only when done."""
        assert self.done, f"{self.what} has not ended"
        if self._error is not None:
            raise self._error
        return self._result


class Client:
    """machine: the name under which cables to it can be cut."""

    def __init__(
        self,
        machine: str,
        seeds: Sequence[str],
        *,
        timeout: float,
        kernel: Kernel,
        network: Network,
        trace: Trace,
    ) -> None:
        self.machine = machine
        self._kernel = kernel
        self._network = network
        self._trace = trace
        self._random: Random = kernel.random(machine)
        self._session = Session(seeds, random=self._random, timeout=timeout)
        self._out = SessionOutbox()
        self._buckets: dict[str, BucketOptions] = {}
        self._ends: dict[str, End | None] = {}  # by address; None while it is being dialled
        self._address_of: dict[End, str] = {}
        self._dials = 0
        self._dialled: dict[str, int] = {}
        self._wake_at = math.inf
        self._begin("open", self._session.open)

    @property
    def now(self) -> float:
        """The time on its clock, seconds."""
        return self._kernel.now

    # ── calls that let the simulation run ──

    def get(self, bucket: str, key: str | bytes, **options: Any) -> Record:
        return self.wait(self.begin_get(bucket, key, **options))[0]  # type: ignore[no-any-return]

    def get_many(self, bucket: str, keys: Sequence[str | bytes], **options: Any) -> dict[Any, Record]:
        return self.wait(self.begin_get_many(bucket, keys, **options))[0]  # type: ignore[no-any-return]

    def put_many(self, bucket: str, values: dict[Any, Any], **options: Any) -> dict[Any, PutResult]:
        return self.wait(self.begin_put_many(bucket, values, **options))[0]  # type: ignore[no-any-return]

    def put(self, bucket: str, key: str | bytes, value: Any, **options: Any) -> PutResult:
        return self.wait(self.begin_put(bucket, key, value, **options))[0]  # type: ignore[no-any-return]

    def delete(self, bucket: str, key: str | bytes, **options: Any) -> PutResult:
        return self.wait(self.begin_delete(bucket, key, **options))[0]  # type: ignore[no-any-return]

    def update(
        self, bucket: str, key: str | bytes, change: Callable[[list[Any]], Any], **options: Any
    ) -> Record:
        return self.wait(self.begin_update(bucket, key, change, **options))[0]  # type: ignore[no-any-return]

    def status(self, **options: Any) -> dict[str, Any]:
        return self.wait(self._begin("status", self._session.status, **options))[0]  # type: ignore[no-any-return]

    def create_bucket(self, name: str, **options: Any) -> dict[str, int | str]:
        return self.wait(self.begin_create_bucket(name, **options))[0]  # type: ignore[no-any-return]

    def buckets(self, **options: Any) -> dict[str, dict[str, int | str]]:
        return self.wait(self._begin("buckets", self._session.buckets, **options))[0]  # type: ignore[no-any-return]

    def keys(self, bucket: str, **options: Any) -> list[str | bytes]:
        """All of them, in the order in which a user's iteration gives them."""
        listing = Listing(self._session, self._bucket(bucket), **options)
        keys: list[str | bytes] = []
        while (call := listing.next_call(self._kernel.now, self._out)) is not None:
            self._settle()
            ended = self._kernel.run_until(partial(_has_ended, call), limit_s=_PATIENCE_S)
            assert ended, "a session ends every call at its timeout at the latest"
            keys += listing.take(call, self._kernel.now, self._out)
        self._note(f"keys {bucket}: {len(keys)} of them")
        return keys

    def repair(self, bucket: str | None = None, **options: Any) -> dict[str, Any]:
        """As `Client.repair`."""
        options = {"quarantine": False, "timeout": None} | options
        repairing = Repairing(self._session, bucket=bucket, now=self._kernel.now, **options)
        call: Call | None = repairing.start(self._kernel.now, self._out)
        while call is not None:
            self._settle()
            ended = self._kernel.run_until(partial(_has_ended, call), limit_s=_PATIENCE_S)
            assert ended, "a session ends every call at its timeout at the latest"
            call = repairing.step(call, self._kernel.now, self._out)
        self._settle()
        self._note(f"repair: {shown(repairing.progress)}")
        return repairing.progress

    def repairs(self, **options: Any) -> dict[str, Any]:
        """What nodes mended so far, as it is in `Client.status`."""
        return told(self.wait(self._begin("repairs", self._session.repair, b"", "", **options))[0])

    def wait(self, *pending: Pending) -> list[Any]:
        """Their results, in order; raises the first error among them."""
        ended = self._kernel.run_until(lambda: all(one.done for one in pending), limit_s=_PATIENCE_S)
        assert ended, "a session ends every call at its timeout at the latest"
        return [one.result() for one in pending]

    # ── calls that are only begun ──

    def begin_get(self, bucket: str, key: str | bytes, **options: Any) -> Pending:
        return self._begin(
            f"get {bucket}/{_shown(key)}", self._session.get, self._bucket(bucket), key, **options
        )

    def begin_get_many(self, bucket: str, keys: Sequence[str | bytes], **options: Any) -> Pending:
        now = self._kernel.now
        batch = GetBatch(self._session, self._bucket(bucket), keys, now=now, **options)
        return self._begin_batch(f"get_many {bucket}: {len(keys)} keys", batch)

    def begin_put_many(self, bucket: str, values: dict[Any, Any], **options: Any) -> Pending:
        batch = PutBatch(self._session, self._bucket(bucket), values, now=self._kernel.now, **options)
        return self._begin_batch(f"put_many {bucket}: {len(values)} keys", batch)

    def begin_put(self, bucket: str, key: str | bytes, value: Any, **options: Any) -> Pending:
        what = f"put {bucket}/{_shown(key)} {value!r:.40}"
        return self._begin(what, self._session.put, self._bucket(bucket), key, value, **options)

    def begin_delete(self, bucket: str, key: str | bytes, **options: Any) -> Pending:
        what = f"delete {bucket}/{_shown(key)}"
        return self._begin(what, self._session.delete, self._bucket(bucket), key, **options)

    def begin_update(
        self, bucket: str, key: str | bytes, change: Callable[[list[Any]], Any], **options: Any
    ) -> Pending:
        now = self._kernel.now
        update = Update(self._session, self._bucket(bucket), key, change, now=now, **options)
        pending = Pending(f"update {bucket}/{_shown(key)}", now, update)
        self._note(pending.what)
        update.start(now, self._out).waiter = pending
        self._settle()
        return pending

    def begin_create_bucket(self, name: str, **options: Any) -> Pending:
        return self._begin(f"create bucket {name} {options}", self._session.create_bucket, name, **options)

    def close(self) -> None:
        """End all calls and links."""
        self._session.close(self._kernel.now, self._out)
        self._settle()
        for address in list(self._ends):
            self._disconnect(address)
        self._wake_at = -math.inf  # whatever alarm is set rings in vain

    def _bucket(self, name: str) -> BucketOptions:
        if name not in self._buckets:
            self._buckets[name] = BucketOptions(name)
        return self._buckets[name]

    def _begin(self, what: str, verb: Callable[..., Call], *args: Any, **options: Any) -> Pending:
        """Whatever the verb raises was refused before anything happened, and is raised here."""
        pending = Pending(what, self._kernel.now)
        self._note(what)
        verb(*args, **options, now=self._kernel.now, out=self._out).waiter = pending
        self._settle()
        return pending

    def _begin_batch(self, what: str, batch: Batch) -> Pending:
        batch.waiter = pending = Pending(what, self._kernel.now)
        self._note(what)
        batch.go_on(self._kernel.now, self._out)
        self._settle()
        return pending

    # ── results ──

    def _finished(self, call: Call) -> None:
        pending: Pending | None = call.waiter
        if pending is None:
            return  # a page of keys: `keys` looks for itself
        if pending._update is None:
            self._end(pending, call.result, call.error)
            return
        try:
            following = pending._update.step(call, self._kernel.now, self._out)
        except Exception as error:  # noqa: BLE001 - of the user's own function too: it is handed to the caller
            self._end(pending, None, error)
            return
        if following is None:
            self._end(pending, pending._update.record, None)
        else:
            following.waiter = pending

    def _end(self, pending: Pending, result: Any, error: Exception | None) -> None:
        pending.ended = self._kernel.now
        pending._result, pending._error = result, error
        outcome = f"{type(error).__name__}: {error}" if error is not None else repr(result)
        self._note(f"{pending.what}: {outcome}")

    def _note(self, text: str) -> None:
        self._trace.note(self._kernel.now, self.machine, "", text)

    # ── links ──

    def _connect(self, address: str) -> None:
        self._dials += 1
        dial = self._dialled[address] = self._dials
        self._ends[address] = None

        def connected(end: End) -> None:
            if self._dialled.get(address) != dial:
                self._network.close(end, "given up")
                return
            self._ends[address] = end
            self._address_of[end] = address
            end.on_messages = self._first_messages
            end.on_closed = self._closed
            end.queue.append(self._session.hello())
            self._network.flush(end)

        def failed(reason: str) -> None:
            if self._dialled.get(address) == dial:
                self._down(address, reason)

        self._network.dial(self.machine, address, on_connected=connected, on_failed=failed)

    def _disconnect(self, address: str) -> None:
        self._dialled.pop(address, None)
        end = self._ends.pop(address, None)
        if end is not None:
            del self._address_of[end]
            self._network.close(end, "the client let go")

    def _first_messages(self, end: End, messages: Sequence[Message]) -> None:
        address = self._address_of[end]
        first, *rest = messages
        if isinstance(first, Hello):
            end.on_messages = self._answers
            self._session.link_up(address, first, self._kernel.now, self._out)
            self._settle()
            if rest and end.open:
                self._answers(end, rest)
        elif isinstance(first, Refuse):
            self._session.refused(address, first, self._kernel.now, self._out)
            self._settle()
        else:
            self._hang_up(end, "the first message was no hello")

    def _answers(self, end: End, messages: Sequence[Message]) -> None:
        address, now, handle, out = self._address_of[end], self._kernel.now, self._session.handle, self._out
        try:
            for message in messages:
                handle(address, message, now, out)
        except ProtocolError as error:
            self._hang_up(end, f"not understood: {error}")
        self._settle()

    def _hang_up(self, end: End, reason: str) -> None:
        self._network.close(end, reason)
        self._closed(end, reason)

    def _closed(self, end: End, reason: str) -> None:
        self._down(self._address_of.pop(end), reason)

    def _down(self, address: str, reason: str) -> None:
        del self._dialled[address], self._ends[address]
        self._session.link_down(address, reason, self._kernel.now, self._out)
        self._settle()

    # ── the end of a turn ──

    def _settle(self) -> None:
        out, now = self._out, self._kernel.now
        while out.disconnect or out.connect or out.sends or out.finished:
            disconnect, out.disconnect = out.disconnect, []
            for address in disconnect:
                self._disconnect(address)
            connect, out.connect = out.connect, []
            for address in connect:
                self._connect(address)
            self._send()
            finished, out.finished = out.finished, []
            for call in finished:
                self._finished(call)
        deadline = self._session.deadline()
        if deadline < self._wake_at:
            self._wake_at = deadline
            self._kernel.at(max(deadline, now), self._wake, deadline)

    def _send(self) -> None:
        sends, self._out.sends = self._out.sends, []
        dirty: dict[End, None] = {}
        for address, request in sends:
            end = self._ends.get(address)
            if end is not None:
                end.queue.append(request)
                dirty[end] = None
        for end in dirty:
            self._network.flush(end)

    def _wake(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = math.inf
            self._session.tick(self._kernel.now, self._out)
            self._settle()


def _has_ended(call: Call) -> bool:
    return call.result is not None or call.error is not None


def _shown(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")
