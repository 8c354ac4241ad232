"""Measure failure detection as the Lifeguard paper does, and print its table.

    python -m tests.detection [--sample N] [--seed 1] [--processes 2] [--freeze blocked|stopped|cut_off]
                              [--detectors SWIM,Lifeguard,dyno] [--alpha 5] [--beta 6] [--latency-runs 4]
    python -m tests.detection --growth [--members 16,128,512,2000] [--seed 1] [--processes 2]

The first runs one repetition of the grid (432 points: how many of 128 members freeze, for how long, and for
how long they go on in between), or a sample of N points, each with every detector under the same seed; and
for each number of members, `--latency-runs` runs in which they freeze for good. `cluster.py` says what the
three kinds of freezes are, `grid.py` what is counted. The second shows what a member costs, and how long a
failure takes to be found out, in clusters of several sizes.

The same seed gives the same table, on however many processes. Exits 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import multiprocessing
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
Task = tuple[Callable[..., Any], tuple[Any, ...]]


def main() -> None:
    options = _options()
    started = time.monotonic()
    if options.growth:
        _growth(options)
    else:
        _table(options)
    print(f"\nseed {options.seed}, {time.monotonic() - started:.0f} s on {options.processes} processes")


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m tests.detection", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sample", type=int, metavar="N", help="only N points of the grid, well spread")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--freeze", choices=KINDS, default=BLOCKED)
    parser.add_argument("--detectors", default="SWIM,Lifeguard,dyno")
    parser.add_argument("--alpha", type=float, default=5.0, help="suspicion_mult")
    parser.add_argument("--beta", type=float, default=6.0, help="suspicion_max_mult")
    parser.add_argument("--latency-runs", type=int, default=4, metavar="N")
    parser.add_argument("--growth", action="store_true", help="clusters of several sizes instead")
    parser.add_argument("--members", default="16,128,512,2000", help="their sizes")
    options = parser.parse_args()
    if options.sample is not None and not 1 <= options.sample <= len(grid()):
        parser.error(f"--sample takes 1 to {len(grid())} points")
    return options


# ── the paper's table ──


def _table(options: argparse.Namespace) -> None:
    known = detectors(alpha=options.alpha, beta=options.beta)
    names = options.detectors.split(",")
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
            _row(
                name,
                [results[name, point] for point in points],
                [results[name, c, run] for c in FROZEN for run in range(options.latency_runs)],
            )
            for name in names
        ],
    )


def _row(name: str, runs: Sequence[Interval], latencies: Sequence[Latency]) -> list[str]:
    first = [seconds for latency in latencies for seconds in latency.first]
    everywhere = [seconds for latency in latencies for seconds in latency.everywhere]
    return [
        name,
        f"{_mean([run.false for run in runs]):.4g}",
        f"{_mean([run.false_at_healthy for run in runs]):.3g}",
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
    sizes = [int(size) for size in options.members.split(",")]
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
    with Progress(*columns) as progress, multiprocessing.Pool(processes) as pool:
        bar = progress.add_task("runs", total=len(tasks))
        for key, result in _finished(pool, tasks):
            results[key] = result
            progress.advance(bar)
    return results


def _finished(pool: Any, tasks: dict[object, Task]) -> Iterator[tuple[object, Any]]:
    yield from pool.imap_unordered(_perform, list(tasks.items()))


def _perform(item: tuple[object, Task]) -> tuple[object, Any]:
    key, (function, arguments) = item
    return key, function(*arguments)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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
    main()
