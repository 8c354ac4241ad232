"""The records that a benchmark reads and writes, in the bucket before it begins.

In: a bucket and its keys. Out: every key with exactly one value of the right size, and what a client knows of
it: the context. Each key is read first, so a bucket that an earlier run loaded is only checked, and siblings
that it left are resolved. Writes that fail for the moment are read and written again, a bounded number of
times, with so many keys at once that the load is quick and its bytes under way are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from dyno.cli.bench.loop import FAILURE_PAUSE_S
from dyno.errors import Overloaded, QuorumNotMet, RequestTimeout

if TYPE_CHECKING:
    from dyno import Record
    from dyno.cli.bench.loop import Keys
    from dyno.workload.payload import Payload

KEYS_AT_ONCE = 64
ATTEMPTS = 5


class Loading:
    """done: how many keys are ready; may be looked at meanwhile. contexts: by key, if they are to be kept.
    value_bytes: the size of every value."""

    def __init__(self, keys: Keys, payload: Payload, *, value_bytes: int, keep_contexts: bool) -> None:
        self.done = 0
        self.contexts: dict[str, bytes] = {}
        self._keys = keys
        self._payload = payload
        self._value_bytes = value_bytes
        self._keep_contexts = keep_contexts

    async def run(self, names: Iterator[str]) -> None:
        """names: of the keys. Raises the first error that repeating did not help."""
        async with trio.open_nursery() as nursery:
            for _ in range(KEYS_AT_ONCE):
                nursery.start_soon(self._work, names)

    async def _work(self, names: Iterator[str]) -> None:
        for name in names:
            context = await self._persist(name)
            if self._keep_contexts:
                self.contexts[name] = context
            self.done += 1

    async def _persist(self, name: str) -> bytes:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._make(name)
            except (QuorumNotMet, RequestTimeout):
                await trio.sleep(FAILURE_PAUSE_S)
            except Overloaded as error:
                await trio.sleep(error.retry_after)
        return await self._make(name)

    async def _make(self, name: str) -> bytes:
        record = await self._keys.get(name)
        if self._fits(record):
            return record.context
        return (await self._keys.put(name, self._payload.next(), context=record.context)).context

    def _fits(self, record: Record) -> bool:
        siblings = record.siblings
        return len(siblings) == 1 and isinstance(siblings[0], bytes) and len(siblings[0]) == self._value_bytes
