"""A computer on which a node can run: an address, a disk that outlives processes, at most one process.

In: the user's words for the node. Out: processes on the same engine, one after another. `kill` loses what is
in memory and keeps what was committed; `stop` ends cleanly; `start` runs the next process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.protocol.birth import Birth, node_on
from dyno.simulator.process import COMMIT_S, Process
from dyno.storage.memory import MemoryEngine

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.node import Node
    from dyno.simulator.kernel import Kernel
    from dyno.simulator.network import Network
    from dyno.simulator.trace import Trace


class Machine:
    """birth: the words that every process here is started with. engine: the disk. commit_s: least and most
    seconds that a commit takes, and seconds_per_record more for each record in it. seconds_per_read: where it
    is not 0, requests wait in line until the disk has read their record."""

    def __init__(
        self, birth: Birth, *, config: Config, kernel: Kernel, network: Network, trace: Trace
    ) -> None:
        self.name = birth.name
        self.birth = birth
        self.config = config
        self.engine = MemoryEngine()
        self.commit_s = COMMIT_S
        self.seconds_per_record = 0.0
        self.seconds_per_read = 0.0
        self.starts = 0
        self._kernel = kernel
        self._network = network
        self._trace = trace
        self._process: Process | None = None
        network.plug(birth.name, birth.address)

    @property
    def address(self) -> str:
        return self.birth.address

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.ended is None

    @property
    def ended(self) -> str | None:
        """Why the last process is no more; None while it runs."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.ended

    @property
    def node(self) -> Node:
        """The node of the present, or else of the last process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.node

    @property
    def ready(self) -> bool:
        """A process runs that has joined, and has on the disk what it joined."""
        return self.running and self.node.ready

    def is_linked(self, address: str) -> bool:
        """Whether a process runs here that can ask the node at that address."""
        return self.running and self._process is not None and self._process.is_linked(address)

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        self.starts += 1
        random = self._kernel.random(f"{self.name}/{self.starts}")
        self._process = Process(
            node=node_on(self.engine, self.birth, config=self.config, random=random),
            machine=self,
            kernel=self._kernel,
            network=self._network,
            trace=self._trace,
            random=self._kernel.random(f"{self.name}/{self.starts}/machine"),
        )
        self._process.start()

    def stop(self) -> None:
        """Begin a clean end; it takes a moment."""
        assert self._process is not None
        self._process.stop()

    def kill(self, *, commits: bool | None = None) -> None:
        assert self._process is not None
        self._process.kill(commits=commits)
