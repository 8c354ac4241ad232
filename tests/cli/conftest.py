"""One node, and command lines that run in this process and talk to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

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
    """The address of a cluster of one node, in a process of its own."""
    words = ["node", "--name", "n1", "--listen", "127.0.0.1:0", "--log-level", "warning"]
    words += ["--data", str(tmp_path_factory.mktemp("node"))]
    with subprocess.Popen(
        [sys.executable, "-m", "dyno", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("dyno: n1 ready on ").strip()
        finally:
            process.terminate()
