from __future__ import annotations

import json

from dyno.cli.bench.loop import Tally
from dyno.cli.bench.report import Plan, document, plain
from dyno.errors import Overloaded, QuorumNotMet
from dyno.workload.mixes import MIXES


def plan(name: str = "a") -> Plan:
    return Plan(MIXES[name], clients=64, seconds=10.0, records=10_000, value_bytes=1000)


def tally(name: str = "a") -> Tally:
    """What 1000 reads of 1..1000 µs and 10 other operations of 8 ms left, in half a second."""
    made = Tally(MIXES[name].kinds)
    for number, histogram in enumerate(made.latencies.values()):
        for microseconds in [8000] * 10 if number else range(1, 1001):
            histogram.record(microseconds * 1000)
    made.elapsed_s = 0.5
    made.cpu_s = 0.0303
    return made


def failed(made: Tally) -> Tally:
    made.failed(Overloaded("too much", retry_after=1.0))
    for _ in range(3):
        made.failed(QuorumNotMet("one of two", needed=2, answered=1, nodes=(), indeterminate=False))
    return made


def test_programs_find_an_object_per_operation_and_one_for_the_run() -> None:
    facts = json.loads(json.dumps(document(plan("f"), failed(tally("f")))))
    assert list(facts) == ["read", "rmw", "run"]
    assert facts["rmw"] == {
        "count": 10,
        "ops_per_s": 20.0,
        "mean_ms": 8.0,
        "p50_ms": facts["rmw"]["p50_ms"],
        "p95_ms": facts["rmw"]["p50_ms"],
        "p99_ms": facts["rmw"]["p50_ms"],
        "p999_ms": facts["rmw"]["p50_ms"],
    }
    assert abs(facts["rmw"]["p50_ms"] - 8.0) < 0.004 * 8
    read = facts["read"]
    assert read["ops_per_s"] == 2000.0
    for name, expected in {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}.items():
        assert abs(read[name] - expected) < 0.004 * expected
    assert facts["run"] == {
        "workload": "f",
        "clients": 64,
        "seconds": 10.0,
        "records": 10_000,
        "value_bytes": 1000,
        "elapsed_s": 0.5,
        "operations": 1010,
        "ops_per_s": 2020.0,
        "errors": {"Overloaded": 1, "QuorumNotMet": 3},
        "client_cpu_us_per_op": 29.88,
    }


def test_a_pipe_gets_aligned_text() -> None:
    assert plain(plan(), failed(tally())) == [
        "workload a: half reads, half updates",
        "64 clients, 10,000 records of 1,000 bytes, 0.5 s",
        "operation  count  ops/s  mean ms  p50 ms  p95 ms  p99 ms  p99.9 ms",
        "read       1,000  2,000     0.50    0.50    0.95    0.99      1.00",
        "update        10     20     8.00    8.01    8.01    8.01      8.01",
        "all        1,010  2,020",
        "errors: 1 Overloaded, 3 QuorumNotMet",
        "client CPU per operation: 29.9 µs",
    ]


def test_one_kind_of_operation_needs_no_sum() -> None:
    lines = plain(plan("c"), tally("c"))
    assert [line.split()[0] for line in lines[3:]] == ["read", "errors:", "client"]
    assert "errors: none" in lines


def test_where_nothing_was_done_there_is_no_figure() -> None:
    facts = document(plan(), Tally(MIXES["a"].kinds))
    assert facts["update"] == {
        "count": 0,
        "ops_per_s": 0.0,
        "mean_ms": None,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "p999_ms": None,
    }
    assert facts["run"]["client_cpu_us_per_op"] is None
    lines = plain(plan(), Tally(MIXES["a"].kinds))
    assert lines[3].split() == ["read", "0", "0", "-", "-", "-", "-", "-"]
    assert lines[-1] == "client CPU per operation: -"
