"""Which node to read which of many keys from.

Messages are filled one after another. Each goes to the node that can put most of the keys that are left into
it; where several can put as many, to that which has the least to do, what was dealt to it before included;
where those are equal too, to any. So a few keys go to as few nodes as have them all, and not to the same ones
every time; and of thousands of keys, which fill a message for every node, all nodes have their share.

In: the keys in piles, one for each partition, with the links to its owners. Out: pairs of a link and the keys
of one message: at most GET_MANY_KEYS_MAX of them, with KEYS_BYTES_MAX together. Every key is in one pair,
exactly once. A key costs next to nothing: what takes time are piles and messages.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dyno.wire.messages import GET_MANY_KEYS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from dyno.session.links import NodeLink

KEYS_BYTES_MAX = 128 << 10  # of one GetMany


class _Pile:
    """Keys of one partition that are left, and who may be dealt them."""

    __slots__ = ("holders", "keys")

    def __init__(self, keys: Iterable[bytes], holders: list[_Hand]) -> None:
        self.keys = deque(keys)
        self.holders = holders


class _Hand:
    """What one node may be dealt. left: keys, of all its piles. busy: bytes. lot: decides between equals."""

    __slots__ = ("busy", "left", "link", "lot", "piles")

    def __init__(self, link: NodeLink | None, lot: float) -> None:
        self.link = link
        self.piles: list[_Pile] = []
        self.left = 0
        self.busy = 0 if link is None else link.unanswered_bytes
        self.lot = lot

    def rank(self) -> tuple[int, int, float]:
        return -min(self.left, GET_MANY_KEYS_MAX), self.busy, self.lot

    def message(self) -> list[bytes]:
        """Take as many keys as one GetMany holds."""
        some: list[bytes] = []
        size = 0
        while self.piles:
            pile = self.piles[-1]
            keys, before = pile.keys, len(some)
            while keys and len(some) < GET_MANY_KEYS_MAX and size + len(keys[0]) <= KEYS_BYTES_MAX:
                size += len(keys[0])
                some.append(keys.popleft())
            for hand in pile.holders:
                hand.left -= len(some) - before
            if keys:
                break
            self.piles.pop()  # others may have it still, and will find it empty
        self.busy += size
        return some


def deal(
    piles: Iterable[tuple[Sequence[NodeLink], Iterable[bytes]]], random: Random
) -> list[tuple[NodeLink | None, list[bytes]]]:
    """piles: links, each once, and keys. None: no owner is ready, whoever can take them may."""
    hands: dict[NodeLink | None, _Hand] = {}
    for links, keys in piles:
        pile = _Pile(keys, [])
        ready: list[NodeLink | None] = [link for link in links if link.ready]
        for link in ready or [None]:
            hand = hands.get(link)
            if hand is None:
                hand = hands[link] = _Hand(link, random.random())
            hand.piles.append(pile)
            hand.left += len(pile.keys)
            pile.holders.append(hand)
    dealt = []
    while hands:
        best = min(hands.values(), key=_Hand.rank)
        if not best.left:
            break
        dealt.append((best.link, best.message()))
    return dealt
