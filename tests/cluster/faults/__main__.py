"""`python -m tests.cluster.faults`: real nodes, for as long as one likes, while things go wrong.

    python -m tests.cluster.faults --minutes 30 --seed 7 --nodes 5

Ends with figures and, where something did not hold, with what it was and the command for this seed again
(exit code 1). The seed decides the faults and the load; how the machine takes them it does not decide.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.cluster.faults import plan, trial


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.faults", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long things go wrong (1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=5, choices=range(2, 10), metavar="2..9")
    parser.add_argument("--faults", default=",".join(plan.KINDS), help=f"of {','.join(plan.KINDS)}")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    parser.add_argument("--quiet", action="store_true", help="only the figures")
    given = parser.parse_args(words)
    kinds = tuple(kind for kind in given.faults.split(",") if kind)
    unknown = [kind for kind in kinds if kind not in plan.KINDS]
    if unknown:
        parser.error(f"there is no fault {unknown[0]!r}; there are {', '.join(plan.KINDS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = trial.Options(given.seed, given.nodes, given.minutes * 60, kinds, given.loopback)
    outcome = None
    try:
        outcome = trial.run(options, say=_silent if given.quiet else _say)
    except* KeyboardInterrupt:
        pass
    if outcome is None:
        return 130
    for line in figures(outcome):
        print(line)
    if outcome.violations:
        print(f"again: python -m tests.cluster.faults {again(options)}")
    return 1 if outcome.violations else 0


def figures(outcome: trial.Outcome) -> list[str]:
    faults = ", ".join(f"{count} {kind}" for kind, count in outcome.faults.items()) or "none"
    lines = [
        f"seed {outcome.seed}: {outcome.seconds:g} s, {outcome.operations} operations, "
        f"{outcome.acknowledged} writes acknowledged",
        f"faults: {faults}; {outcome.starts} process starts",
        *(f"left out: {kind}: {why}" for kind, why in outcome.left_out.items()),
        f"losses: {outcome.lost}; other violations: {len(outcome.violations) - outcome.lost}",
    ]
    return lines + [f"  {violation}" for violation in outcome.violations]


def again(options: trial.Options) -> str:
    words = f"--minutes {options.seconds / 60:g} --seed {options.seed} --nodes {options.nodes}"
    if options.kinds != plan.KINDS:
        words += f" --faults '{','.join(options.kinds)}'"
    return words + (" --loopback" if options.loopback else "")


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
