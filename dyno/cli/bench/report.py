"""What a benchmark found, in three forms: a table on a terminal, aligned text in a pipe, JSON for programs.

In: the plan and the tally. Out: per operation its count, throughput and latencies in milliseconds; for the
whole run throughput, errors by kind, and what an operation cost the client in CPU time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dyno.cli import tables

if TYPE_CHECKING:
    from dyno.cli.bench.loop import Tally
    from dyno.workload.histogram import Histogram
    from dyno.workload.mixes import Mix

_NS_PER_MS = 1_000_000
_PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}

_FIGURES = ("count", "ops/s", "mean ms", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms")
_COLUMNS = (tables.Column("operation"), *(tables.Column(title, right=True) for title in _FIGURES))


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
    """Aligned text."""
    return tables.plain(_COLUMNS, rows_of(tally), above=heading(plan, tally), below=footing(tally))


def show(plan: Plan, tally: Tally) -> None:
    """On standard output, in the form that suits whoever reads it."""
    rows = rows_of(tally)
    above, below = heading(plan, tally), footing(tally)
    tables.show(_COLUMNS, rows, above=above, below=below, total=len(rows) > 1)


def heading(plan: Plan, tally: Tally) -> list[tables.Remark]:
    return [
        tables.Remark(f"workload {plan.mix.name}: {plan.mix.what}"),
        tables.Remark(
            f"{plan.clients:,} clients, {plan.records:,} records of {plan.value_bytes:,} bytes, "
            f"{tally.elapsed_s:.1f} s"
        ),
    ]


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


def footing(tally: Tally) -> list[tables.Remark]:
    errors = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.errors.items())) or "none"
    cpu_us = cpu_us_per_operation(tally)
    return [
        tables.Remark(f"errors: {errors}", style="red" if tally.errors else "dim"),
        tables.Remark(f"client CPU per operation: {'-' if cpu_us is None else f'{cpu_us:.1f} µs'}"),
    ]


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
