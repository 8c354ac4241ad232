"""The errors that users of dyno meet, each with its facts as attributes.

All derive from `DynoError`. They are raised by the client and by an embedded node; on the wire they
travel as `wire.messages.Failed` under the code in `Code`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """How an error is named on the wire (`Failed.code`)."""

    INVALID = "invalid"
    CONFLICT = "conflict"
    QUORUM = "quorum"
    OVERLOADED = "overloaded"
    STORAGE = "storage"
    # The ring that the request was planned with is not the one of the answering node, or the ring is
    # about to change: nothing was done, plan again.
    RING = "ring"


class DynoError(Exception):
    """Base of every error that dyno raises on purpose."""


class InvalidRequest(DynoError):
    """The request is refused before anything was done; sending it again cannot help."""


class ConflictError(DynoError):
    """The record holds other values than the caller assumed.

    siblings: the concurrent values, in the record's order. context: the token that covers them.
    """

    def __init__(self, message: str, *, siblings: list[Any], context: bytes) -> None:
        super().__init__(message)
        self.siblings = siblings
        self.context = context


class _Shortfall(DynoError):
    """Fewer nodes answered than were needed.

    needed: how many answers the request asked for. answered: how many distinct nodes gave one.
    nodes: their names. indeterminate: True when some replica may have kept the write all the same.
    """

    def __init__(
        self, message: str, *, needed: int, answered: int, nodes: tuple[str, ...], indeterminate: bool
    ) -> None:
        super().__init__(message)
        self.needed = needed
        self.answered = answered
        self.nodes = nodes
        self.indeterminate = indeterminate


class QuorumNotMet(_Shortfall):
    """The coordinator's verdict: too few replicas answered in time."""


class RequestTimeout(_Shortfall):
    """The caller's own timeout passed before any verdict came."""


class Overloaded(DynoError):
    """A bound was reached and nothing was done. retry_after: seconds to wait before trying again."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageFailed(DynoError):
    """The disk is full, read-only or failing."""


class ConnectFailed(DynoError):
    """No listed node could be reached, or none would talk to us."""


class ConfigurationError(DynoError):
    """A node cannot start as it was told to: a wrong option, a locked or foreign data directory, a taken
    port or name, a cluster that refuses it. The command line exits with 2."""
