"""Read by the handle's quorums, then delete what was read: a delete without a context as a machine.

    get ──▶ delete with the context that was read ──▶ done

A node that gets a delete without a context reads by the bucket's own R. A handle that says how to read, as
`client.bucket("carts", r=1)` does, means these reads too, so then the session reads.

In: a key and how to write. Out: two calls of the session, one after the other, and at the end what was
deleted. Guarantees: only what was read is deleted; the caller's timeout covers both calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.session import options
from dyno.session.results import PutResult, Record, nothing_to_delete

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

_LEAST_S = 0.001  # for a delete whose read came at the last moment


class Removal:
    """One delete. `start`, and `step` after each call that ended, until `step` returns None; then what was
    deleted is in `result`."""

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        now: float,
    ) -> None:
        for given, what in ((w, "w"), (pw, "pw")):
            options.quorum(given, what, 0)  # before anything is read
        self.result: PutResult | None = None
        self._session = session
        self._bucket = bucket
        self._key = key
        self._w, self._pw = w, pw
        otherwise = bucket.timeout or session.timeout
        self._timeout = otherwise if timeout is None else options.timeout_s(timeout)
        self._deadline = now + self._timeout

    def start(self, now: float, out: SessionOutbox) -> Call:
        return self._session.get(self._bucket, self._key, timeout=self._timeout, now=now, out=out)

    def step(self, call: Call, now: float, out: SessionOutbox) -> Call | None:
        """The next call; None when the delete is done. Raises what ended it."""
        if call.error is not None:
            raise call.error
        if isinstance(call.result, Record):
            return self._delete(call.result, now, out)
        assert isinstance(call.result, PutResult)
        self.result = call.result
        return None

    def _delete(self, read: Record, now: float, out: SessionOutbox) -> Call | None:
        if not read.context:
            self.result = nothing_to_delete(read)
            return None
        return self._session.delete(
            self._bucket,
            self._key,
            w=self._w,
            pw=self._pw,
            timeout=max(self._deadline - now, _LEAST_S),
            context=read.context,
            now=now,
            out=out,
        )
