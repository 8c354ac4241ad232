from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from dyno.cli.node import remind_of_joining

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.cli.conftest import Dyno

LOOPBACK = ("--listen", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """`dyno node` takes over the process; give it back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--name is missing"),
        (("--name", "n1"), "--listen is missing"),
        (("--name", "n 1", *LOOPBACK), "the name 'n 1' is not usable"),
        (("--name", "x" * 65, *LOOPBACK), "is not usable"),
        (("--name", "n1", "--listen", "7101"), "listen: '7101' is not HOST:PORT"),
        (("--name", "n1", "--listen", "a:70000"), "the port must be a number from 0 to 65535"),
        (("--name", "n1", "--listen", "::1:7101"), "in brackets, as in [::1]:7101"),
        (("--name", "n1", "--listen", "0.0.0.0:7101"), "needs --advertise HOST:PORT"),
        (("--name", "n1", "--listen", "[::]:7101"), "needs --advertise HOST:PORT"),
        (("--name", "n1", *LOOPBACK, "--advertise", "a:0"), "advertise: 'a:0'"),
        (("--name", "n1", *LOOPBACK, "--join", "nowhere"), "join: 'nowhere' is not HOST:PORT"),
        (("--name", "n1", *LOOPBACK, "--weight", "-1"), "the weight"),
        (("--name", "n1", *LOOPBACK, "--weight", "nan"), "the weight"),
        (("--name", "n1", *LOOPBACK, "--weight", "much"), "--weight: 'much' is not a number"),
        (("--name", "n1", *LOOPBACK, "--partitions", "0"), "partitions"),
        (("--name", "n1", *LOOPBACK, "--partitions", "65537"), "partitions"),
        (("--name", "n1", *LOOPBACK, "--partitions", "all"), "--partitions: 'all' is not a whole number"),
        (("--name", "n1", *LOOPBACK, "--log-level", "loud"), "the log level 'loud' is unknown"),
        (("--name", "n1", *LOOPBACK, "--replace", "n2"), "there is no option --replace"),
        (("--name", "n1", *LOOPBACK, "extra"), "no argument to give, so what is 'extra'?"),
        (("--name", "n1", *LOOPBACK, "--config", "none.toml"), "cannot read the configuration none.toml"),
    ],
)
def test_a_wrong_option_is_refused_before_the_disk_is_touched(
    command: Dyno, words: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    ended = command("node", "--data", str(tmp_path / "n1"), *words)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.count("\n") == 1
    assert complaint in ended.err
    assert not (tmp_path / "n1").exists()


def test_a_node_whose_parent_is_gone_stops_by_itself(tmp_path: Path) -> None:
    """The pipe of `dyno cluster`, closed before the child has even begun."""
    reading, writing = os.pipe()
    os.close(writing)
    ended = subprocess.run(
        [sys.executable, "-m", "dyno", "node", "--name", "n1", *LOOPBACK, "--data", str(tmp_path / "n1")],
        env={**os.environ, "DYNO_LIFELINE": str(reading)},
        pass_fds=(reading,),
        capture_output=True,
        timeout=30,
        check=False,
    )
    os.close(reading)
    assert ended.returncode == 0


def test_a_lifeline_that_is_none_is_ignored(command: Dyno, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_LIFELINE", "999999")
    assert command("node").code == 2


async def test_a_node_that_cannot_join_yet_says_so_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    with caplog.at_level(logging.INFO, "dyno"):
        with trio.move_on_after(60):
            await remind_of_joining(trio.Event(), ["10.0.0.1:7101", "10.0.0.2:7101"])
        (said,) = caplog.messages
        assert "asking 10.0.0.1:7101, 10.0.0.2:7101 again and again" in said
        joined = trio.Event()
        joined.set()
        await remind_of_joining(joined, [])
        assert caplog.messages == [said]
