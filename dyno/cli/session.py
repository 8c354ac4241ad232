"""One conversation with the cluster: connect, do one thing, part.

In: the addresses, and what to do with the client. Out: what that returned. Trio and the client are imported
here, so that a command line that is wrong is refused before they are loaded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from dyno.cli.options import addresses

if TYPE_CHECKING:
    from dyno import Client

T = TypeVar("T")


def converse(nodes: Sequence[str] | None, action: Callable[[Client], Awaitable[T]]) -> T:
    """Run `action` with a client of the cluster that `nodes` (or the environment) name."""
    where = addresses(nodes)

    import trio

    from dyno import connect

    async def main() -> T:
        async with connect(*where) as client:
            return await action(client)

    return trio.run(main)
