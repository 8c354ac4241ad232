"""What a simulation does right now: a bar on a terminal's stderr that is gone when it ends.

In: news of the workers. Out: the bar, with how many seeds are done and failed; lines for stdout go above it.
`Unseen` is for where nobody looks, and does not load Rich.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dyno.cli import output
from dyno.cli.simulate.workers import Far, Result

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console


class Unseen:
    """A display for nobody. seen: whether somebody sees how far it is."""

    seen = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def take(self, news: Far | Result) -> None:
        pass

    def print(self, line: str) -> None:
        output.line(line)
        output.flush()


class Display(Unseen):
    """Leaving it clears the line, whatever the reason."""

    seen = True

    def __init__(self, console: Console, seeds: range) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._seeds = len(seeds)
        self._done = 0
        self._failed = 0
        self._shares: dict[int, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._task = self._progress.add_task("simulating", total=self._seeds, text=self._text())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def take(self, news: Far | Result) -> None:
        if isinstance(news, Far):
            self._shares[news.seed] = news.share
        else:
            self._shares.pop(news.seed, None)
            self._done += 1
            self._failed += bool(news.outcome.violations)
        completed = self._done + sum(self._shares.values())
        self._progress.update(self._task, completed=completed, text=self._text())

    def print(self, line: str) -> None:
        self._progress.stop()  # the bar is not to stand in the middle of the line
        super().print(line)
        self._progress.start()

    def _text(self) -> str:
        return f"{self._done:,} of {self._seeds:,} seeds, {self._failed:,} failed"


def display(seeds: range) -> Unseen:
    if sys.stderr is None or not sys.stderr.isatty():
        return Unseen()
    from rich.console import Console

    console = Console(stderr=True)
    return (
        Unseen() if console.is_dumb_terminal else Display(console, seeds)
    )  # a line that cannot be drawn again
