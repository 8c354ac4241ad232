"""Every planted bug is found by the first seed that found it, and by the checker that did.

The seeds are in `caught.json`. Where one finds its bug no more, because the product changed what happens in a
run, look for another: `python -m tests.simulator.planted.search --stale --keep`.
"""

from __future__ import annotations

from functools import cache

import pytest

from dyno.simulator.scenario import Outcome
from tests.simulator.planted.bugs import BUGS, Bug, Runs
from tests.simulator.planted.rough import Rough
from tests.simulator.planted.search import (
    DOCUMENTATION,
    SEEDS,
    Catch,
    caught,
    is_found,
    search,
    table,
)
from tests.simulator.planted.setback import ProofTrial

CAUGHT = caught()


@cache
def sound(trial: Runs, seed: int) -> Outcome:
    return trial.run(seed)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    catch = CAUGHT[bug.name]
    assert catch["seed"] <= SEEDS
    assert sound(bug.trial, catch["seed"]).violations == (), "the product passes the same seed"
    with bug.planted():
        outcome = bug.trial.run(catch["seed"])
    assert catch["checker"] in bug.checkers
    assert catch["checker"] in [violation.checker for violation in outcome.violations]


def test_the_product_is_whole_again_afterwards() -> None:
    bug = BUGS[0]
    before = [vars(owner)[name] for owner, name, _ in bug.places]
    with bug.planted():
        assert [vars(owner)[name] for owner, name, _ in bug.places] != before
    assert [vars(owner)[name] for owner, name, _ in bug.places] == before


def test_a_search_tells_what_it_found() -> None:
    (bug,) = [bug for bug in BUGS if bug.name == "put-drops-siblings"]
    found = search(bug, CAUGHT[bug.name]["seed"])
    assert found is not None
    catch, text = found
    assert catch == CAUGHT[bug.name]
    assert text.startswith("lost ")


def test_the_documentation_says_what_found_each() -> None:
    assert list(CAUGHT) == [bug.name for bug in BUGS]
    assert table(CAUGHT) + "\n" in DOCUMENTATION.read_text()


def test_a_seed_that_finds_its_bug_no_more_is_stale() -> None:
    (bug,) = [bug for bug in BUGS if bug.name == "put-drops-siblings"]
    assert is_found(bug, CAUGHT[bug.name])
    assert not is_found(bug, None)
    assert not is_found(bug, Catch(seed=CAUGHT[bug.name]["seed"], checker="dots"))
    with bug.planted():
        assert not is_found(bug, CAUGHT[bug.name]), "the product has to pass"


def test_a_search_that_finds_nothing_says_so() -> None:
    harmless = BUGS[0]._replace(places=(), trial=Rough(("crash",), seconds=3.0, nodes=3))
    assert search(harmless, 2) is None


@pytest.mark.parametrize("seed", range(1, 9))
def test_an_old_copy_is_not_believed_because_whoever_knows_better_is_suspected(seed: int) -> None:
    assert sound(ProofTrial(), seed).violations == ()
