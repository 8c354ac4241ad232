"""Look for the first seed whose run finds a planted bug, and keep it for the tests.

    python -m tests.simulator.planted.search [NAME ...] [--seeds 200] [--keep] [--stale]

Without names it goes through all bugs. `--keep` writes what it finds to `caught.json`, from where
`test_planted.py` replays it; a change of the product that changes what happens in a run calls for that.
`--stale` leaves out the bugs that the seed in there still finds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TypedDict

from tests.simulator.planted.bugs import BUGS, BY_NAME, Bug

CAUGHT = Path(__file__).with_name("caught.json")
SEEDS = 200


class Catch(TypedDict):
    """The first seed that found a bug, and what found it."""

    seed: int
    checker: str


def search(bug: Bug, seeds: int) -> tuple[Catch, str] | None:
    """What caught it first, and its words; None if nothing did. A seed that the product itself does not pass
    is no catch, but worth looking at."""
    for seed in range(1, seeds + 1):
        with bug.planted():
            violations = bug.trial.run(seed).violations
        for violation in violations:
            if violation.checker in bug.checkers:
                of_the_product = bug.trial.run(seed).violations
                if not of_the_product:
                    return Catch(seed=seed, checker=violation.checker), str(violation)
                print(f"{bug.name}: the product fails seed {seed}: {of_the_product[0]}", flush=True)
                break
    return None


def is_found(bug: Bug, catch: Catch | None) -> bool:
    """Whether the seed that found it once does so now, and the product passes it."""
    if catch is None or bug.trial.run(catch["seed"]).violations:
        return False
    with bug.planted():
        violations = bug.trial.run(catch["seed"]).violations
    return catch["checker"] in [violation.checker for violation in violations]


def caught() -> dict[str, Catch]:
    found: dict[str, Catch] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    return found


def keep(catches: dict[str, Catch]) -> None:
    known = caught() | catches
    ordered = {bug.name: known[bug.name] for bug in BUGS if bug.name in known}
    lines = [f"  {json.dumps(name)}: {json.dumps(catch)}" for name, catch in ordered.items()]
    CAUGHT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.planted.search", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="to try, at most (%(default)s)")
    parser.add_argument("--keep", action="store_true", help=f"write what is found to {CAUGHT.name}")
    parser.add_argument("--stale", action="store_true", help="only bugs that their seed does not find")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        parser.error(f"there is no bug {unknown[0]}; there are {', '.join(BY_NAME)}")
    missed = 0
    for name in options.names or BY_NAME:
        if options.stale and is_found(BY_NAME[name], caught().get(name)):
            print(f"{name}: found as ever", flush=True)
            continue
        found = search(BY_NAME[name], options.seeds)
        if found is None:
            missed += 1
            print(f"{name}: not found in {options.seeds} seeds", flush=True)
            continue
        catch, text = found
        print(f"{name}: seed {catch['seed']}: {text:.300}", flush=True)
        if options.keep:
            keep({name: catch})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
