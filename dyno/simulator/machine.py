"""A computer on which a node can run: an address, a clock, a lasting disk, at most one process at a time.

In: the user's words for the node. Out: processes on the same disk, one after another. `kill` loses what is
in memory and keeps what was committed; `stop` ends cleanly; `start` runs the next process, or says why it
cannot. `pause` stops it as SIGSTOP does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.errors import ConfigurationError
from dyno.protocol.birth import Birth, node_on
from dyno.simulator.clock import Clock
from dyno.simulator.disk import Disk
from dyno.simulator.process import COMMIT_S, Process
from dyno.storage.engine import StorageBroken, StorageFull

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.node import Node
    from dyno.simulator.kernel import Kernel
    from dyno.simulator.network import Network
    from dyno.simulator.trace import Trace


class Machine:
    """name: of the machine; its node's is in `birth`, the words that every process here is started with.
    engine: the disk. commit_s: least and most seconds that a commit takes, and seconds_per_record more for
    each record in it. seconds_per_read: where it is not 0, requests wait in line until the disk has read
    their record."""

    def __init__(
        self,
        name: str,
        birth: Birth,
        *,
        config: Config,
        kernel: Kernel,
        network: Network,
        trace: Trace,
        disk: Disk | None = None,
    ) -> None:
        self.name = name
        self.birth = birth
        self.config = config
        self.engine = disk or Disk()
        self.clock = Clock(kernel)
        self.commit_s = COMMIT_S
        self.seconds_per_record = 0.0
        self.seconds_per_read = 0.0
        self.starts = 0
        self._kernel = kernel
        self._network = network
        self._trace = trace
        self._process: Process | None = None
        self._refused: str | None = None  # why the last start came to nothing
        network.plug(name, birth.address)

    @property
    def address(self) -> str:
        return self.birth.address

    @property
    def running(self) -> bool:
        return self._refused is None and self._process is not None and self._process.ended is None

    @property
    def paused(self) -> bool:
        return self._process is not None and self._process.paused

    @property
    def ended(self) -> str | None:
        """Why the last process is no more; None while it runs."""
        assert self.starts, f"{self.name} was never started"
        if self._refused is not None or self._process is None:
            return self._refused
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
        """Run a process. One that its disk or its words do not let come up has `ended` at once."""
        assert not self.running, f"{self.name} runs already"
        self.starts += 1
        self._refused = None
        self._network.power_on(self.name)
        random = self._kernel.random(f"{self.name}/{self.starts}")
        try:
            node = node_on(self.engine, self.birth, config=self.config, random=random)
        except (ConfigurationError, StorageFull, StorageBroken) as error:
            self._refused = f"it could not start: {error}"
            self._trace.note(self._kernel.now, self.name, "", self._refused)
            return
        self._process = Process(
            node=node,
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

    def kill(self, *, commits: bool | None = None, after_effects: int = 0) -> None:
        """after_effects: how many more messages, datagrams, links and batches for the disk it sees to."""
        assert self._process is not None
        self._process.kill(commits=commits, after_effects=after_effects)

    def pause(self) -> None:
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        assert self._process is not None
        self._process.resume()
