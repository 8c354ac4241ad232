"""What a node does by itself, beside the requests of clients: hand over hints, compare copies, reap.

Every such part is a machine with the same verbs, so that the node need not know what it is about. Its own
requests to other nodes carry ids from `number << ID_BITS` on, by which their answers find their way back to
it; the coordinator's ids lie below all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from dyno.protocol.outbox import Outbox

ID_BITS: Final = 56


class Background(ABC):
    """number: 1..255, of this part alone.

    A base and no protocol: after every turn a node asks all its parts when they are due, which costs little
    only where the compiler knows whom it calls."""

    number: ClassVar[int]

    @abstractmethod
    def doors(self) -> Mapping[type, Callable[..., None]]:
        """Who takes a request of which class: (inbound link, message, now, out)."""

    @abstractmethod
    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """An answer to a request of this part; one that is late or doubled means nothing."""

    @abstractmethod
    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """A node can be asked now."""

    @abstractmethod
    def link_down(self, node: str, now: float, out: Outbox) -> None:
        """A node cannot be asked any more."""

    @abstractmethod
    def replan(self, now: float, out: Outbox) -> None:
        """The ring is another one now."""

    @abstractmethod
    def tick(self, now: float, out: Outbox) -> None:
        """At `deadline`."""

    @abstractmethod
    def deadline(self) -> float:
        """Infinity for none."""


def part_of(id: int) -> int:
    """The number of the part that asked under this id; 0: the coordinator."""
    return id >> ID_BITS
