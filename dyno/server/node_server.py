"""`dyno.Node`: one node of a cluster, inside a Trio program.

    async with dyno.Node(name="n1", listen="127.0.0.1:7101", data="./n1") as node:
        ...                                     # it has joined, and serves

The block begins once the node serves, and its end is a clean stop. A node that must not go on (another
process took its name, the cluster refused it, its disk failed) ends the block with the error, plain and not
inside an ExceptionGroup, as an exception of the block itself does.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import trio

from dyno.config import PARTITIONS_MAX, Config
from dyno.errors import ConfigurationError
from dyno.protocol.birth import Birth
from dyno.protocol.node import Node as Core
from dyno.server.birth import open_core
from dyno.server.runner import Runner
from dyno.server.sockets import bind
from dyno.wire.address import parse_address
from dyno.wire.members import WEIGHT_MAX, WEIGHT_MIN, valid_name, valid_zone

if TYPE_CHECKING:
    from socket import socket

    from dyno.server.reads import MeteredEngine
    from dyno.storage.lmdb.directory import DataDirectory

_EVERY_INTERFACE = ("0.0.0.0", "::", "")  # noqa: S104 - to be refused as addresses, not to be used
_DRAIN_S = 5.0  # a clean stop takes no longer than this
# A library stays silent unless its user listens.
logging.getLogger("dyno").addHandler(logging.NullHandler())
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Node:
    """name: unique in the cluster. listen: "host:port", TCP and UDP, port 0 picks one. data: a directory,
    made when missing. join: addresses of members of the cluster to join; without any, it founds one or
    returns to the one that `data` knows. advertise: the address that others use, required when listening on
    every interface. config: a `Config`, or a mapping with its names. log(level, text) hears what happens; by
    default the logger "dyno" does. dedicated: this process does nothing else, so the node's loop may wait for
    its sockets itself, a millisecond at a time, before it lets other tasks run.

    Raises ConfigurationError when it cannot start as it was told to, StorageFailed when its disk fails.
    """

    def __init__(
        self,
        *,
        name: str,
        listen: str,
        data: str | os.PathLike[str],
        join: Sequence[str] | str = (),
        advertise: str | None = None,
        zone: str = "",
        weight: float = 1.0,
        partitions: int = 1024,
        config: Config | Mapping[str, Any] | None = None,
        log: Callable[[str, str], None] | None = None,
        dedicated: bool = False,
    ) -> None:
        _check_types(name=name, listen=listen, zone=zone, weight=weight, partitions=partitions)
        if not valid_name(name):
            raise ConfigurationError(
                f"the name {name!r} is not usable: 1 to 64 letters, digits, dots, dashes or underscores"
            )
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise ConfigurationError(
                f"the weight is a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}, not {weight}"
            )
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise ConfigurationError(f"there are 1 to {PARTITIONS_MAX} partitions, not {partitions}")
        if not valid_zone(zone):
            raise ConfigurationError("a zone's name has at most 64 characters, all of them printable")
        if not os.fspath(data):
            raise ConfigurationError("name a data directory")
        join = (join,) if isinstance(join, str) else tuple(join)
        for address in join:
            _check_address("join", address)
        host, port = _check_address("listen", listen, lowest_port=0)
        if advertise is not None and _check_address("advertise", advertise)[0] in _EVERY_INTERFACE:
            raise ConfigurationError(
                f"advertise: others cannot reach {advertise}; name an address of this host"
            )
        if advertise is None and host in _EVERY_INTERFACE:
            raise ConfigurationError(
                f"listening on every interface ({listen}) needs --advertise HOST:PORT, "
                f"the address that others use"
            )
        self.name = name
        self._host, self._port = host, port
        self._data = os.fspath(data)
        self._advertise = advertise
        self._join = join
        self._zone = zone
        self._weight = float(weight)
        self._partitions = partitions
        self._config = _check_config(config)
        self._log = log if log is not None else _log
        self._dedicated = dedicated
        self._address = ""
        self._directory: DataDirectory | None = None
        self._runner: Runner | None = None
        self._nursery_manager: Any = None

    @property
    def address(self) -> str:
        """The address that others use, "host:port"; known once the block has begun."""
        return self._address

    async def __aenter__(self) -> Self:
        listener, gossip = await bind(self._host, self._port)
        try:
            self._address = self._advertise or _with_port(self._host, listener.getsockname()[1])
            chance = random.SystemRandom()
            birth = Birth(
                name=self.name,
                address=self._address,
                zone=self._zone,
                weight=self._weight,
                partitions=self._partitions,
                seeds=self._join,
            )
            core, self._directory, engine = await trio.to_thread.run_sync(
                open_core, self._data, birth, self._config, chance
            )
            runner = self._runner = self._runner_of(core, engine, listener, gossip, chance)
        except BaseException:
            listener.close()
            gossip.close()
            raise
        await self._begin(runner)
        return self

    def _runner_of(
        self, core: Core, engine: MeteredEngine, listener: socket, gossip: socket, chance: random.Random
    ) -> Runner:
        assert self._directory is not None
        try:
            return Runner(
                core=core,
                engine=engine,
                config=self._config,
                listener=listener,
                gossip=gossip,
                random=random.Random(chance.getrandbits(64)),
                spawn=self._spawn,
                log=self._log,
                dedicated=self._dedicated,
            )
        except BaseException as error:
            self._directory.close()
            if isinstance(error, OSError):
                raise ConfigurationError(f"cannot start: {error.strerror or error}") from None
            raise

    def _spawn(self, *what: Any) -> None:
        self._nursery.start_soon(*what)

    async def _begin(self, runner: Runner) -> None:
        # Whatever mode the program runs Trio in: what comes out of this nursery is looked through at the end.
        self._nursery_manager = trio.open_nursery(strict_exception_groups=True)
        nursery = self._nursery = await self._nursery_manager.__aenter__()
        self._cancel = nursery.cancel_scope
        nursery.start_soon(runner.run)
        nursery.start_soon(runner.run_timer)
        try:
            await runner.joined.wait()
        except BaseException as error:
            await self._end(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(kind, error, traceback)

    async def _end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the tasks, then drain and close. Raises what stopped the node, if something did."""
        assert self._runner is not None and self._directory is not None
        self._cancel.cancel()
        failure: BaseException | None = None
        try:
            await self._nursery_manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            failure = _first(group, besides=error)
        try:
            if failure is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _DRAIN_S):
                    await self._runner.drain()
        finally:
            self._runner.close()
            self._directory.close()
        if failure is not None:
            raise failure


