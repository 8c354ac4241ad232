"""The command `dyno`: which commands there are, and one way in and out for all of them.

In: the arguments after the program's name. Out: the exit code of the contract (see `outcome`). Whatever
goes wrong ends as one line on stderr: usage errors, our own errors and even bugs are reported here and
nowhere else.

Importing this module loads typer and nothing of the client, the server or Trio. A command line that names a
command loads that command alone, and a command what it needs when it runs: `dyno get` as a whole is a process
that somebody waits for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from dyno.cli import output
from dyno.cli.arguments import CommandGroup, TextCommand
from dyno.cli.options import Version
from dyno.cli.outcome import report

# Where each command's function is.
COMMANDS = {
    "node": "dyno.cli.node:node",
    "cluster": "dyno.cli.cluster:cluster",
    "put": "dyno.cli.data:put",
    "get": "dyno.cli.data:get",
    "delete": "dyno.cli.data:delete",
    "keys": "dyno.cli.keys:keys",
    "status": "dyno.cli.status:status",
    "explain": "dyno.cli.explain:explain",
    "repair": "dyno.cli.repair:repair",
    "bucket create": "dyno.cli.bucket:create",
    "bucket list": "dyno.cli.bucket:list_",
    "bench": "dyno.cli.bench.command:bench",
    "simulate": "dyno.cli.simulate.command:simulate",
}
GROUPS = {"bucket": "Create buckets with properties of their own, and list them."}

_HELP = """A Dynamo-style, eventually consistent key-value store that stays writable.

To try it, run `dyno cluster` in one shell, and in another:
`dyno put fruit apple red`, `dyno get fruit apple`, `dyno status`."""

_COMPLETING = "_DYNO_COMPLETE"  # the shell's completion sets it


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        try:
            code = _run(list(arguments))
        finally:
            output.flush()
    except SystemExit:
        raise  # shell completion ends so
    except BaseException as error:  # noqa: BLE001 - the last stop of every error
        return report(error)
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> object:
    words = 2 if arguments and arguments[0] in GROUPS else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name in COMMANDS and _COMPLETING not in os.environ:
        return command_of(name).main(args=rest, prog_name=f"dyno {name}", standalone_mode=False)
    return _whole().main(args=arguments, prog_name="dyno", standalone_mode=False)


def command_of(name: str) -> Any:
    """One command as Click sees it, with nothing of the others loaded."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.command(name, cls=TextCommand)(_function(name))
    return get_command(app)


def _whole() -> Any:
    app = _group(_HELP)
    groups = {name: _group(help_) for name, help_ in GROUPS.items()}
    for name in COMMANDS:
        group, _, word = name.rpartition(" ")
        where = groups[group] if group else app
        where.command(word, cls=TextCommand)(_function(name))
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)
    return get_command(app)


def _group(help_: str) -> typer.Typer:
    app = typer.Typer(help=help_, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.callback(cls=CommandGroup, invoke_without_command=True)(_top)
    return app


def _function(name: str) -> Callable[..., None]:
    module, _, attribute = COMMANDS[name].partition(":")
    function: Callable[..., None] = getattr(import_module(module), attribute)
    return function


def _top(context: typer.Context, version: Version = False) -> None:
    if context.invoked_subcommand is None and not context.resilient_parsing:
        typer.echo(context.get_help())
