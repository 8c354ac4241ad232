"""A handle to one bucket: get, put, delete, update and keys, with the quorums that its calls default to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio import current_time
from trio.lowlevel import checkpoint_if_cancelled, disable_ki_protection, enable_ki_protection

from dyno.client.keys import Keys
from dyno.session.batch import GetBatch, PutBatch
from dyno.session.listing import Listing
from dyno.session.update import Update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dyno.client.client import Client
    from dyno.session.calls import Call
    from dyno.session.options import BucketOptions
    from dyno.session.results import PutResult, Record


class Bucket:
    """Made by `Client.bucket`; cheap, and shared by as many tasks as you like.

    Keys are str or bytes of 1 to 1024 bytes; a str is its UTF-8. r and w are how many replicas must answer,
    pr and pw how many of those must be primaries: a number, or "one", "quorum" or "all". Others stand in for
    primaries that cannot be reached; with sloppy=False all that count are primaries. timeout: seconds.
    What is not given comes from the handle, then from the bucket, then from the defaults.

    All methods raise InvalidRequest, QuorumNotMet, RequestTimeout, Overloaded, StorageFailed, ConnectFailed.
    """

    def __init__(self, client: Client, options: BucketOptions) -> None:
        self._client = client
        self._options = options

    @property
    def name(self) -> str:
        return self._options.name

    def __repr__(self) -> str:
        return f"<dyno.Bucket {self.name!r}>"

    @enable_ki_protection
    async def get(
        self,
        key: str | bytes,
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
    ) -> Record:
        """Read a key. A missing one gives a record that does not exist."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        call = runner.session.get(
            self._options, key, r=r, pr=pr, timeout=timeout, sloppy=sloppy, now=current_time(), out=runner.out
        )
        record: Record = await runner.outcome(call)
        return record

    @enable_ki_protection
    async def get_many(
        self,
        keys: Iterable[str | bytes],
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
    ) -> dict[Any, Record]:
        """Read many keys at once: a dict with a record for each key, as the caller wrote it. The record of a
        key whose read failed has the reason in `.error`, and all its other attributes raise it. The call
        itself raises only InvalidRequest and ConnectFailed."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        now = current_time()
        batch = GetBatch(
            runner.session, self._options, keys, r=r, pr=pr, timeout=timeout, sloppy=sloppy, now=now
        )
        batch.go_on(now, runner.out)
        records: dict[Any, Record] = await runner.outcome(batch)
        return records

    @enable_ki_protection
    async def put(
        self,
        key: str | bytes,
        value: Any,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        if_context: bytes | None = None,
        sloppy: bool | None = None,
    ) -> PutResult:
        """Write a value in the place of what `context`, of a record or an earlier put, covers; without one it
        becomes a sibling of what is there. With if_context, only if the record is at exactly that context,
        else ConflictError. QuorumNotMet and RequestTimeout say in `.indeterminate` whether some replica may
        have kept the write."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        call = runner.session.put(
            self._options,
            key,
            value,
            w=w,
            pw=pw,
            timeout=timeout,
            context=context,
            if_context=if_context,
            sloppy=sloppy,
            now=current_time(),
            out=runner.out,
        )
        result: PutResult = await runner.outcome(call)
        return result

    @enable_ki_protection
    async def put_many(
        self,
        values: Mapping[Any, Any],
        *,
        contexts: Mapping[Any, bytes] | None = None,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
    ) -> dict[Any, PutResult]:
        """Write many keys at once, each as `put` does, with the context that `contexts` has for it, if any.
        Returns a dict with a result for each key; one that failed has the reason in `.error`, and all its
        other attributes raise it. It is no transaction: some may be written and others not. The call itself
        raises only InvalidRequest, before anything is written, and ConnectFailed."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        now = current_time()
        batch = PutBatch(
            runner.session,
            self._options,
            values,
            contexts=contexts,
            w=w,
            pw=pw,
            timeout=timeout,
            sloppy=sloppy,
            now=now,
        )
        batch.go_on(now, runner.out)
        results: dict[Any, PutResult] = await runner.outcome(batch)
        return results

    @enable_ki_protection
    async def delete(
        self,
        key: str | bytes,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        sloppy: bool | None = None,
    ) -> PutResult:
        """Delete what `context` covers; without one, what is there now, as a read by the handle's r finds it.
        Deleting what is missing succeeds."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        call = runner.session.delete(
            self._options,
            key,
            w=w,
            pw=pw,
            timeout=timeout,
            context=context,
            sloppy=sloppy,
            now=current_time(),
            out=runner.out,
        )
        result: PutResult = await runner.outcome(call)
        return result

    @enable_ki_protection
    async def update(
        self,
        key: str | bytes,
        change: Callable[[list[Any]], Any],
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
    ) -> Record:
        """Read, give `change` the list of siblings ([] if missing), and write what it returns if nobody wrote
        in between; else read and call it again, until the timeout. `change` is a plain function; what it
        raises passes through. Returns the record as it was left."""
        runner = self._client.runner
        await checkpoint_if_cancelled()
        now = current_time()
        update = Update(
            runner.session,
            self._options,
            key,
            _interruptible(change),
            r=r,
            pr=pr,
            w=w,
            pw=pw,
            timeout=timeout,
            sloppy=sloppy,
            now=now,
        )
        call: Call | None = update.start(current_time(), runner.out)
        while call is not None:
            await self._client.runner.wait(call)  # asked for anew: the client may have been closed
            call = update.step(call, current_time(), runner.out)
        assert update.record is not None
        return update.record

    def keys(
        self, *, r: int | str | None = None, pr: int | str | None = None, timeout: float | None = None
    ) -> Keys:
        """`async for key in bucket.keys()`: every key that has a value, in no order that means anything; a
        str where the key is valid UTF-8, else bytes. They come page by page, in bounded memory however many
        there are. timeout: seconds, of each page.

        Every partition is read at R: a key that was written (deleted) at W before the iteration began shows
        (does not), where R + W > N; keys that come or go meanwhile may show or not. None shows twice."""
        return Keys(
            self._client, Listing(self._client.runner.session, self._options, r=r, pr=pr, timeout=timeout)
        )


def _interruptible(change: Any) -> Any:
    """Ctrl-C may strike a function of the user, which may take long; nothing of ours is half done there."""
    if not callable(change):
        return change  # `Update` says what is wrong with it

    @disable_ki_protection
    def unprotected(siblings: list[Any]) -> Any:
        return change(siblings)

    return unprotected
