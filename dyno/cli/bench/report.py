"""What a benchmark found, in three forms: a table on a terminal, aligned text in a pipe, JSON for programs.

In: the plan and the tally. Out: per operation its count, throughput and latencies in milliseconds; for the
whole run throughput, errors by kind, and what an operation cost the client in CPU time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dyno.cli.bench.loop import Tally
    from dyno.workload.histogram import Histogram
    from dyno.workload.mixes import Mix

_NS_PER_MS = 1_000_000
_PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}

_TITLES = ("operation", "count", "ops/s", "mean ms", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms")


class Plan(NamedTuple):
    """What to run. clients: callers at once. seconds: of the measured run. records: to begin with."""

    mix: Mix
    clients: int
    seconds: float
    records: int
    value_bytes: int


def document(plan: Plan, tally: Tally) -> dict[str, Any]:
    """The JSON object: one entry per operation, and the facts of the whole run under "run". A latency is null
    where no operation of the kind succeeded."""
    facts: dict[str, Any] = {
        kind: _figures(histogram, tally.elapsed_s) for kind, histogram in tally.latencies.items()
    }
    cpu_us = cpu_us_per_operation(tally)
    facts["run"] = {
        "workload": plan.mix.name,
        "clients": plan.clients,
        "seconds": plan.seconds,
        "records": plan.records,
        "value_bytes": plan.value_bytes,
        "elapsed_s": round(tally.elapsed_s, 3),
        "operations": tally.operations,
        "ops_per_s": round(_rate(tally.operations, tally.elapsed_s), 1),
        "errors": tally.errors,
        "client_cpu_us_per_op": None if cpu_us is None else round(cpu_us, 2),
    }
    return facts


def plain(plan: Plan, tally: Tally) -> list[str]:
    """Aligned text, the first column to the left and all others to the right."""
    rows = [_TITLES, *rows_of(tally)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [*heading(plan, tally)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return [*lines, *footing(tally)]


def show_table(plan: Plan, tally: Tally) -> None:
    """On the terminal that standard output is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(_TITLES):
        table.add_column(title, justify="right" if number else "left")
    rows = rows_of(tally)
    for row in rows:
        table.add_row(*row, style="bold" if row is rows[-1] and len(rows) > 1 else None)
    console = Console(highlight=False)
    # A terminal that is too narrow wraps the lines; Rich would cut the figures short.
    console.width = max(console.width, *map(len, plain(plan, tally)))
    console.print(Text("\n".join(heading(plan, tally)), style="dim"))
    console.print(table)
    errors, cpu = footing(tally)
    console.print(Text(errors, style="red" if tally.errors else "dim"))
    console.print(Text(cpu, style="dim"))


def heading(plan: Plan, tally: Tally) -> tuple[str, str]:
    return (
        f"workload {plan.mix.name}: {plan.mix.what}",
        f"{plan.clients:,} clients, {plan.records:,} records of {plan.value_bytes:,} bytes, "
        f"{tally.elapsed_s:.1f} s",
    )


def rows_of(tally: Tally) -> list[tuple[str, ...]]:
    """One per operation, and one for all if there is more than one."""
    rows = []
    for kind, histogram in tally.latencies.items():
        times = [histogram.mean_ns(), *map(histogram.percentile_ns, _PERCENTILES.values())]
        rate = _rate(histogram.count, tally.elapsed_s)
        rows.append((kind, f"{histogram.count:,}", f"{rate:,.0f}", *map(_cell, times)))
    if len(rows) > 1:
        rate = _rate(tally.operations, tally.elapsed_s)
        rows.append(("all", f"{tally.operations:,}", f"{rate:,.0f}", *[""] * (1 + len(_PERCENTILES))))
    return rows


def footing(tally: Tally) -> tuple[str, str]:
    errors = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.errors.items())) or "none"
    cpu_us = cpu_us_per_operation(tally)
    return f"errors: {errors}", f"client CPU per operation: {'-' if cpu_us is None else f'{cpu_us:.1f} µs'}"


def cpu_us_per_operation(tally: Tally) -> float | None:
    """None where there was none. Those that failed have cost, too."""
    operations = tally.operations + tally.failures
    return tally.cpu_s * 1e6 / operations if operations else None


def _figures(histogram: Histogram, elapsed_s: float) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "count": histogram.count,
        "ops_per_s": round(_rate(histogram.count, elapsed_s), 1),
        "mean_ms": _milliseconds(histogram.mean_ns()),
    }
    for name, percent in _PERCENTILES.items():
        figures[name] = _milliseconds(histogram.percentile_ns(percent))
    return figures


def _rate(count: int, elapsed_s: float) -> float:
    return count / elapsed_s if elapsed_s else 0.0


def _milliseconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / _NS_PER_MS, 4)


def _cell(nanoseconds: float | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / _NS_PER_MS:,.2f}"
