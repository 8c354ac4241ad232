"""The shopping cart of the Dynamo paper (DeCandia et al., SOSP 2007, §4.4), as a program.

    python examples/shopping_cart.py                      # starts three nodes of its own, in this process
    python examples/shopping_cart.py 127.0.0.1:7101       # or uses a cluster that runs, e.g. `dyno cluster`

A laptop and a phone change one cart without knowing of each other. No write is refused and none is lost: the
store keeps both versions as siblings, and the program merges them as a shop wants it, by uniting what was
put in. Its price is the paper's: an item that was deleted on one side can come back, and the last part shows
how `update` avoids that by always changing what was read.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

import dyno

Cart = dict[str, int]


def merged(carts: list[Cart]) -> Cart:
    """One cart out of concurrent ones: every item that is in any, as often as in the fullest."""
    together: Cart = {}
    for cart in carts:
        for item, count in cart.items():
            together[item] = max(count, together.get(item, 0))
    return dict(sorted(together.items()))


async def shop(carts: dyno.Bucket, key: str) -> Cart:
    # The laptop fills the cart; its put returns a context, which stands for what the laptop has seen.
    laptop = await carts.put(key, {"book": 1, "lamp": 1})

    # The phone reads the cart and adds milk.
    seen = await carts.get(key)
    await carts.put(key, merged([*seen.siblings, {"milk": 2}]), context=seen.context)

    # The laptop was offline. It still has its own old context, and takes the lamp out.
    await carts.put(key, {"book": 1}, context=laptop.context)

    # Neither write knew of the other, so both are there.
    record = await carts.get(key)
    print("siblings:", *record.siblings, sep="\n  ")
    assert len(record.siblings) == 2

    # Whoever reads them merges them, and writes the result with the context that covers both.
    cart = merged(record.siblings)
    await carts.put(key, cart, context=record.context)
    print("merged:  ", cart, "(the lamp is back: the paper's known anomaly)")

    # `update` reads, changes and writes only if nobody else wrote in between, else it starts again.
    def without_lamp(siblings: list[Cart]) -> Cart:
        return {item: count for item, count in merged(siblings).items() if item != "lamp"}

    cart = (await carts.update(key, without_lamp)).value
    print("updated: ", cart)
    return cart


@asynccontextmanager
async def own_cluster() -> AsyncIterator[list[str]]:
    """Three nodes within this program, each with a directory of its own."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        addresses: list[str] = []
        for name in ("n1", "n2", "n3"):
            node = dyno.Node(name=name, listen="127.0.0.1:0", data=str(directory / name), join=addresses)
            await stack.enter_async_context(node)
            addresses.append(node.address)
        yield addresses


async def main(addresses: list[str]) -> None:
    async with AsyncExitStack() as stack:
        if not addresses:
            addresses = await stack.enter_async_context(own_cluster())
        client = await stack.enter_async_context(dyno.connect(*addresses))
        carts = client.bucket("carts")
        await carts.delete("alice")
        cart = await shop(carts, "alice")
        assert cart == {"book": 1, "milk": 2}


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
