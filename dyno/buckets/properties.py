"""What a bucket may be: how many copies of each key there are, which quorums its calls default to, its kind.

In: the fields of a request or of a stored table. Out: `Properties`, checked. Whatever no bucket can be is
refused with `InvalidRequest` and a sentence that says what would be possible.

n and kind never change once data may have been stored, for n decides where every key lies (it is part of the
slot) and the kind what its records mean. Buckets that nobody created have `DEFAULTS`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dyno.causality.record import KIND_SIBLINGS
from dyno.config import BUCKET_NAME_BYTES_MAX, COPIES, COPIES_MAX
from dyno.errors import InvalidRequest
from dyno.wire.messages import ALL, QUORUM

KINDS: Final = {"siblings": KIND_SIBLINGS}  # by name; the number is the one that a record carries

_KIND_NAMES: Final = {number: name for name, number in KINDS.items()}
_WORDS: Final = {QUORUM: "quorum", ALL: "all"}


class Properties(NamedTuple):
    """n: copies of each key. r, w: a count up to n, QUORUM or ALL, for calls that say nothing else. kind: one
    of the numbers in KINDS."""

    n: int
    r: int
    w: int
    kind: int

    def __str__(self) -> str:
        """As the sentences of errors name them."""
        return ", ".join(f"{name}={value}" for name, value in self.shown().items())

    def shown(self) -> dict[str, int | str]:
        """As users see them; the shape is part of the public contract."""
        return {
            "n": self.n,
            "r": _WORDS.get(self.r, self.r),
            "w": _WORDS.get(self.w, self.w),
            "kind": _KIND_NAMES[self.kind],
        }


DEFAULTS: Final = Properties(COPIES, QUORUM, QUORUM, KIND_SIBLINGS)


def kind_number(name: object) -> int:
    """The number of a kind by the name that users give."""
    number = KINDS.get(name) if isinstance(name, str) else None
    if number is None:
        raise InvalidRequest(f"there is no bucket kind {name!r:.40}; known: {', '.join(KINDS)}")
    return number


def check(name: str, properties: Properties) -> None:
    """Raises InvalidRequest for what no bucket can be called, or be."""
    n, r, w, kind = properties
    size = len(name.encode())
    if not 1 <= size <= BUCKET_NAME_BYTES_MAX:
        raise InvalidRequest(f"a bucket's name has 1 to {BUCKET_NAME_BYTES_MAX} bytes, not {size}")
    if not 1 <= n <= COPIES_MAX:
        raise InvalidRequest(f"n={n} is not possible; a bucket keeps 1 to {COPIES_MAX} copies")
    for what, count in (("r", r), ("w", w)):
        if count in _WORDS:
            continue
        if count > n:
            raise InvalidRequest(f"{what}={count} is more than the bucket's n={n}")
        if count < 1:
            raise InvalidRequest(f"{what}={count} is less than 1")
    if kind not in _KIND_NAMES:
        raise InvalidRequest(f"there is no bucket kind number {kind} on this node")
