"""What standard output does in the hands of a shell needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno.cli import output

DEVICE_FULL = Path("/dev/full")


def run(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    program = f"from dyno.cli import output\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def test_lines_and_bytes_keep_their_order(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output.line("é")
    output.raw(b"\x00\xff")
    output.document({"é": [1, None]})
    output.line("\udcff")
    output.flush()
    assert capfdbinary.readouterr().out == b'\xc3\xa9\n\x00\xff{"\xc3\xa9": [1, null]}\n\xff\n'


def test_text_is_utf8_whatever_the_locale_says() -> None:
    ended = run("output.line('é')", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ended.stdout == b"\xc3\xa9\n"


def test_a_reader_that_has_gone_is_told_apart_once_and_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = run(
        "try:\n"
        "    output.raw(b'x' * 1_000_000)\n"
        "except output.ReaderGone:\n"
        "    output.line('nobody hears it')\n"
        "    output.flush()\n"
        "    raise SystemExit(7)",
        stdout=writing,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_a_reader_that_goes_before_the_flush_is_noticed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = run(
        "try:\n    output.line('x')\n    output.flush()\nexcept output.ReaderGone:\n    raise SystemExit(7)",
        stdout=writing,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_announcing_never_fails() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = run("output.announce('a', 'b')\noutput.announce('c')", stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not DEVICE_FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("length", [1, 1_000_000])
def test_a_full_disk_is_an_error_that_says_where_and_not_two(length: int) -> None:
    with DEVICE_FULL.open("wb") as full:
        ended = run(
            f"try:\n    output.line('x' * {length})\n    output.flush()\nexcept OSError as error:\n"
            "    output.flush()\n"
            "    assert error.filename == 'standard output'\n"
            "    raise SystemExit(error.errno)",
            stdout=full,
        )
    assert (ended.returncode, ended.stderr) == (28, b"")


def test_a_closed_stdout_is_silent() -> None:
    closed = (
        "import sys\nsys.stdout = None\noutput.line('x')\noutput.flush()\nassert not output.is_terminal()"
    )
    ended = run(closed, stdout=subprocess.DEVNULL)
    assert (ended.returncode, ended.stderr) == (0, b"")
