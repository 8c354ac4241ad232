"""The bar on a terminal."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from dyno.cli.simulate.progress import Display, Unseen, display
from dyno.cli.simulate.workers import Far
from tests.cli.simulate.test_report import result, violation


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_shows_seeds_done_and_failed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    screen = Terminal()
    with Display(Console(file=screen, force_terminal=True, width=100), range(4)) as shown:
        shown.take(Far(0, 0.5))
        assert shown._progress.tasks[0].completed == 0.5
        shown.take(result(0))
        shown.take(result(1, violation("x")))
        shown.print("seed 1: failed")
        assert shown._progress.tasks[0].completed == 2
        assert shown._progress.tasks[0].fields["text"] == "2 of 4 seeds, 1 failed"
    assert "simulating" in screen.getvalue()
    assert capfdbinary.readouterr().out == b"seed 1: failed\n"


def test_nobody_sees_a_bar_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with display(range(2)) as shown:
        assert type(shown) is Unseen
        shown.take(Far(0, 0.5))
        shown.print("seed 0: …")
    assert capfdbinary.readouterr().out == "seed 0: …\n".encode()


def test_somebody_sees_one_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert type(display(range(2))) is Display
    monkeypatch.setenv("TERM", "dumb")
    assert type(display(range(2))) is Unseen
