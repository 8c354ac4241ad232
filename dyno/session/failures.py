"""The errors that a call can end with, from what the wire said or did not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.errors import (
    Code,
    ConflictError,
    ConnectFailed,
    DynoError,
    InvalidRequest,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
    StorageFailed,
)
from dyno.session.calls import RETRY_MAX_S
from dyno.session.results import Origin, Record, names

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.wire.messages import Failed


def error_of(failed: Failed, call: Call, origin: Origin | None) -> DynoError:
    """A node's refusal as the error that its caller gets. origin: None for calls that are about no key."""
    text = failed.message
    match failed.code:
        case Code.INVALID:
            return InvalidRequest(text)
        case Code.OVERLOADED:
            return Overloaded(text, retry_after=failed.retry_after_ms / 1000)
        case Code.STORAGE:
            return StorageFailed(text)
        case Code.CONFLICT if origin is not None:
            return _conflict(text, Record(failed.record, origin, "", ""))
        case Code.QUORUM:
            answered = names(failed.nodes)
            return QuorumNotMet(
                text,
                needed=failed.needed,
                answered=len(answered),
                nodes=answered,
                indeterminate=failed.indeterminate,
            )
        case Code.RING:
            return timeout(
                call, f"the cluster was changing until there was no time left: {text}", indeterminate=False
            )
    return DynoError(f"{text} ({failed.code})")


def lost(call: Call, address: str, reason: str) -> DynoError:
    """The link with a write on it broke."""
    return QuorumNotMet(
        f"the link to {address} broke before it answered ({reason}); the write may have been done",
        needed=call.needed,
        answered=0,
        nodes=(),
        indeterminate=True,
    )


def forgotten(call: Call) -> DynoError:
    """A write that may have been done, and may not be sent again any more."""
    text = f"it may have been done {RETRY_MAX_S:g} s ago; a write is not sent again for longer than that"
    if call.trouble is not None and call.trouble.failure is not None:
        text = f"{call.trouble.failure}; {text}"
    return QuorumNotMet(text, needed=call.needed, answered=0, nodes=(), indeterminate=True)


def doubted(call: Call, error: DynoError) -> DynoError:
    """Whatever the last attempt ended with, an earlier one may have come through. But a node that says of a
    write which is sent again that it does not fit has asked the others."""
    if isinstance(error, InvalidRequest | ConflictError):
        return error
    if isinstance(error, QuorumNotMet | RequestTimeout):
        error.indeterminate = True
        return error
    return timeout(call, f"it was sent once and never answered; after that: {error}", indeterminate=True)


def timeout(call: Call, text: str, *, indeterminate: bool) -> DynoError:
    return RequestTimeout(text, needed=call.needed, answered=0, nodes=(), indeterminate=indeterminate)


def unreachable(why: str) -> DynoError:
    return ConnectFailed(f"no listed node could be reached ({why})")


def _conflict(text: str, record: Record) -> DynoError:
    try:
        return ConflictError(text, siblings=record.siblings, context=record.context)
    except (StorageFailed, InvalidRequest) as error:  # damaged, or of another kind
        return error
