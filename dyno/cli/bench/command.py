"""`dyno bench`: run one of YCSB's core workloads and say how fast the cluster answered.

In: the workload and its sizes, as texts. Out: a report on stdout, and while it runs its progress on stderr,
where that is a terminal. What fails during the run is counted and the run goes on; where nothing succeeds,
the command ends as the last error would have ended any other. The figures are of a closed loop: a slow answer
keeps its caller from asking more, so they say nothing about requests that would have come meanwhile.
"""

from __future__ import annotations

import gc
import random
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dyno.cli import output
from dyno.cli.options import AsJson, Nodes, Version, completion, whole_number
from dyno.cli.outcome import outcome_of, say
from dyno.cli.session import converse
from dyno.errors import InvalidRequest
from dyno.wire.values import VALUE_BYTES_MAX
from dyno.workload.mixes import MIXES, UPDATE

if TYPE_CHECKING:
    from dyno import Client
    from dyno.cli.bench.loop import Tally
    from dyno.cli.bench.progress import Unseen
    from dyno.cli.bench.report import Plan
    from dyno.workload.mixes import Mix

BUCKET = "bench"
CLIENTS_MAX = 10_000
RECORDS_MAX = 10_000_000
SECONDS_MAX = 86_400.0
WARM_UP_S_MAX = 1.0

_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def bench(
    workload: Annotated[
        str,
        typer.Option(
            metavar="|".join(MIXES),
            autocompletion=completion({mix.name: mix.what for mix in MIXES.values()}),
            help="; ".join(f"{mix.name}: {mix.what}" for mix in MIXES.values()) + ".",
            show_default=True,
        ),
    ] = "a",
    value_bytes: Annotated[
        str, typer.Option(metavar="BYTES", help="The size of every value.", show_default=True)
    ] = "1000",
    clients: Annotated[
        str,
        typer.Option(metavar="COUNT", help="Callers at once, all in this process.", show_default=True),
    ] = "64",
    seconds: Annotated[
        str, typer.Option(metavar="SECONDS", help="How long to measure.", show_default=True)
    ] = "10",
    records: Annotated[
        str, typer.Option(metavar="COUNT", help="Records that are there to begin with.", show_default=True)
    ] = "10000",
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Measure a cluster with one of the YCSB core workloads.

    Loads the records into the bucket `bench`, where they stay for the next run, warms up, and measures. Each
    of the callers begins its next operation when its last one has ended (a closed loop).
    """
    from dyno.cli.bench.report import Plan

    plan = Plan(
        _mix(workload),
        clients=whole_number(clients, "--clients", 1, CLIENTS_MAX),
        seconds=_seconds(seconds),
        records=whole_number(records, "--records", 1, RECORDS_MAX),
        value_bytes=whole_number(value_bytes, "--value-bytes", 1, VALUE_BYTES_MAX),
    )
    gc.enable()

    async def measure(client: Client) -> Tally:
        return await _measured(client, plan)

    conclude(plan, converse(node, measure), as_json=as_json)


def conclude(plan: Plan, tally: Tally, *, as_json: bool) -> None:
    """Print the report. Where every operation failed, say so and exit as the last error would."""
    from dyno.cli.bench import report

    if as_json:
        output.document(report.document(plan, tally))
    else:
        report.show(plan, tally)
    if tally.last_error is not None and not tally.operations:
        code, line = outcome_of(tally.last_error)
        assert line is not None, "an error has something to say"
        reason = line.removeprefix("dyno: ")
        say(f"dyno: all {tally.failures:,} operations failed, the last one so: {reason}")
        raise typer.Exit(code)


async def _measured(client: Client, plan: Plan) -> Tally:
    from dyno.cli.bench.loading import Loading
    from dyno.cli.bench.loop import ClosedLoop, Tally
    from dyno.cli.bench.progress import shown_by
    from dyno.workload.mixes import Workload
    from dyno.workload.payload import Payload

    source = random.Random()
    workload = Workload(plan.mix, records=plan.records, random=source, run=f"{source.getrandbits(48):012x}")
    payload = Payload(source, plan.value_bytes)
    bucket = client.bucket(BUCKET)
    kinds = plan.mix.kinds
    with _display() as display:
        loading = Loading(bucket, payload, value_bytes=plan.value_bytes, keep_contexts=UPDATE in kinds)
        async with shown_by(display.follow_loading, loading, plan.records):
            await loading.run(workload.keys_to_load())

        loop = ClosedLoop(bucket, workload, payload, loading.contexts, clients=plan.clients)
        tally, seconds = Tally(kinds), min(WARM_UP_S_MAX, plan.seconds / 5)
        async with shown_by(display.follow_run, "warming up", tally, seconds):
            await loop.run(seconds, tally)

        tally, drawn_s = Tally(kinds), display.cpu_s
        async with shown_by(display.follow_run, f"workload {plan.mix.name}", tally, plan.seconds):
            await loop.run(plan.seconds, tally)
        tally.cpu_s -= display.cpu_s - drawn_s
    return tally


def _display() -> Unseen:
    from dyno.cli.bench.progress import Display, Unseen

    if sys.stderr is None or not sys.stderr.isatty():
        return Unseen()
    from rich.console import Console

    console = Console(stderr=True)
    return Unseen() if console.is_dumb_terminal else Display(console)  # a line that cannot be drawn again


def _mix(name: str) -> Mix:
    mix = MIXES.get(name)
    if mix is None:
        raise InvalidRequest(f"--workload: there is no workload {name[:40]!r}; there are {', '.join(MIXES)}")
    return mix


def _seconds(text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not 0 < float(text) <= SECONDS_MAX:
        raise InvalidRequest(
            f"--seconds is a number above 0 and at most {SECONDS_MAX:.0f}, not {text[:40]!r}"
        )
    return float(text)
