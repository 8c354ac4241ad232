"""Keys that are read together, sorted by whom to ask for them.

In: a request and a key at a time, and for each who asks. Out: groups of slots, one for each set of nodes that
are to be asked. Everything that is the same for many keys is found out once: the bucket's n for each kind of
request, the nodes to ask for each set of owners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.wire.messages import READ_MANY_SLOTS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dyno.protocol.planner import Planner
    from dyno.protocol.ring import Plan
    from dyno.wire.messages import Get, GetMany

_UNKNOWN: Any = object()
_Group: TypeAlias = tuple[list[bytes], list[Any]]  # slots, and who asks for them
# How to plan, the bucket's n, and the group of a key by its owners: None where it is read alone.
_Kind: TypeAlias = tuple[Callable[[str, bytes, int], "Plan"], int, dict[tuple[str, ...], "_Group | None"]]


class Groups:
    """choose(owners, request, favourites): the nodes to ask for keys of these owners, the favourites first,
    which it adds to; None where such a key is to be read alone. Raises InvalidRequest."""

    def __init__(self, choose: Callable[[tuple[str, ...], Any, dict[str, bool]], Any]) -> None:
        self._choose = choose
        self._favourites: dict[str, bool] = {}
        self._kinds: dict[tuple[str, int, int], _Kind] = {}  # by bucket, r and pr
        self._groups: dict[tuple[str, ...], _Group] = {}

    def place(self, planner: Planner, request: Get | GetMany, key: bytes, asker: object) -> bool:
        """False for a key that is to be read alone. Raises InvalidRequest."""
        kind = self._kinds.get((request.bucket, request.r, request.pr))
        if kind is None:
            bucket = planner.serving.get(request.bucket, DEFAULTS)
            if planner.ring is None or bucket is None:
                return False
            kind = self._kinds[request.bucket, request.r, request.pr] = (planner.ring.plan, bucket.n, {})
        plan, copies, group_of = kind
        slot, owners = plan(request.bucket, key, copies)
        group = group_of.get(owners, _UNKNOWN)
        if group is _UNKNOWN:
            group = group_of[owners] = self._group(owners, request)
        if group is None:
            return False
        group[0].append(slot)
        group[1].append(asker)
        return True

    def _group(self, owners: tuple[str, ...], request: Get | GetMany) -> _Group | None:
        peers = self._choose(owners, request, self._favourites)
        return None if peers is None else self._groups.setdefault(peers, ([], []))

    def all(self) -> Iterator[tuple[tuple[str, ...], list[bytes], list[Any]]]:
        """Whom to ask for which slots, for whom; as many at once as one question holds."""
        for peers, (slots, askers) in self._groups.items():
            for at in range(0, len(slots), READ_MANY_SLOTS_MAX):
                until = at + READ_MANY_SLOTS_MAX
                yield peers, slots[at:until], askers[at:until]
