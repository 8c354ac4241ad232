"""What callers ask for, as calls that are still to be begun.

In: keys, values, quorums and timeouts as users write them, and a bucket's handle for what they leave out.
Out: a `Call` with its request, its deadline and its weight; nothing is sent here. Whatever cannot be right
raises InvalidRequest. What only a node can judge, it judges.

Ids are unique within one session: all its calls come from here. The ids under which nodes would recognize a
write that is sent again are drawn at random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.config import RECORD_BYTES_MAX
from dyno.errors import InvalidRequest
from dyno.session import buckets, options
from dyno.session.calls import REQUEST_BYTES, Call
from dyno.wire import values
from dyno.wire.messages import (
    AskBuckets,
    AskMembers,
    AskRepair,
    AskStatus,
    Delete,
    Explain,
    Get,
    ListKeys,
    Put,
)
from dyno.wire.pages import PAGE_KEYS_MAX

if TYPE_CHECKING:
    from random import Random

    from dyno.session.calls import Question
    from dyno.session.options import BucketOptions

REQUEST_ID_BYTES = 16

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Requests:
    """random: for request ids. timeout: seconds, of calls that name none and whose bucket names none."""

    def __init__(self, *, random: Random, timeout: float) -> None:
        self.timeout = options.timeout_s(timeout)
        self._random = random
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def opening(self, now: float) -> Call:
        return Call(self.next_id(), None, bucket=b"", deadline=now + self.timeout, weight=0)

    def get(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        r: int | str | None,
        pr: int | str | None,
        timeout: float | None,
        now: float,
        sloppy: bool | None = None,
    ) -> Call:
        seconds = bucket.seconds(timeout, self.timeout)
        self._last_id = id = self._last_id + 1
        request = _new(
            Get,
            (
                id,
                bucket.name,
                options.key_bytes(key),
                bucket.r if r is None else options.quorum(r, "r", 0),
                bucket.pr
                if pr is None and sloppy is None
                else options.primaries(pr, "pr", bucket.pr, sloppy),
                options.budget_ms(seconds),
                False,
            ),
        )
        return Call(id, request, bucket=bucket.id, deadline=now + seconds, weight=REQUEST_BYTES)

    def put(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        value: Any,
        *,
        w: int | str | None,
        pw: int | str | None,
        timeout: float | None,
        context: bytes | None,
        if_context: bytes | None,
        now: float,
        sloppy: bool | None = None,
    ) -> Call:
        if if_context is None:
            given = b"" if context is None else options.context_token(context, "context")
        elif context is None:
            given = options.context_token(if_context, "if_context")
        else:
            raise InvalidRequest(
                "give context or if_context, not both: if_context is the write's context too"
            )
        seconds = bucket.seconds(timeout, self.timeout)
        encoded = values.encode(value, bytes_max=RECORD_BYTES_MAX)
        request = _new(
            Put,
            (
                self.next_id(),
                bucket.name,
                options.key_bytes(key),
                encoded,
                given,
                if_context is not None,
                bucket.w if w is None else options.quorum(w, "w", 0),
                options.primaries(pw, "pw", bucket.pw, sloppy),
                self._random.randbytes(REQUEST_ID_BYTES),
                options.budget_ms(seconds),
                False,
                False,
            ),
        )
        weight = REQUEST_BYTES + len(encoded) + len(given)
        return Call(request.id, request, bucket=bucket.id, deadline=now + seconds, weight=weight)

    def delete(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        w: int | str | None,
        pw: int | str | None,
        timeout: float | None,
        context: bytes | None,
        now: float,
        sloppy: bool | None = None,
    ) -> Call:
        seconds = bucket.seconds(timeout, self.timeout)
        given = b"" if context is None else options.context_token(context, "context")
        request = _new(
            Delete,
            (
                self.next_id(),
                bucket.name,
                options.key_bytes(key),
                given,
                bucket.r,
                options.primaries(None, "pr", bucket.pr, sloppy),
                bucket.w if w is None else options.quorum(w, "w", 0),
                options.primaries(pw, "pw", bucket.pw, sloppy),
                self._random.randbytes(REQUEST_ID_BYTES),
                options.budget_ms(seconds),
                False,
            ),
        )
        weight = REQUEST_BYTES + len(given)
        return Call(request.id, request, bucket=bucket.id, deadline=now + seconds, weight=weight)

    def list_keys(
        self,
        bucket: BucketOptions,
        partition: int,
        after: bytes,
        *,
        r: int,
        pr: int,
        timeout: float,
        now: float,
    ) -> Call:
        """r, pr, timeout: as they travel, for `Listing` has checked them."""
        budget_ms = options.budget_ms(timeout)
        request = ListKeys(
            self.next_id(), bucket.name, partition, after, PAGE_KEYS_MAX, r, pr, budget_ms, False
        )
        return Call(request.id, request, bucket=bucket.id, deadline=now + timeout, weight=REQUEST_BYTES)

    def create_bucket(
        self,
        name: str,
        *,
        n: int | None,
        r: int | str | None,
        w: int | str | None,
        kind: str,
        timeout: float | None,
        now: float,
    ) -> Call:
        seconds = self.seconds(timeout)
        budget_ms = options.budget_ms(seconds)
        request = buckets.creation(self.next_id(), name, n=n, r=r, w=w, kind=kind, budget_ms=budget_ms)
        return Call(request.id, request, bucket=b"", deadline=now + seconds, weight=REQUEST_BYTES)

    def buckets(self, *, timeout: float | None, now: float) -> Call:
        return self._question(AskBuckets(self.next_id()), timeout, now)

    def explain(self, bucket: str, key: str | bytes, *, timeout: float | None, now: float) -> Call:
        seconds = self.seconds(timeout)
        name, data = options.bucket_name(bucket), options.key_bytes(key)
        request = Explain(self.next_id(), name, data, options.budget_ms(seconds), False)
        return Call(request.id, request, bucket=b"", deadline=now + seconds, weight=REQUEST_BYTES)

    def status(self, *, timeout: float | None, now: float) -> Call:
        return self._question(AskStatus(self.next_id()), timeout, now)

    def repair(self, run: bytes, bucket: str, *, merge: bool, timeout: float | None, now: float) -> Call:
        """run: its id, b"" for none. bucket: "" for all."""
        return self._question(AskRepair(self.next_id(), run, bucket, merge), timeout, now)

    def members(self, *, timeout: float | None, now: float) -> Call:
        return self._question(AskMembers(self.next_id()), timeout, now)

    def _question(self, request: Question, timeout: float | None, now: float) -> Call:
        """About no key."""
        deadline = now + self.seconds(timeout)
        return Call(request.id, request, bucket=b"", deadline=deadline, weight=REQUEST_BYTES)

    def seconds(self, timeout: float | None) -> float:
        """What a call about no bucket's keys may take."""
        return self.timeout if timeout is None else options.timeout_s(timeout)
