"""The simulator's users, on a real client: their calls are tasks here, and times are those of the clock.

`load.User` begins calls and looks later what became of them, as it does on virtual time, so both kinds of
trial have the same load, the same history and the same judges.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import trio

import dyno
from dyno.simulator.history import History, Key
from dyno.wire import values

PAUSE_MAX_S = 0.2  # of an update that met another one


class Pending:
    """One call under way."""

    def __init__(self) -> None:
        self.ended = math.inf
        self.outcome: Any = None

    @property
    def done(self) -> bool:
        return self.ended < math.inf


class Shell:
    """What a user needs of a client. machine: its name in the history. since: when the trial began."""

    def __init__(
        self,
        machine: str,
        client: dyno.Client,
        nursery: trio.Nursery,
        *,
        history: History,
        random: Random,
        since: float,
    ) -> None:
        self.machine = machine
        self._history = history
        self._random = random
        self._client = client
        self._nursery = nursery
        self._since = since

    @property
    def now(self) -> float:
        return trio.current_time() - self._since

    def begin_get(self, bucket: str, key: str, **options: Any) -> Pending:
        return self._begin(lambda: self._client.bucket(bucket).get(key, **options))

    def begin_put(self, bucket: str, key: str, value: Any, **options: Any) -> Pending:
        return self._begin(lambda: self._client.bucket(bucket).put(key, value, **options))

    def begin_update(
        self, bucket: str, key: str, change: Callable[[list[Any]], Any], **options: Any
    ) -> Pending:
        return self._begin(lambda: self._update(Key(bucket, key), change, **options))

    def begin_delete(self, bucket: str, key: str, **options: Any) -> Pending:
        return self._begin(lambda: self._client.bucket(bucket).delete(key, **options))

    def begin_get_many(self, bucket: str, keys: Sequence[str], **options: Any) -> Pending:
        return self._begin(lambda: self._client.bucket(bucket).get_many(keys, **options))

    def begin_put_many(self, bucket: str, values: dict[str, Any], **options: Any) -> Pending:
        return self._begin(lambda: self._client.bucket(bucket).put_many(values, **options))

    async def _update(self, key: Key, change: Callable[[list[Any]], Any], **options: Any) -> dyno.PutResult:
        """What `Bucket.update` does, but that the contexts in between are seen: they tell the dot of a write
        that nobody may ever have read."""
        bucket = self._client.bucket(key.bucket)
        while True:
            record = await bucket.get(key.key)
            value = change(record.siblings)
            self._history.passed(values.encode(value, bytes_max=100), record.context)
            try:
                stored = await bucket.put(key.key, value, if_context=record.context, **options)
            except dyno.ConflictError:
                await trio.sleep(self._random.uniform(0.0, PAUSE_MAX_S))
                continue
            return stored

    def _begin(self, call: Callable[[], Awaitable[Any]]) -> Pending:
        pending = Pending()
        self._nursery.start_soon(self._run, pending, call)
        return pending

    async def _run(self, pending: Pending, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            pending.outcome = await call()
        except dyno.DynoError as error:
            pending.outcome = error
        pending.ended = self.now
