"""From an engine and the user's words to a node that can run.

What a directory is born with never changes: the node's name, zone and weight (until the ring can change,
other words for them are refused), and its id, unless it turns out to be an old copy of itself. What
it remembers beyond that is the membership's (`identity`).
Every process start draws a new start id.

In: an engine that is open, the words, a Random for all that is drawn. Out: a node, not started yet. Raises
ConfigurationError for words that the engine was not born with, and lets the engine's own errors and
ProtocolError (a damaged member table) through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dyno.causality.dots import START_BYTES
from dyno.causality.mint import Minter
from dyno.errors import ConfigurationError
from dyno.protocol.identity import DIRECTORY, FORMER, remembered
from dyno.protocol.membership import Membership
from dyno.protocol.node import Node
from dyno.wire.members import ALIVE, JOINING, Member

if TYPE_CHECKING:
    from random import Random

    from dyno.config import Config
    from dyno.storage.engine import Engine

_ID_BYTES = 16


class Birth(NamedTuple):
    """The user's words. address: the advertised one. partitions: of a cluster that is founded now. seeds:
    whom to join by."""

    name: str
    address: str
    zone: str
    weight: float
    partitions: int
    seeds: tuple[str, ...]


def node_on(engine: Engine, birth: Birth, *, config: Config, random: Random) -> Node:
    """The node that lives on this engine; a new engine is given its identity, in one commit."""
    directory = _directory_id(engine, birth, random)
    memory = remembered(engine.get_meta, members_max=config.members_max)
    own = memory.own(birth.name)
    if memory.cluster and own is None and not birth.seeds:
        raise ConfigurationError("it began to join a cluster and never finished: name a member with --join")
    start = random.randbytes(START_BYTES)
    me = Member(
        name=birth.name,
        directory=directory,
        seat=own.seat if own is not None else random.randbytes(_ID_BYTES),
        start=start,
        stamp=memory.stamp,
        incarnation=0,
        state=JOINING,
        liveness=ALIVE,
        address=birth.address,
        zone=birth.zone,
        weight=birth.weight,
    )
    return Node(
        membership=lambda holds_data: Membership(
            me=me,
            cluster=memory.cluster,
            partitions=memory.partitions or birth.partitions,
            known=memory.members,
            seeds=birth.seeds,
            config=config,
            random=random,
            holds_data=holds_data,
            former=engine.get_meta(FORMER) or b"",
        ),
        engine=engine,
        minter=Minter(start),
        config=config,
        random=random,
        former=own.address if own is not None and own.address != birth.address else None,
    )


def _directory_id(engine: Engine, birth: Birth, random: Random) -> bytes:
    """The id of the directory; checks the words that were fixed when it was born."""
    words = {"name": birth.name, "zone": birth.zone, "weight": repr(birth.weight)}
    directory = engine.get_meta(DIRECTORY)
    if directory is None:
        directory = random.randbytes(_ID_BYTES)
        facts = {word: value.encode() for word, value in words.items()}
        engine.write_batch({}, {DIRECTORY: directory, **facts})
        return directory
    for word, value in words.items():
        born = (engine.get_meta(word) or b"").decode()
        if born != value:
            raise ConfigurationError(
                f"it was born with {word} {born!r}, not {value!r}: start it with that, or choose another"
            )
    return directory
