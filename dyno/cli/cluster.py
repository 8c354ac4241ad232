"""`dyno cluster`: a whole cluster of real node processes on this machine, for trying things out.

In: how many nodes, the first port, a directory. Out: running nodes n1, n2, …, and on stdout what a newcomer
needs: who is there, how to talk to them, how to restart one that was killed. Later starts with the same
directory bring the same cluster back, in whatever way it ended.

Guarantees: no child is left behind, neither by Ctrl-C and SIGTERM nor by kill -9 of this process; a node that
dies is reported and the others go on; a node that its user restarted by hand is the user's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from dyno.cli import invocation
from dyno.cli.node import end_on_signals
from dyno.cli.options import DEFAULT_NODE, Version, whole_number
from dyno.errors import ConfigurationError

HOST = "127.0.0.1"
NODES_MAX = 100

_FOUNDED = "founded"
_FOUNDED_TEXT = (
    "Says that n1 has founded the cluster of this directory: should n1 lose its data, it joins again.\n"
)


class Seat(NamedTuple):
    """One node's place. data: absolute."""

    name: str
    address: str
    data: Path

    def arguments(self, join: Sequence[str]) -> list[str]:
        """The words of its `dyno node`."""
        words = ["node", "--name", self.name, "--listen", self.address, "--data", str(self.data)]
        for address in join:
            words += ["--join", address]
        return words


def cluster(
    nodes: Annotated[str, typer.Option(metavar="COUNT", help="How many nodes.", show_default=True)] = "3",
    base_port: Annotated[
        str, typer.Option(metavar="PORT", help="The port of n1; n2 has the next one.", show_default=True)
    ] = "7101",
    data: Annotated[
        str, typer.Option(metavar="DIR", help="Made when missing, kept afterwards.", show_default=True)
    ] = "./dyno-data",
    version: Version = False,
) -> None:
    """Run a whole cluster on this machine, to try things out, until Ctrl-C or SIGTERM stops it."""
    count = whole_number(nodes, "--nodes", 1, NODES_MAX)
    first_port = whole_number(base_port, "--base-port", 1, 0x10000 - count)
    if not data:
        raise ConfigurationError("--data: the name of the directory is empty")
    directory = Path(data).absolute()
    seats = [
        Seat(f"n{number + 1}", f"{HOST}:{first_port + number}", directory / f"n{number + 1}")
        for number in range(count)
    ]
    end_on_signals()  # until the supervisor listens to them
    check_ports(seats)
    _make(directory)

    import trio

    from dyno.cli.supervisor import supervise

    founded = directory / _FOUNDED
    trio.run(supervise, seats, start_arguments(seats, founded), lambda: _mark_founded(founded))


def start_arguments(seats: Sequence[Seat], founded: Path) -> list[list[str]]:
    """The words of every node's start. The first founds the cluster and the others join those before them;
    directories that know the cluster return to it, whatever they are told to join.

    Once it was founded n1 is told to join as well, as long as any other node has data: should n1 have lost
    its own, it would found a second cluster.
    """
    arguments = []
    for number, seat in enumerate(seats):
        join = [earlier.address for earlier in seats[:number]]
        if number == 0 and founded.exists() and not all(_empty(other.data) for other in seats[1:]):
            join = [other.address for other in seats[1:]]
        arguments.append([*seat.arguments(join), "--log-level", "warning"])
    return arguments


def restart_line(seat: Seat, seats: Sequence[Seat]) -> str:
    """What its user types, in any shell, to start this node again."""
    return invocation.pasted(seat.arguments([other.address for other in seats if other is not seat]))


def welcome(seats: Sequence[Seat], pids: Sequence[int]) -> Iterator[str]:
    """What is printed once all serve."""
    yield f"dyno: cluster of {len(seats)} ready"
    width = max(len(seat.name) for seat in seats)
    for seat, pid in zip(seats, pids, strict=True):
        yield f"  {seat.name:<{width}}  {seat.address}  pid {pid}"
    at = [] if seats[0].address == DEFAULT_NODE else ["--node", seats[0].address]
    yield "Talk to it from another shell:"
    yield f"  {invocation.pasted(['put', 'fruit', 'apple', 'red', *at])}"
    yield f"  {invocation.pasted(['get', 'fruit', 'apple', *at])}"
    yield f"  {invocation.pasted(['status', *at])}"
    if len(seats) > 1:
        yield f"While {seats[0].name} is down, add --node {seats[1].address}."
    yield "Kill a node (kill -9 PID) and see that the others go on; these lines restart one:"
    for seat in seats:
        yield f"  {restart_line(seat, seats)}"
    yield f"Ctrl-C stops all of them; their data stays in {seats[0].data.parent}."


def check_ports(seats: Sequence[Seat]) -> None:
    """Refuse to start any node if one cannot have its port: the others might else join, or be joined by, a
    cluster that runs there."""
    for seat in seats:
        port = int(seat.address.rpartition(":")[2])
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise ConfigurationError(
                        f"{seat.name} cannot listen on {seat.address}: {error.strerror}; "
                        f"is another cluster running? Choose another --base-port"
                    ) from None


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the directory {directory}: {error.strerror}") from None


def _empty(directory: Path) -> bool:
    try:
        return not any(directory.iterdir())
    except OSError:
        return True


def _mark_founded(founded: Path) -> None:
    if not founded.exists():
        founded.write_text(_FOUNDED_TEXT)
