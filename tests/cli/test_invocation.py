from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno import __version__

ROOT = Path(__file__).parents[2]
PRINT = "from dyno.cli.invocation import own_command, pasted\nprint(pasted(['a b']))\nprint(*own_command())\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A console script, as an installer makes it, that prints what it would have people paste."""
    script = tmp_path / "bin" / "dyno"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{PRINT}")
    script.chmod(0o755)
    return script


def printed_by(words: list[str | Path], *, path: str = os.environ["PATH"]) -> list[str]:
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


def test_a_pasted_line_works_in_another_shell_and_directory(tmp_path: Path) -> None:
    line, _ = printed_by([sys.executable, "-c", PRINT])
    bare = {"PATH": "/usr/bin:/bin"}  # no virtual environment, no PYTHONPATH
    ended = subprocess.run(
        line.replace("'a b'", "--version"),
        shell=True,
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == f"dyno {__version__}\n", ended.stderr


def test_a_script_that_no_other_shell_finds_is_named_by_its_path(script: Path) -> None:
    line, own = printed_by([script])
    assert line == f"{script} 'a b'"
    assert own == f"{sys.executable} -P -m dyno"


def test_a_script_that_every_shell_finds_is_named_dyno(script: Path) -> None:
    line, _ = printed_by([script], path=f"{script.parent}:{os.environ['PATH']}")
    assert line == "dyno 'a b'"


def test_another_dyno_on_the_path_is_not_this_one(script: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "dyno"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    line, _ = printed_by([script], path=f"{other.parent}:{os.environ['PATH']}")
    assert line == f"{script} 'a b'"
