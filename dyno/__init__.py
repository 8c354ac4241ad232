"""dyno: a Dynamo-style, eventually consistent key-value store that stays writable.

    async with dyno.connect("127.0.0.1:7101") as client:
        carts = client.bucket("carts")
        record = await carts.get("alice")
        await carts.put("alice", {"milk": 1}, context=record.context)

All names that users need are here. Those with weight behind them are loaded when first used, so that
`import dyno` is cheap: it brings neither an event loop nor a storage engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dyno._version import __version__
from dyno.errors import (
    ConfigurationError,
    ConflictError,
    ConnectFailed,
    DynoError,
    InvalidRequest,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
    StorageFailed,
)

if TYPE_CHECKING:
    from dyno.client.bucket import Bucket
    from dyno.client.client import Client, connect
    from dyno.server.node_server import Node
    from dyno.session.results import PutResult, Record

__all__ = [
    "Bucket",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ConnectFailed",
    "DynoError",
    "InvalidRequest",
    "Node",
    "Overloaded",
    "PutResult",
    "QuorumNotMet",
    "Record",
    "RequestTimeout",
    "StorageFailed",
    "__version__",
    "connect",
]

_LAZY = {
    "Bucket": "dyno.client.bucket",
    "Client": "dyno.client.client",
    "Node": "dyno.server.node_server",
    "PutResult": "dyno.session.results",
    "Record": "dyno.session.results",
    "connect": "dyno.client.client",
}


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'dyno' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # the next look is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
