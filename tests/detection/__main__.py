"""Measure failure detection as the Lifeguard paper does, and print its table.

    python -m tests.detection [--sample N] [--seed 1] [--processes 2] [--freeze blocked|stopped|cut_off]
                              [--detectors SWIM,Lifeguard,dyno] [--alpha 5] [--beta 6] [--latency-runs 4]
    python -m tests.detection --growth [--members 16,128,512,2000] [--seed 1] [--processes 2]

The first runs one repetition of the grid (432 points: how many of 128 members freeze, for how long, and for
how long they go on in between), or a sample of N points, each with every detector under the same seed; and
for each number of members, `--latency-runs` runs in which they freeze for good. `cluster.py` says what the
three kinds of freezes are, `grid.py` what is counted. The second shows what a member costs, and how long a
failure takes to be found out, in clusters of several sizes.

The same seed gives the same table, on however many processes. Exits 0 whatever the figures are, 2 for wrong
options.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.detection.cluster import BLOCKED, KINDS
from tests.detection.grid import (
    FROZEN,
    MEMBERS,
    Interval,
    Latency,
    detectors,
    grid,
    run_idle,
    run_interval,
    run_latency,
    sample,
)

PERCENTILES = (50.0, 99.0, 99.9)
IDLE_S = 60.0
NAMES = tuple(detectors(alpha=5.0, beta=6.0))
Task = tuple[Callable[..., Any], tuple[Any, ...]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    started = time.monotonic()
    try:
        if options.growth:
            _growth(options)
        else:
            _table(options)
    except KeyboardInterrupt:
        return 130
    print(f"\nseed {options.seed}, {time.monotonic() - started:.0f} s on {options.processes} processes")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.detection",
        usage=argparse.SUPPRESS,  # the text has it
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    points = len(grid())
    _add = parser.add_argument
    _add("--sample", type=_whole(1, points), metavar="N", help="only N points of the grid, well spread")
    _add("--seed", type=int, default=1, help="1 unless given")
    _add(
        "--processes",
        type=_whole(1, 1024),
        metavar="N",
        default=multiprocessing.cpu_count(),
        help="as many as there are processors unless given",
    )
    _add("--freeze", choices=KINDS, default=BLOCKED, help="blocked, as in the paper, unless given")
    _add(
        "--detectors", type=_names, default=list(NAMES), metavar="NAME,NAME...", help="all three unless given"
    )
    _add("--alpha", type=_at_least_1, default=5.0, metavar="X", help="suspicion_mult, 5 unless given")
    _add("--beta", type=_at_least_1, default=6.0, metavar="X", help="suspicion_max_mult, 6 unless given")
    _add("--latency-runs", type=_whole(1, 10_000), default=4, metavar="N", help="4 unless given")
    _add("--growth", action="store_true", help="clusters of several sizes instead")
    _add(
        "--members",
        type=_sizes,
        default=[16, 128, 512, 2000],
        metavar="N,N...",
        help="their sizes; 16,128,512,2000 unless given",
    )
    return parser.parse_args(arguments)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def _at_least_1(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1.0 <= value <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return value


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is no detector; there are {', '.join(NAMES)}")
    return names


def _sizes(text: str) -> list[int]:
    return [_whole(2, 10_000)(size) for size in text.split(",")]


# ── the paper's table ──


def _table(options: argparse.Namespace) -> None:
    known = detectors(alpha=options.alpha, beta=options.beta)
    names = options.detectors
    points = grid() if options.sample is None else sample(options.sample, options.seed)
    tasks: dict[object, Task] = {}
    for name in names:
        for point in points:
            seed = f"{options.seed} {point}"
            tasks[name, point] = run_interval, (point, known[name], options.freeze, seed)
        for count in FROZEN:
            for run in range(options.latency_runs):
                seed = f"{options.seed} {count} {run}"
                tasks[name, count, run] = run_latency, (count, known[name], options.freeze, seed)
    results = _run(tasks, options.processes)
    print(
        f"{MEMBERS} members, {len(points)} of {len(grid())} points, freezes: {options.freeze}, "
        f"alpha {options.alpha:g}, beta {options.beta:g}\n"
    )
    _print_rows(
        ["detector", "false failures", "at healthy members", "most in a run", "runs with any"]
        + [f"first {p:g}%" for p in PERCENTILES]
        + [f"everywhere {p:g}%" for p in PERCENTILES]
        + ["messages", "bytes"],
        [
            table_row(
                name,
                [results[name, point] for point in points],
                [results[name, c, run] for c in FROZEN for run in range(options.latency_runs)],
            )
            for name in names
        ],
    )


def table_row(name: str, runs: Sequence[Interval], latencies: Sequence[Latency]) -> list[str]:
    first = [seconds for latency in latencies for seconds in latency.first]
    everywhere = [seconds for latency in latencies for seconds in latency.everywhere]
    return [
        name,
        _count(_mean([run.false for run in runs])),
        _count(_mean([run.false_at_healthy for run in runs])),
        str(max(run.false for run in runs)),
        str(sum(run.false > 0 for run in runs)),
        *_percentiles(first),
        *_percentiles(everywhere),
        f"{_mean([run.messages for run in runs]):.1f}",
        f"{_mean([run.bytes for run in runs]):.0f}",
    ]


# ── larger and smaller clusters ──


def _growth(options: argparse.Namespace) -> None:
    """With the configuration that nodes have."""
    detector = detectors(alpha=4.0, beta=6.0)["dyno"]
    sizes = options.members
    tasks: dict[object, Task] = {}
    for size in sorted(sizes, reverse=True):  # what takes longest begins first
        tasks["idle", size] = run_idle, (detector, f"{options.seed}", size, IDLE_S)
        for run in range(options.latency_runs):
            seed = f"{options.seed} {run}"
            tasks[size, run] = run_latency, (1, detector, options.freeze, seed, size)
    results = _run(tasks, options.processes)
    rows = []
    for size in sizes:
        messages, size_bytes = results["idle", size]
        latencies = [results[size, run] for run in range(options.latency_runs)]
        first = [seconds for latency in latencies for seconds in latency.first]
        everywhere = [seconds for latency in latencies for seconds in latency.everywhere]
        rows.append(
            [
                str(size),
                f"{messages:.2f}",
                f"{size_bytes:.0f}",
                f"{_mean([latency.messages for latency in latencies]):.2f}",
                f"{_mean([latency.bytes for latency in latencies]):.0f}",
                _percentile(first, 50.0),
                _percentile(everywhere, 50.0),
                _percentile(everywhere, 100.0),
            ]
        )
    print("per member and second; one member freezes for good\n")
    head = ["members", "messages", "bytes", "messages, with a failure", "bytes, with a failure"]
    _print_rows([*head, "first (median)", "everywhere (median)", "everywhere (longest)"], rows)


# ── running and printing ──


def _run(tasks: dict[object, Task], processes: int) -> dict[Any, Any]:
    """All results by key. Where each ran, and in which order they ended, makes no difference."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    results: dict[Any, Any] = {}
    with Progress(*columns) as progress, multiprocessing.Pool(processes, _ignore_interrupts) as pool:
        bar = progress.add_task("runs", total=len(tasks))
        for key, result in _finished(pool, tasks):
            results[key] = result
            progress.advance(bar)
    return results


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes; the first ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _finished(pool: Any, tasks: dict[object, Task]) -> Iterator[tuple[object, Any]]:
    yield from pool.imap_unordered(_perform, list(tasks.items()))


def _perform(item: tuple[object, Task]) -> tuple[object, Any]:
    key, (function, arguments) = item
    return key, function(*arguments)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _count(mean: float) -> str:
    """Large ones need no fractions."""
    return f"{mean:.0f}" if mean >= 1000 else f"{mean:.4g}"


def _percentiles(values: Sequence[float | None]) -> list[str]:
    return [_percentile(values, percent) for percent in PERCENTILES]


def _percentile(values: Sequence[float | None], percent: float) -> str:
    """Of seconds, those that never were last."""
    ordered = sorted(float("inf") if value is None else value for value in values)
    at = min(len(ordered) - 1, int(len(ordered) * percent / 100))
    return "never" if ordered[at] == float("inf") else f"{ordered[at]:.1f} s"


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    sys.exit(main())
