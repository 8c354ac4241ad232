"""Users on virtual time: several clients that read, write and delete a few dozen keys, and a few hot ones.

Each user knows, of every key, the context of its last read and that of its own last write, and goes on from
one of them or from none, as users do. Quorums are one, a majority or all; some calls are strict. Calls come
when they come (at a rate, not one after the other), so a slow cluster has more of them under way.

In: a Random, and a client for each user. Out: operations in a `History`; what a call ended with is taken in
when its user acts next. The same seed gives the same calls, as long as the cluster answers the same.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from dyno.errors import DynoError
from dyno.session.results import Record
from dyno.simulator.history import DELETE, GET, PUT, UPDATE, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.simulator.client import Client, Pending
    from dyno.simulator.history import History, Operation

UNDER_WAY_MAX: Final = 16  # calls of one user; more are left out
BATCH_KEYS_MAX: Final = 6
STRICT_SHARE: Final = 0.3
QUORUM_WEIGHTS: Final = (6, 13, 1)  # of one, a majority and all, which one dead owner makes dear
BLIND_DELETES_EVERY: Final = 6  # one key in so many takes deletes without a context: they excuse much

# What a user does, and how often, of a hundred.
_MIX: Final = {
    "get": 36,
    "put with what was read": 17,
    "put with the context of its own last write": 9,
    "put blindly": 4,
    "update": 9,
    "delete with what was read": 6,
    "delete blindly": 2,
    "get many": 4,
    "put many": 3,
}
_KINDS: Final = tuple(_MIX)
_KIND_WEIGHTS: Final = tuple(accumulate(_MIX.values()))


class User:
    """One client. keys: the popular ones first."""

    def __init__(self, client: Client, history: History, keys: Sequence[Key], random: Random) -> None:
        self._client = client
        self._history = history
        self._keys = keys
        self._weights = tuple(accumulate(1 / rank for rank in range(1, len(keys) + 1)))  # Zipf's law
        self._random = random
        self._read: dict[Key, Operation] = {}  # the last get of a key that succeeded
        self._wrote: dict[Key, Operation] = {}  # the last put or update
        self._under_way: list[tuple[Pending, tuple[Operation, ...]]] = []
        self._does: tuple[Callable[[], None], ...] = (
            self._get,
            self._put_read,
            self._put_own,
            self._put_blindly,
            self._update,
            self._delete_read,
            self._delete_blindly,
            self._get_many,
            self._put_many,
        )

    @property
    def busy(self) -> bool:
        """Whether a call is under way, once what has ended was taken in."""
        self.take_in()
        return bool(self._under_way)

    def act(self) -> None:
        """Take in what has ended, and begin one more call."""
        self.take_in()
        if len(self._under_way) < UNDER_WAY_MAX:
            self._random.choices(self._does, cum_weights=_KIND_WEIGHTS)[0]()

    def take_in(self) -> None:
        waiting = []
        for pending, operations in self._under_way:
            if not pending.done:
                waiting.append((pending, operations))
            elif len(operations) == 1 and not isinstance(pending.outcome, dict):
                self._ended(operations[0], pending.outcome, pending.ended)
            else:
                for operation in operations:
                    entry = pending.outcome
                    if isinstance(entry, dict):
                        entry = entry[operation.key.key]
                        entry = entry if entry.error is None else entry.error
                    self._ended(operation, entry, pending.ended)
        self._under_way = waiting

    def _ended(self, operation: Operation, outcome: Any, now: float) -> None:
        if isinstance(outcome, Exception):
            operation.fail(now, outcome)
            return
        operation.succeed(now, returned=outcome.context, answered=outcome.replicas.answered)
        if operation.kind == GET:
            assert isinstance(outcome, Record)
            operation.siblings = tuple(outcome.siblings)
            # The dots are nothing that users see, but nobody could tell of them more cheaply.
            self._history.sightings.unpacked(
                operation.key, outcome._record(), where=operation.client, now=now
            )
            self._read[operation.key] = operation
        elif operation.kind != DELETE:
            self._wrote[operation.key] = operation

    # ── what a user does ──

    def _get(self) -> None:
        key, quorum, strict = self._draw()
        operation = self._begin(GET, key, quorum, strict)
        self._call(self._client.begin_get, key, operation, r=quorum, sloppy=not strict)

    def _put_read(self) -> None:
        key, quorum, strict = self._draw()
        self._put(key, quorum, strict, self._read.get(key))

    def _put_own(self) -> None:
        key, quorum, strict = self._draw()
        self._put(key, quorum, strict, self._wrote.get(key))

    def _put_blindly(self) -> None:
        key, quorum, strict = self._draw()
        self._put(key, quorum, strict, None)

    def _put(self, key: Key, quorum: int, strict: bool, basis: Operation | None) -> None:
        operation = self._begin(PUT, key, quorum, strict, basis)
        self._call(
            self._client.begin_put,
            key,
            operation,
            operation.value,
            w=quorum,
            sloppy=not strict,
            context=operation.token,
        )

    def _update(self) -> None:
        key, quorum, strict = self._draw()
        operation = self._begin(UPDATE, key, quorum, strict)

        def change(siblings: list[Any]) -> Any:
            operation.siblings = tuple(siblings)
            return operation.value

        self._call(self._client.begin_update, key, operation, change, w=quorum, sloppy=not strict)

    def _delete_read(self) -> None:
        key, quorum, strict = self._draw()
        basis = self._read.get(key)
        if basis is None or not basis.returned:
            self._get()  # nothing to delete that it knew of
        else:
            self._delete(key, quorum, strict, basis)

    def _delete_blindly(self) -> None:
        key, quorum, strict = self._draw()
        if self._keys.index(key) % BLIND_DELETES_EVERY == BLIND_DELETES_EVERY - 1:
            self._delete(key, quorum, strict, None)
        else:
            self._delete_read()

    def _delete(self, key: Key, quorum: int, strict: bool, basis: Operation | None) -> None:
        operation = self._begin(DELETE, key, quorum, strict, basis)
        token = None if basis is None else basis.returned
        self._call(self._client.begin_delete, key, operation, w=quorum, sloppy=not strict, context=token)

    def _get_many(self) -> None:
        keys, quorum, strict = self._draw_several()
        operations = [self._begin(GET, key, quorum, strict) for key in keys]
        pending = self._client.begin_get_many(
            keys[0].bucket, [key.key for key in keys], r=quorum, sloppy=not strict
        )
        self._under_way.append((pending, tuple(operations)))

    def _put_many(self) -> None:
        keys, quorum, strict = self._draw_several()
        operations = [self._begin(PUT, key, quorum, strict, self._read.get(key)) for key in keys]
        pending = self._client.begin_put_many(
            keys[0].bucket,
            {one.key.key: one.value for one in operations},
            contexts={one.key.key: one.token for one in operations},
            w=quorum,
            sloppy=not strict,
        )
        self._under_way.append((pending, tuple(operations)))

    # ── inside ──

    def _draw(self) -> tuple[Key, int, bool]:
        """A key, a quorum, and whether only owners count."""
        key = self._random.choices(self._keys, cum_weights=self._weights)[0]
        copies = self._history.copies[key.bucket]
        quorum = self._random.choices((1, copies // 2 + 1, copies), QUORUM_WEIGHTS)[0]
        return key, quorum, self._random.random() < STRICT_SHARE

    def _draw_several(self) -> tuple[list[Key], int, bool]:
        """Different keys of one bucket."""
        first, quorum, strict = self._draw()
        keys = {first: None}
        for _ in range(self._random.randrange(1, BATCH_KEYS_MAX)):
            key, _, _ = self._draw()
            if key.bucket == first.bucket:
                keys[key] = None
        return list(keys), quorum, strict

    def _begin(
        self, kind: str, key: Key, quorum: int, strict: bool, basis: Operation | None = None
    ) -> Operation:
        now = self._client.now
        return self._history.begin(
            self._client.machine, kind, key, now=now, quorum=quorum, strict=strict, basis=basis
        )

    def _call(
        self, begin: Callable[..., Pending], key: Key, operation: Operation, *args: Any, **options: Any
    ) -> None:
        try:
            pending = begin(key.bucket, key.key, *args, **options)
        except DynoError as error:  # refused before anything was sent
            operation.fail(self._client.now, error)
        else:
            self._under_way.append((pending, (operation,)))
