"""`dyno node`: one node as a process.

In: flags and a configuration file. Out: on stdout "dyno: NAME ready on HOST:PORT" once it serves; logs on
stderr. SIGTERM and Ctrl-C stop it cleanly, with exit code 0, at any time.

Guarantees: nothing on the disk is touched before every option is known to be right. Under `dyno cluster` the
node ends when the cluster's process does, however that ends (see `watch_lifeline`).
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dyno.cli import output
from dyno.cli.options import Version, completion
from dyno.cli.outcome import one_line

if TYPE_CHECKING:
    import trio

    from dyno.cli.settings import NodeSettings
    from dyno.server.node_server import Node

LIFELINE_VARIABLE = "DYNO_LIFELINE"  # set by `dyno cluster` for its children only

_SWITCH_INTERVAL_S = 0.001  # how long the storage thread may keep the loop from running
PATIENCE_S = 3.0  # then it is said that the node has not joined yet
_STOP_AT_MOST_S = 10.0  # a child whose parent is gone ends within this

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LEVEL_MEANINGS = {
    "debug": "every link and every state of a member",
    "info": "what happens",
    "warning": "what is not as it should be",
    "error": "what stops the node",
}


def node(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Unique in the cluster. Required.")] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="TCP and UDP alike; port 0 picks one. Required."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Its data, made when missing. Required.")
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A member of the cluster to join; may be repeated. Without, the node founds a cluster, or "
            "returns to the one that DIR knows.",
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The address that others use, if it is not that of --listen."),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="Z", help="Copies go to different zones before different nodes.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="W", help="Its share of the data, relative to others. Default 1.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Fixed when a cluster is founded. Default 1024.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="Tunables, and these options; flags beat the file."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="debug, info, warning or error. Default info.",
            autocompletion=completion(_LEVEL_MEANINGS),
        ),
    ] = None,
    version: Version = False,
) -> None:
    """Run one node, until SIGTERM or Ctrl-C stops it cleanly."""
    end_on_signals()  # until `_serve` listens to them
    watch_lifeline()

    from dyno.cli.settings import settings

    flags = {
        "name": name,
        "listen": listen,
        "data": data,
        "join": join or None,
        "advertise": advertise,
        "zone": zone,
        "weight": weight,
        "partitions": partitions,
        "log_level": log_level,
    }
    _run(settings(flags, Path(config) if config is not None else None))


def _run(chosen: NodeSettings) -> None:
    import trio

    from dyno.server.node_server import Node

    _set_up_process()
    assert isinstance(chosen.join, list)
    node = Node(
        name=chosen.name,
        listen=chosen.listen,
        data=chosen.data,
        join=chosen.join,
        advertise=chosen.advertise,
        zone=chosen.zone,
        weight=chosen.weight,
        partitions=chosen.partitions,
        config=chosen.config,
        log=_logger(chosen.log_level),
        dedicated=True,
    )
    trio.run(_serve, node, chosen.join)


async def _serve(node: Node, join: Sequence[str]) -> None:
    """From start-up to the end of a clean stop. Raises what stops the node, if something does."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            joined = trio.Event()
            nursery.start_soon(remind_of_joining, joined, join)
            async with node:  # its end drains, cancelled or not
                joined.set()
                output.announce(f"dyno: {node.name} ready on {node.address}")
                gc.collect()
                gc.freeze()  # what start-up made stays; no collection looks at it again
                gc.enable()
                await trio.sleep_forever()


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def remind_of_joining(joined: trio.Event, join: Sequence[str]) -> None:
    """A node that cannot join yet goes on trying, and says so once."""
    import trio

    with trio.move_on_after(PATIENCE_S):
        await joined.wait()
    if not joined.is_set():
        whom = (
            f"asking {', '.join(join)} again and again" if join else "waiting for the members that it knows"
        )
        logging.getLogger("dyno").info("has not joined its cluster yet; %s, until Ctrl-C", whom)


# ── the process ──


def _set_up_process() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass  # then there are fewer links at once


def end_on_signals() -> None:
    """Ctrl-C and SIGTERM end the process with code 0, for as long as it has nothing to clean up: before its
    loop listens to them, and after."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def watch_lifeline() -> None:
    """Stop this process when the one that started it is gone.

    `dyno cluster` keeps the writing end of a pipe and its children inherit the reading end, which the kernel
    closes with the parent, even after kill -9. A thread waits for that, so a busy loop cannot miss it.
    """
    descriptor = os.environ.pop(LIFELINE_VARIABLE, "")
    if descriptor.isascii() and descriptor.isdecimal():
        threading.Thread(target=_outlive_nobody, args=(int(descriptor),), daemon=True).start()


def _outlive_nobody(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1):
            pass
    except OSError:
        return  # no pipe of ours
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_AT_MOST_S)
    os._exit(1)


# ── the log ──


def _logger(level: str) -> Callable[[str, str], None]:
    """log(level, text) to stderr, as "HH:MM:SS level text"."""
    logging.raiseExceptions = False  # a stderr that is gone must not stop a node
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(datefmt="%H:%M:%S"))
    logger = logging.getLogger("dyno")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(_LEVELS[level])

    def log(level: str, text: str) -> None:
        logger.log(_LEVELS[level], "%s", text)

    return log


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time_of_day = self.formatTime(record, self.datefmt)
        return f"{time_of_day} {record.levelname.lower()} {one_line(record.getMessage())}"
