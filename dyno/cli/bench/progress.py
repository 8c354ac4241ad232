"""What a benchmark does right now, on a terminal's stderr: one line that is gone when it ends.

In: a `Loading` or a `Tally` that somebody else fills. Out: a bar, and beside it the records so far, or time,
throughput at present, operations and errors. It draws twice a second in a task of its own, and says how much
CPU time that took, so that it can be left out of the client's. `Unseen` is for where nobody looks; it is
silent and does not load Rich.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from dyno.cli.bench.loading import Loading
    from dyno.cli.bench.loop import Tally

REDRAW_S = 0.5

_ECHO_CELLS = len("^C") + 1


@asynccontextmanager
async def shown_by(follow: Callable[..., Awaitable[None]], *arguments: Any) -> AsyncIterator[None]:
    """Run a display's `follow_...` beside the body."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, *arguments)
        yield
        nursery.cancel_scope.cancel()


class Unseen:
    """A display for nobody."""

    cpu_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def follow_loading(self, loading: Loading, records: int) -> None:
        pass

    async def follow_run(self, what: str, tally: Tally, seconds: float) -> None:
        pass


class Display(Unseen):
    """Leaving it clears the line, whatever the reason. cpu_s: what drawing has cost so far."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        # A terminal echoes ^C behind the line; where that began another line, ours would stay when it ends.
        console.width = max(1, console.width - _ECHO_CELLS)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, text="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    async def follow_loading(self, loading: Loading, records: int) -> None:
        while True:
            self._draw("loading", loading.done, records, f"{loading.done:,} of {records:,} records")
            await trio.sleep(REDRAW_S)

    async def follow_run(self, what: str, tally: Tally, seconds: float) -> None:
        began = last = trio.current_time()
        operations = 0
        rate = 0.0
        while True:
            elapsed = trio.current_time() - began
            self._draw(what, min(elapsed, seconds), seconds, line(elapsed, seconds, rate, tally))
            await trio.sleep(REDRAW_S)
            now, before = trio.current_time(), operations
            operations = tally.operations
            rate = (operations - before) / (now - last)
            last = now

    def _draw(self, what: str, done: float, total: float, text: str) -> None:
        began = time.thread_time()
        self._progress.update(
            self._task, description=what, completed=done, total=total, text=text, refresh=True
        )
        self.cpu_s += time.thread_time() - began


def line(elapsed_s: float, seconds: float, rate: float, tally: Tally) -> str:
    """What stands beside the bar of a run. rate: operations per second at present."""
    errors = tally.failures
    return (
        f"{elapsed_s:.1f} of {seconds:g} s  {rate:,.0f} ops/s  {tally.operations:,} done  "
        f"{errors:,} {'error' if errors == 1 else 'errors'}"
    )
