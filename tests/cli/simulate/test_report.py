"""What comes out of a simulation, in the order of the seeds."""

from __future__ import annotations

from dyno.cli.simulate.report import Report
from dyno.cli.simulate.workers import Far, Result
from dyno.simulator.checkers import Violation
from dyno.simulator.history import Key
from dyno.simulator.scenario import Outcome
from dyno.simulator.trial import Trial

KEY = Key("plain", "k1")


def result(seed: int, *violations: Violation, story: tuple[str, ...] = ()) -> Result:
    outcome = Outcome(seed, f"digest{seed}", violations, 2000, 900, 72.0, {"crash": 3, "loss": 0})
    return Result(outcome, 0.5, (story,) if violations else ())


def violation(text: str) -> Violation:
    return Violation("lost", KEY, 12.5, text)


def test_lines_come_in_the_order_of_the_seeds() -> None:
    report = Report(Trial(), range(7, 9))
    assert list(report.take(Far(8, 0.5), terse=False)) == []
    assert list(report.take(result(8), terse=False)) == []
    assert not report.passed
    assert list(report.take(result(7), terse=False)) == [
        "seed 7: 2,000 operations, 3 faults, 0 violations, digest digest7",
        "seed 8: 2,000 operations, 3 faults, 0 violations, digest digest8",
    ]
    assert report.passed
    assert report.summary()[:-1] == [
        "2 seeds of 5 nodes, 0.04 simulated hours",
        "4,000 operations, 1,800 acknowledged writes",
        "faults: crash 6, loss 0",
        "violations: 0",
        "speed: 144 × real time per core",
    ]


def test_the_digest_is_that_of_all_seeds_in_their_order() -> None:
    forwards, backwards, alone = (
        Report(Trial(), range(2)),
        Report(Trial(), range(2)),
        Report(Trial(), range(1)),
    )
    for seed in (0, 1):
        list(forwards.take(result(seed), terse=True))
        list(backwards.take(result(1 - seed), terse=True))
    list(alone.take(result(0), terse=True))
    assert forwards.summary()[-1] == backwards.summary()[-1] != alone.summary()[-1]
    assert alone.summary()[-1] == "digest digest0"


def test_a_seed_that_failed_is_told_with_its_story_and_how_to_run_it_again() -> None:
    report = Report(Trial(nodes=3, hours=0.5, faults=("crash", "loss")), range(1))
    found = [violation(f"write {number}") for number in range(5)]
    assert list(report.take(result(0, *found, story=("a", "b")), terse=True)) == [
        "seed 0: 2,000 operations, 3 faults, 5 violations, digest digest0",
        "  lost plain/k1 at 12.500 s: write 0",
        "    a",
        "    b",
        "  lost plain/k1 at 12.500 s: write 1",
        "  lost plain/k1 at 12.500 s: write 2",
        "  and 2 more",
        "  run it again: dyno simulate --seed 0 --nodes 3 --hours 0.5 --faults crash,loss",
    ]
    assert not report.passed


def test_where_somebody_sees_a_bar_a_seed_that_passed_has_no_line() -> None:
    report = Report(Trial(), range(2))
    assert list(report.take(result(0), terse=True)) == []
    *_, last = report.take(result(1, violation("x")), terse=True)
    assert last == "  run it again: dyno simulate --seed 1"


def test_what_is_known_is_told_where_a_seed_before_it_is_lost() -> None:
    report = Report(Trial(), range(4))
    for seed in (3, 1, 2):
        assert list(report.take(result(seed, *[violation("x")] * (seed == 2)), terse=False)) == []
    lines = list(report.rest(terse=False))
    assert [line.split(":")[0] for line in lines if line.startswith("seed")] == ["seed 1", "seed 2", "seed 3"]
    assert "  run it again: dyno simulate --seed 2" in lines
    assert list(report.rest(terse=False)) == []
    assert not report.passed


def test_where_somebody_sees_a_bar_only_failures_are_told_then() -> None:
    report = Report(Trial(), range(3))
    assert list(report.take(result(1), terse=True)) == []
    assert list(report.take(result(2, violation("x")), terse=True)) == []
    assert next(report.rest(terse=True)).startswith("seed 2: ")
