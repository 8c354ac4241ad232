"""From a data directory and the user's words to a core that can run; the words of all that can be wrong."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dyno.errors import ConfigurationError
from dyno.protocol.birth import Birth, node_on
from dyno.server.reads import MeteredEngine
from dyno.storage.engine import CorruptRecord, StorageBroken, StorageFull
from dyno.storage.lmdb.directory import DataDirectory, open_directory
from dyno.wire.codec import ProtocolError

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.node import Node as Core

_SEED_BITS = 256


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
        core = node_on(engine, birth, config=config, random=random.Random(chance.getrandbits(_SEED_BITS)))
    except BaseException as error:
        directory.close()
        if isinstance(error, ConfigurationError):
            raise ConfigurationError(f"the data directory {path}: {error}") from None
        if isinstance(error, CorruptRecord | ProtocolError):
            raise ConfigurationError(f"the data directory {path} is damaged: {error}") from error
        if isinstance(error, StorageFull | StorageBroken):
            raise ConfigurationError(f"cannot write to the data directory {path}: {error}") from error
        raise
    return core, directory, engine
