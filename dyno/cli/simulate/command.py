"""`dyno simulate`: run a cluster with users on virtual time while things go wrong, and judge what they saw.

In: seeds and what to simulate, as texts. Out: a line for each seed in a pipe, a bar on a terminal; for every
seed that failed what did not hold, the story of it and the command that runs it again; at the end a summary
and `digest HEX`, which is the same wherever and on however many cores the same was simulated. The exit code
is 0 only if every checker held for every seed, and 1 if one did not. Where the process that ran a seed is
lost, the command ends with that seed's name, after all that is known of others.
"""

from __future__ import annotations

import gc
import re
from typing import TYPE_CHECKING, Annotated

import typer

from dyno.cli import output
from dyno.cli.options import Version, whole_number
from dyno.errors import InvalidRequest

if TYPE_CHECKING:
    from dyno.simulator.history import Key
    from dyno.simulator.trial import Trial

SEED_MAX = 999_999_999
SEEDS_MAX = 10_000_000
NODES_MAX = 100
HOURS_MAX = 10_000.0
VIOLATED = 1

_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?(e-[0-9]{1,2})?", re.ASCII)


def simulate(
    seed: Annotated[
        str, typer.Option(metavar="N", help="The first seed, which decides everything.", show_default=True)
    ] = "1",
    seeds: Annotated[
        str, typer.Option(metavar="COUNT", help="How many seeds, from the first one on.", show_default=True)
    ] = "1",
    nodes: Annotated[
        str, typer.Option(metavar="COUNT", help="Nodes of the cluster.", show_default=True)
    ] = "5",
    hours: Annotated[
        str, typer.Option(metavar="HOURS", help="Simulated, of load and faults.", show_default=True)
    ] = "0.1",
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,KIND,…", help="What may go wrong, or none; all there is, unless this is given."
        ),
    ] = None,
    story: Annotated[
        str | None,
        typer.Option(metavar="BUCKET/KEY", help="Tell what happened to a key, whether it went well or not."),
    ] = None,
    version: Version = False,
) -> None:
    """Run a cluster on virtual time while things go wrong, and check that nothing was lost.

    Several users read, write and delete a few dozen keys for as long as faults come and go; then everything
    is mended, and checkers judge what the users were told. The same seed is the same run, everywhere.
    """
    from dyno.simulator.trial import Trial

    gc.enable()
    first = whole_number(seed, "--seed", 0, SEED_MAX)
    count = whole_number(seeds, "--seeds", 1, SEEDS_MAX)
    trial = Trial(whole_number(nodes, "--nodes", 1, NODES_MAX), _hours(hours), _kinds(faults))
    if story is not None:
        key = _key(story)
        if count > 1:
            raise InvalidRequest("--story tells of one seed, so give no --seeds")
        _tell(trial, first, key)
    if not _passes(trial, range(first, first + count)):
        raise typer.Exit(VIOLATED)


def _passes(trial: Trial, seeds: range) -> bool:
    from dyno.cli.simulate.progress import display
    from dyno.cli.simulate.report import Report
    from dyno.cli.simulate.workers import SeedLost, Workers

    report = Report(trial, seeds)
    with display(seeds) as shown, Workers(trial, seeds) as workers:
        try:
            for news in workers.news():
                shown.take(news)
                for line in report.take(news, terse=shown.seen):
                    shown.print(line)
        except SeedLost:
            for line in report.rest(terse=shown.seen):
                shown.print(line)
            raise
    for line in report.summary():
        output.line(line)
    return report.passed


def _tell(trial: Trial, seed: int, key: Key) -> None:
    for line in trial.tell(seed, key):
        output.line(line)


def _hours(text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not 0 < float(text) <= HOURS_MAX:
        raise InvalidRequest(f"--hours is a number above 0 and at most {HOURS_MAX:.0f}, not {text[:40]!r}")
    return float(text)


def _kinds(text: str | None) -> tuple[str, ...]:
    """In the order in which the simulator names them, each once: so the same kinds are the same run."""
    from dyno.simulator.faults import FAULTS
    from dyno.simulator.trial import NONE

    if text is None:
        return FAULTS
    words = [word.strip() for word in text.split(",")]
    if words == [NONE]:
        return ()
    for word in words:
        if word not in FAULTS:
            known = ", ".join(FAULTS)
            raise InvalidRequest(f"--faults: there is no kind {word[:40]!r}; there are {known}, or {NONE}")
    return tuple(kind for kind in FAULTS if kind in words)


def _key(text: str) -> Key:
    from dyno.simulator.scenario import KEY_NAMES

    known = {str(key): key for key in KEY_NAMES}
    if text not in known:
        names = list(known)
        raise InvalidRequest(f"--story: there is no key {text[:40]!r}; there are {names[0]} to {names[-1]}")
    return known[text]
