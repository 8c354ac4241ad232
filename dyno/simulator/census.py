"""What a node has left in memory when nobody wants anything of it: every container, by where it hangs.

In: any object of ours. Out: the lengths of all lists, dicts, sets and deques that can be reached from it
through attributes and through containers of our own objects, as {"Node._coordinator._writes._puts": 3}. It
knows no class by name, so a table that somebody adds tomorrow is counted, too.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

_SIZED: Final = (list, dict, set, frozenset, deque)
_OURS: Final = "dyno."


def census(root: Any) -> dict[str, int]:
    """Lengths by path; where several objects have one path, the greatest."""
    lengths: dict[str, int] = {}
    known = {id(root)}
    waiting: deque[tuple[str, Any]] = deque([(type(root).__name__, root)])
    while waiting:
        path, thing = waiting.popleft()
        if isinstance(thing, _SIZED):
            lengths[path] = max(lengths.get(path, 0), len(thing))
            inner = [(f"{path}[]", item) for item in (thing.values() if isinstance(thing, dict) else thing)]
        else:
            inner = [(f"{path}.{name}", value) for name, value in _attributes(thing)]
        for where, value in inner:
            if id(value) not in known and (isinstance(value, _SIZED) or _is_ours(value)):
                known.add(id(value))
                waiting.append((where, value))
    return lengths


def _is_ours(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith(_OURS) and not isinstance(value, type | tuple)


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    names: list[str] = list(getattr(thing, "__dict__", ()))
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    found = [(name, getattr(thing, name, None)) for name in names if name != "__dict__"]
    return [(name, value) for name, value in found if not callable(value)]