def _first(
    group: BaseExceptionGroup[BaseException], *, besides: BaseException | None
) -> BaseException | None:
    """What stopped the node: the first exception that is neither the block's own nor a cancellation."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            inner = _first(error, besides=besides)
            if inner is not None:
                return inner
        elif error is not besides and not isinstance(error, trio.Cancelled):
            return error
    return None


def _check_types(*, name: object, listen: object, zone: object, weight: object, partitions: object) -> None:
    """For embedders without a type checker; the command line gives the right ones."""
    for what, value in (("name", name), ("listen", listen), ("zone", zone)):
        if not isinstance(value, str):
            raise ConfigurationError(f"{what} is a str, not {type(value).__name__}")
    for what, number, kinds in (("weight", weight, (int, float)), ("partitions", partitions, (int,))):
        if not isinstance(number, kinds) or isinstance(number, bool):
            raise ConfigurationError(f"{what} is a number, not {type(number).__name__}")


def _check_address(what: str, address: str, *, lowest_port: int = 1) -> tuple[str, int]:
    try:
        return parse_address(address, lowest_port=lowest_port)
    except (TypeError, AttributeError):
        raise ConfigurationError(f"{what}: an address is a str, not {type(address).__name__}") from None
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}; an address looks like 127.0.0.1:7101") from None


def _check_config(config: Config | Mapping[str, Any] | None) -> Config:
    if config is None:
        return Config()
    try:
        if isinstance(config, Config):  # built directly, so its bounds were not checked yet
            config = msgspec.structs.asdict(config)
        return msgspec.convert(config, Config)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"configuration: {error}") from None


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log(level: str, text: str) -> None:
    logging.getLogger("dyno").log(_LEVELS[level], "%s", text)
