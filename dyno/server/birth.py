"""From a data directory and the user's words to a core that can run.

What a directory is born with never changes: its id, the node's name, zone and weight (until the ring can
change, other words for them are refused). What it remembers beyond that is the membership's
(protocol.identity). Every process start draws a new start id.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.errors import ConfigurationError
from dyno.protocol.identity import Remembered, remembered
from dyno.protocol.membership import Membership
from dyno.protocol.node import Node as Core
from dyno.server.reads import MeteredEngine
from dyno.storage.engine import CorruptRecord, Engine, StorageBroken, StorageFull
from dyno.storage.lmdb.directory import DataDirectory, open_directory
from dyno.wire.codec import ProtocolError
from dyno.wire.members import ALIVE, JOINING, Member

_ID_BYTES = 16
_START_BYTES = 8
_SEED_BITS = 256


class Birth(NamedTuple):
    """The user's words. address: the advertised one. seeds: what --join named."""

    name: str
    address: str
    zone: str
    weight: float
    partitions: int
    seeds: tuple[str, ...]


def open_core(
    path: str, birth: Birth, config: Config, chance: random.Random
) -> tuple[Core, DataDirectory, MeteredEngine]:
    """Open (or make) the directory and build the node on it. Blocks on the disk. Raises ConfigurationError
    for a directory that cannot be this node's, locked ones among them."""
    directory = open_directory(
        path, size_max=config.storage_bytes_max, reserve_bytes=config.storage_reserve_bytes
    )
    engine = MeteredEngine(directory.engine)
    try:
        identity = _directory_id(path, engine, birth, chance)
        memory = remembered(engine.get_meta, members_max=config.members_max)
        if memory.cluster and memory.own(birth.name) is None and not birth.seeds:
            raise ConfigurationError(
                f"{path} began to join a cluster and never finished: name a member of it with --join"
            )
        return _core(identity, memory, birth, engine, config, chance), directory, engine
    except (CorruptRecord, ProtocolError) as error:
        directory.close()
        raise ConfigurationError(f"the data directory {path} is damaged: {error}") from error
    except (StorageFull, StorageBroken) as error:
        directory.close()
        raise ConfigurationError(f"cannot write to the data directory {path}: {error}") from error
    except BaseException:
        directory.close()
        raise


def _directory_id(path: str, engine: Engine, birth: Birth, chance: random.Random) -> bytes:
    """The id that the directory was born with; checks the words that were fixed then."""
    words = {"name": birth.name, "zone": birth.zone, "weight": repr(birth.weight)}
    identity = engine.get_meta("directory")
    if identity is None:
        identity = chance.randbytes(_ID_BYTES)
        facts = {word: value.encode() for word, value in words.items()}
        engine.write_batch({}, {"directory": identity, **facts})
        return identity
    for word, value in words.items():
        born = (engine.get_meta(word) or b"").decode()
        if born != value:
            raise ConfigurationError(
                f"the data directory {path} was born with {word} {born!r}, not {value!r}: "
                f"start it with that, or choose another directory"
            )
    return identity


def _core(
    identity: bytes,
    memory: Remembered,
    birth: Birth,
    engine: Engine,
    config: Config,
    chance: random.Random,
) -> Core:
    own = memory.own(birth.name)
    start = chance.randbytes(_START_BYTES)
    me = Member(
        name=birth.name,
        directory=identity,
        seat=own.seat if own is not None else chance.randbytes(_ID_BYTES),
        start=start,
        stamp=memory.stamp,
        incarnation=0,
        state=JOINING,
        liveness=ALIVE,
        address=birth.address,
        zone=birth.zone,
        weight=birth.weight,
    )
    return Core(
        membership=lambda holds_data: Membership(
            me=me,
            cluster=memory.cluster,
            partitions=memory.partitions or birth.partitions,
            known=memory.members,
            seeds=birth.seeds,
            config=config,
            random=random.Random(chance.getrandbits(_SEED_BITS)),
            holds_data=holds_data,
        ),
        engine=engine,
        minter=Minter(start),
        config=config,
        random=random.Random(chance.getrandbits(_SEED_BITS)),
    )
