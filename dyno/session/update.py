"""Read, change, write back only if nobody wrote in between: `Bucket.update` as a machine.

    get ──▶ change(siblings) ──▶ put if_context ──▶ done
     ▲                              │ ConflictError
     └──── jittered pause ◀─────────┘

In: a plain function from the list of siblings to a value. Out: calls of the session, one after another, and
at the end the record as it was left. Guarantees: the function's exceptions pass through untouched; nothing is
written twice, for a put whose fate is unknown ends the update; the caller's timeout covers all rounds.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from dyno.errors import ConflictError, InvalidRequest, RequestTimeout
from dyno.session import options
from dyno.session.results import PutResult, Record, UpdatedRecord
from dyno.wire.messages import Put

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.session.calls import Call
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

# A pause is anything up to so much, doubled with every conflict ("full jitter"): figures are in
# docs/design/client.md. Less is fairer, and costs more rounds.
PAUSE_MIN_S = 0.01
PAUSE_MAX_S = 0.25


class Update:
    """One update. `start`, and `step` after each call that ended, until `step` returns None; then the record
    is in `record`."""

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        key: str | bytes,
        change: Callable[[list[Any]], Any],
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
        now: float,
    ) -> None:
        if not callable(change):
            raise InvalidRequest(f"change is a function from a list of values to a value, not {change!r}")
        for given, what in ((w, "w"), (pw, "pw")):
            options.quorum(given, what, 0)  # the get checks the others
        self.record: Record | None = None
        self._session = session
        self._bucket = bucket
        self._key = key
        self._change = change
        self._r, self._pr = r, pr
        self._w, self._pw = w, pw
        self._sloppy = sloppy
        self._deadline = now + bucket.seconds(timeout, session.requests.timeout)
        self._conflicts = 0

    def start(self, now: float, out: SessionOutbox) -> Call:
        return self._get(0.0, now, out)

    def step(self, call: Call, now: float, out: SessionOutbox) -> Call | None:
        """The next call; None when the update is done. Raises what ended it."""
        if isinstance(call.error, ConflictError):
            pause = min(PAUSE_MIN_S * 2**self._conflicts, PAUSE_MAX_S) * self._session.random.random()
            self._conflicts = min(self._conflicts + 1, 16)
            return self._get(pause, now, out)
        if call.error is not None:
            raise call.error
        if isinstance(call.result, Record):
            return self._put(call.result, now, out)
        assert isinstance(call.result, PutResult)
        assert isinstance(call.request, Put)
        self.record = UpdatedRecord(call.request.value, call.result)
        return None

    def _get(self, delay: float, now: float, out: SessionOutbox) -> Call:
        timeout = self._time_left(now + delay) + delay  # the rest counts
        return self._session.get(
            self._bucket,
            self._key,
            r=self._r,
            pr=self._pr,
            timeout=timeout,
            sloppy=self._sloppy,
            delay=delay,
            now=now,
            out=out,
        )

    def _put(self, read: Record, now: float, out: SessionOutbox) -> Call:
        value = self._change(read.siblings)
        if isinstance(value, Coroutine):
            value.close()
            raise InvalidRequest("change must be a plain function, not an async one")
        return self._session.put(
            self._bucket,
            self._key,
            value,
            w=self._w,
            pw=self._pw,
            sloppy=self._sloppy,
            if_context=read.context,
            timeout=self._time_left(now),
            now=now,
            out=out,
        )

    def _time_left(self, now: float) -> float:
        left = self._deadline - now
        if left <= 0:
            raise RequestTimeout(
                f"the update met other writers {self._conflicts} times and had no time for another round",
                needed=1,
                answered=0,
                nodes=(),
                indeterminate=False,
            )
        return left
