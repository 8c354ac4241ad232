"""`dyno simulate` as its users type it, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dyno.simulator.faults import FAULTS

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

SHORT = ("--hours", "0.002", "--faults", "crash,partition,loss")
ROOT = Path(__file__).parents[3]


def test_a_seed_that_passes(command: Dyno) -> None:
    ended = command("simulate", *SHORT, "--nodes", "3")
    assert (ended.code, ended.err) == (0, "")
    first, seeds, operations, faults, violations, speed, digest = ended.lines
    assert re.fullmatch(r"seed 1: [\d,]+ operations, \d+ faults?, 0 violations, digest [0-9a-f]{32}", first)
    assert re.fullmatch(r"1 seed of 3 nodes, 0\.\d\d simulated hours", seeds)
    assert re.fullmatch(r"[\d,]+ operations, [\d,]+ acknowledged writes", operations)
    assert re.fullmatch(r"faults: partition \d+, loss \d+, crash \d+", faults)
    assert violations == "violations: 0"
    assert re.fullmatch(r"speed: \d+ × real time per core", speed)
    assert digest == f"digest {first.rpartition(' ')[2]}"


def test_several_seeds_have_one_digest_whatever_the_number_of_processes(command: Dyno) -> None:
    several = command("simulate", *SHORT, "--seed", "5", "--seeds", "3")
    code = (
        "import os; os.sched_getaffinity = lambda pid: [0]\n"
        "import sys; from dyno.cli.app import run\n"
        "if __name__ == '__main__': sys.exit(run(sys.argv[1:]))"
    )
    words = ["simulate", *SHORT, "--seed", "5", "--seeds", "3"]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    alone = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, check=True, cwd=ROOT, env=environment
    )
    lines = several.lines
    others = alone.stdout.decode().splitlines()
    assert lines[-1] == others[-1]
    assert lines[:3] == others[:3]
    assert [line.split()[1] for line in lines[:3]] == ["5:", "6:", "7:"]
    assert lines[-1].removeprefix("digest ") not in "".join(lines[:3])


def test_no_faults_at_all(command: Dyno) -> None:
    ended = command("simulate", "--hours", "0.001", "--faults", "none", "--nodes", "1")
    assert ended.code == 0
    assert "faults: none" in ended.lines


def test_the_story_of_a_key_is_told(command: Dyno) -> None:
    ended = command("simulate", *SHORT, "--story", "plain/k0")
    assert ended.code == 0
    assert any("→" in line and "key=6b30" in line for line in ended.lines)
    assert any("== put #" in line and "of plain/k0, W=" in line for line in ended.lines)
    assert ended.lines[-1].startswith("digest ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--seed", "x"), "--seed is a number from 0 to 999999999, not 'x'"),
        (("--seeds", "0"), "--seeds is a number from 1 to 10000000, not '0'"),
        (("--nodes", "101"), "--nodes is a number from 1 to 100, not '101'"),
        (("--hours", "0"), "--hours is a number above 0 and at most 10000, not '0'"),
        (("--hours", "long"), "--hours is a number above 0 and at most 10000, not 'long'"),
        (("--faults", "a,b"), f"--faults: there is no kind 'a'; there are {', '.join(FAULTS)}, or none"),
        (("--story", "plain/x"), "--story: there is no key 'plain/x'; there are plain/k0 to wide/k35"),
        (("--story", "plain/k0", "--seeds", "2"), "--story tells of one seed, so give no --seeds"),
    ],
)
def test_wrong_usage_is_refused_by_name(command: Dyno, words: tuple[str, ...], says: str) -> None:
    ended = command("simulate", *words)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err == f"dyno: {says}\n"


def test_ctrl_c_ends_it_at_once() -> None:
    words = ["simulate", "--seeds", "1000", "--hours", "0.002", "--faults", "crash"]
    with subprocess.Popen(
        [sys.executable, "-m", "dyno", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"seed 1: ")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group gets it
        assert process.wait() == 130
        assert process.stderr.read() == b""
        process.stdout.read()  # ends only when no process holds the pipe any more


def test_a_process_that_is_killed_ends_it_with_the_seed_that_was_lost() -> None:
    """What is known of other seeds is told first."""
    code = (
        "import os; os.sched_getaffinity = lambda pid: [0, 1]\n"
        "import sys; from dyno.cli.app import run\n"
        "from dyno.cli.simulate.workers import Result, Workers\n"
        "heard = Workers._heard\n"
        "def kill_another(self, connection):\n"
        "    news = heard(self, connection)\n"
        "    if isinstance(news, Result):\n"
        "        next(process for one, process in self._processes.items() if one is not connection).kill()\n"
        "    return news\n"
        "Workers._heard = kill_another\n"
        "if __name__ == '__main__': sys.exit(run(sys.argv[1:]))"
    )
    words = ["simulate", *SHORT, "--seed", "5", "--seeds", "1000"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, check=False, cwd=ROOT, timeout=300
    )
    lost = re.fullmatch(
        r"dyno: the process that ran seed (\d+) was killed \(signal 9\), as it is where memory is short, so "
        r"this says nothing of it; again: dyno simulate --seed (\d+) --hours 0\.002 --faults [a-z,]+\n",
        ended.stderr.decode(),
    )
    assert lost is not None, ended.stderr
    assert (ended.returncode, lost[1]) == (2, lost[2])
    told = [line for line in ended.stdout.decode().splitlines() if line.startswith("seed ")]
    done = [int(line.split()[1].removesuffix(":")) for line in told]
    assert done
    assert int(lost[1]) not in done
