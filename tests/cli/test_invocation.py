from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dyno import __version__

BARE = {"PATH": "/usr/bin:/bin"}  # another shell: no virtual environment, no PYTHONPATH


def pasted_by(command: list[str], tmp_path: Path) -> str:
    """The line that a program started with this command would have people paste."""
    code = tmp_path / "print_pasted.py"
    code.write_text("from dyno.cli.invocation import pasted\nprint(pasted(['--version']))\n")
    ended = subprocess.run([*command, str(code)], capture_output=True, text=True, check=True)
    return ended.stdout


def test_a_pasted_line_works_in_another_shell_and_directory(tmp_path: Path) -> None:
    line = pasted_by([sys.executable], tmp_path)
    ended = subprocess.run(
        line, shell=True, cwd=tmp_path, env=BARE, capture_output=True, text=True, check=False
    )
    assert ended.stdout == f"dyno {__version__}\n", ended.stderr


@pytest.mark.skipif(shutil.which("dyno") is None, reason="dyno is not installed as a command")
def test_the_console_script_is_named_by_its_path_or_found_everywhere(tmp_path: Path) -> None:
    script = shutil.which("dyno")
    assert script is not None
    ended = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"dyno {__version__}\n"
