"""Creating and listing buckets: what callers pass becomes a request, what nodes answer becomes plain values.

Whatever can be no bucket is refused with InvalidRequest before anything is sent; what is not given has the
default. A creation may be sent again although it may have been done already: with the same properties it
succeeds as often as one likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.buckets.properties import DEFAULTS, Properties, check, kind_number
from dyno.buckets.table import unpack
from dyno.errors import InvalidRequest
from dyno.session import options
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import CreateBucket

if TYPE_CHECKING:
    from dyno.wire.messages import AskBuckets, Buckets


def creation(
    id: int, name: str, *, n: int | None, r: int | str | None, w: int | str | None, kind: str, budget_ms: int
) -> CreateBucket:
    """Raises InvalidRequest for what no bucket can be called, or be."""
    name = options.bucket_name(name)
    if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
        raise InvalidRequest(f"n={n!r} is no number of copies; give an int")
    properties = Properties(
        DEFAULTS.n if n is None else int(n),
        options.quorum(r, "r", DEFAULTS.r),
        options.quorum(w, "w", DEFAULTS.w),
        kind_number(kind),
    )
    check(name, properties)
    return CreateBucket(id, name, *properties, budget_ms)


def answered(
    request: CreateBucket | AskBuckets, answer: Buckets
) -> dict[str, int | str] | dict[str, dict[str, int | str]]:
    """The properties of the one bucket that was created, or those of all, by name. Raises ProtocolError for
    an answer to something else."""
    shown = {entry.name: entry.properties.shown() for entry in unpack(answer.buckets)}
    if not isinstance(request, CreateBucket):
        return shown
    if request.bucket not in shown:
        raise ProtocolError("the answer to a creation that names another bucket")
    return shown[request.bucket]
