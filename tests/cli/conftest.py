"""A node in this process, and command lines run against it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import trio

import dyno
from dyno.cli.app import run


class Ended(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


Dyno = Callable[..., Ended]


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Dyno:
    """Runs one command line in this process."""
    monkeypatch.delenv("DYNO_NODES", raising=False)

    def dyno(*words: str) -> Ended:
        code = run(words)
        captured = capfdbinary.readouterr()
        return Ended(code, captured.out, captured.err.decode())

    return dyno


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of one node, in a thread of its own."""
    ready: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]] = queue.SimpleQueue()

    async def serve() -> None:
        data = str(tmp_path_factory.mktemp("node"))
        with trio.CancelScope() as scope:
            async with dyno.Node(name="n1", listen="127.0.0.1:0", data=data) as node:
                ready.put((node.address, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    address, token, scope = ready.get(timeout=30)
    yield address
    token.run_sync_soon(scope.cancel)
    thread.join()
