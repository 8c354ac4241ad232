"""All keys of a bucket, as `Bucket.keys` gives them: an asynchronous iterator.

It is an object and no generator, because a generator that is left early has to be finished by somebody:
Trio warns of each that it finds. There is nothing to finish here. No task, scope or socket belongs to an
iteration; the pages that it has asked for ahead (a handful) end by themselves, with their answer or at their
timeout, and nothing holds them. `aclose` lets go of them at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio import current_time
from trio.lowlevel import checkpoint, enable_ki_protection

from dyno.errors import InvalidRequest

if TYPE_CHECKING:
    from typing import Self

    from dyno.client.client import Client
    from dyno.session.calls import Call
    from dyno.session.listing import Listing


class Keys:
    """Made by `Bucket.keys`. One task at a time may take from it.

    When `async for` raises, going on with the same object asks again for what failed; so does a cancelled
    one. No key is skipped or given twice."""

    def __init__(self, client: Client, listing: Listing) -> None:
        self._client = client
        self._runner = client.runner
        self._listing = listing
        self._page: list[str | bytes] = []  # what is still to be given, the next one last
        self._taken = False  # by a task that waits for a page

    def __aiter__(self) -> Self:
        return self

    @enable_ki_protection
    async def __anext__(self) -> str | bytes:
        if not self._page:
            self._page = (await self.next_page())[::-1]
            if not self._page:
                raise StopAsyncIteration
        return self._page.pop()

    @enable_ki_protection
    async def next_page(self) -> list[str | bytes]:
        """As many of the next keys as have come together, at least one; [] at the end."""
        if self._page:
            page, self._page = self._page[::-1], []
            return page
        if self._taken:
            raise InvalidRequest("another task is taking keys from this listing; call keys() in each task")
        self._taken = True
        try:
            return await self._ask()
        finally:
            self._taken = False

    @enable_ki_protection
    async def aclose(self) -> None:
        """Let go of the pages that are under way. After it there are no more keys."""
        self._page = []
        self._listing.close(current_time(), self._runner.out)
        self._runner.send_soon()  # what waited for their room may go

    @enable_ki_protection
    async def _ask(self) -> list[str | bytes]:
        while True:
            runner = self._client.runner  # asked for anew: the client may have been closed
            call = self._listing.next_call(current_time(), runner.out)
            if call is None:
                return []
            try:
                if _is_under_way(call):
                    await runner.wait(call)
                else:
                    await checkpoint()  # many pages may be here already, and others want to run
            except BaseException:
                if _is_under_way(call):
                    self._listing.drop(call, current_time(), runner.out)
                raise
            keys = self._listing.take(call, current_time(), runner.out)
            runner.send_soon()
            if keys:
                return keys


def _is_under_way(call: Call) -> bool:
    return call.result is None and call.error is None
