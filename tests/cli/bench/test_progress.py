from __future__ import annotations

import io
import re
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from rich.console import Console

from dyno.cli.bench.loading import Loading
from dyno.cli.bench.loop import Tally
from dyno.cli.bench.progress import Display, Unseen, line, shown_by
from dyno.errors import DynoError
from dyno.workload.payload import Payload

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.cli.bench.conftest import Shelf


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def tally(operations: int, errors: int = 0) -> Tally:
    made = Tally(("read",))
    for _ in range(operations):
        made.latencies["read"].record(1000)
    for _ in range(errors):
        made.failed(DynoError("no"))
    return made


def test_the_line_fits_beside_a_bar() -> None:
    assert line(4.2, 10.0, 12_345.6, tally(2000)) == "4.2 of 10 s  12,346 ops/s  2,000 done  0 errors"
    assert line(4.2, 0.5, 0.0, tally(0, 1)).endswith("0 done  1 error")


async def test_a_load_shows_how_far_it_is(shelf: Shelf, autojump_clock: MockClock) -> None:
    console = terminal()
    loading = Loading(shelf, Payload(Random(1), 10), value_bytes=10, keep_contexts=False)
    with Display(console) as display:
        async with shown_by(display.follow_loading, loading, 1000):
            await trio.testing.wait_all_tasks_blocked()
            assert "loading" in shown(console)
            assert "0 of 1,000 records" in shown(console)
            loading.done = 500
            await trio.sleep(0.7)
    assert "500 of 1,000 records" in shown(console)
    assert display.cpu_s > 0


async def test_a_run_shows_time_rate_operations_and_errors(autojump_clock: MockClock) -> None:
    console, now = terminal(), tally(100, 2)
    with Display(console) as display:
        async with shown_by(display.follow_run, "workload c", now, 10.0):
            await trio.sleep(0.6)
            for _ in range(400):
                now.latencies["read"].record(1000)
            await trio.sleep(0.5)
    last = shown(console).rpartition("workload c")[2]
    assert "1.0 of 10 s  800 ops/s  500 done  2 errors" in last
    assert len(max(shown(console).replace("\r", "\n").splitlines(), key=len)) < 120


async def test_the_line_is_gone_at_the_end_whatever_ends_it(autojump_clock: MockClock) -> None:
    console = terminal()
    with pytest.raises(ZeroDivisionError), Display(console):
        raise ZeroDivisionError
    assert shown(console).endswith("\x1b[2K")


async def test_an_echoed_ctrl_c_fits_behind_the_line(shelf: Shelf, autojump_clock: MockClock) -> None:
    console = terminal()
    loading = Loading(shelf, Payload(Random(1), 10), value_bytes=10, keep_contexts=False)
    with Display(console) as display:
        async with shown_by(display.follow_loading, loading, 1000):
            await trio.sleep(0.7)
    frames = re.split(r"\r|\n|\x1b\[\S*?[A-Za-z]", shown(console))
    assert max(map(len, frames)) == 80 - len("^C") - 1


async def test_nobody_is_shown_nothing(shelf: Shelf, autojump_clock: MockClock) -> None:
    loading = Loading(shelf, Payload(Random(1), 10), value_bytes=10, keep_contexts=False)
    with Unseen() as display:
        async with shown_by(display.follow_loading, loading, 10):
            await trio.sleep(1)
        async with shown_by(display.follow_run, "workload c", tally(1), 10.0):
            await trio.sleep(1)
    assert display.cpu_s == 0
