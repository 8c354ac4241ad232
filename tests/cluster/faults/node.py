"""One `dyno node` of a trial: a process and its data directory, and everything that can happen to them.

Where this process is root the directory is a file system of its own, in memory and small, so that it can be
filled to the last byte; elsewhere it is a plain directory. Whatever happens, `close` ends the process by its
id and takes the file system away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dyno.cli.node import LIFELINE_VARIABLE

DISK_BYTES = 256 << 20
STOP_WITHIN_S = 30.0
_FILLER = "filler"
_SOURCE = "dyno-faults"
CONFIG = "storage_reserve_bytes = 1048576\n"  # TOML


class FaultyNode:
    """starts: how many there were. lifeline: one end of a pipe; the node ends when the other is closed."""

    def __init__(
        self,
        name: str,
        *,
        address: str,
        path: Path,
        join: Sequence[str],
        words: Sequence[str],
        lifeline: int,
        own_disk: bool,
        founds: bool,
        config: str = CONFIG,
    ) -> None:
        self.name = name
        self.address = address
        self.data = path / name
        self.log = path / f"{name}.log"
        self.starts = 0
        self._kept = path / f"{name}.kept"
        self._join = join
        self._words = words
        self._lifeline = lifeline
        self._own_disk = own_disk
        self._founds = founds
        self._process: subprocess.Popen[bytes] | None = None
        self._config = path / f"{name}.toml"
        self._config.write_text(config)
        self.data.mkdir()
        if own_disk:
            options = f"size={DISK_BYTES},mode=0700"
            _run("mount", "-t", "tmpfs", "-o", options, f"{_SOURCE}-{os.getpid()}", str(self.data))

    # ── the process ──

    @property
    def running(self) -> bool:
        """A paused one, too."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """The founder's first start is without anybody to join; a later one may have lost its directory."""
        assert not self.running
        command = [*self._words, sys.executable, "-m", "dyno", "node", "--name", self.name]
        command += ["--listen", self.address, "--data", str(self.data / "data")]
        command += ["--config", str(self._config), "--log-level", "info"]
        if self.starts or not self._founds:
            for address in self._join:
                command += ["--join", address]
        self.starts += 1
        with self.log.open("a") as log:
            print(f"── start {self.starts} ──", file=log, flush=True)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, LIFELINE_VARIABLE: str(self._lifeline)},
                pass_fds=(self._lifeline,),
                start_new_session=True,  # Ctrl-C is for this process; it ends its nodes itself
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """As an operator does; its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(STOP_WITHIN_S)
        self._process = None
        return code

    def obituary(self) -> str:
        """How it ended by itself, "" if it did not."""
        if self._process is None or (code := self._process.poll()) is None:
            return ""
        last = self.log.read_text().splitlines()[-3:]
        return f"{self.name} ended by itself with {code}: {' / '.join(last)}"

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # ── the directory ──

    @property
    def directory(self) -> Path:
        return self.data / "data"

    def fill(self) -> None:
        """Not one byte more fits."""
        assert self._own_disk
        with (self.data / _FILLER).open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(64 << 10))

    def free(self) -> None:
        (self.data / _FILLER).unlink(missing_ok=True)

    def keep_copy(self) -> None:
        """For `restore`. The process must not run."""
        assert not self.running
        shutil.rmtree(self._kept, ignore_errors=True)
        if self.directory.exists():
            shutil.copytree(self.directory, self._kept)

    @property
    def has_copy(self) -> bool:
        return self._kept.exists()

    def restore(self) -> None:
        """The directory is what it was when the copy was made."""
        assert not self.running
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(self._kept, self.directory)

    def wipe(self) -> None:
        assert not self.running
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        self.kill()
        if self._own_disk:
            _run("umount", str(self.data), check=False)


def why_no_disks() -> str:
    """ "" where nodes can have disks of their own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a disk that can be filled needs Linux and root"
    return "" if shutil.which("mount") else "a disk that can be filled needs `mount`"


def sweep() -> None:
    """Take down the disks of trials that were killed."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, path = line.split()[:2]
        name, _, pid = source.rpartition("-")
        if name == _SOURCE and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _run("umount", path, check=False)


def _run(*words: str, check: bool = True) -> None:
    """In a session of its own, so that Ctrl-C does not reach what sets up and takes down."""
    subprocess.run(words, capture_output=True, check=check, start_new_session=True)
