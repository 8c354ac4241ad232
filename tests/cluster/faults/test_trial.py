"""Short trials with real processes, as part of the test command; `python -m tests.cluster.faults` is for long
ones.

Where this machine cannot have a kind of fault, the test that is about it is skipped and says why.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol.rows import HINTS
from dyno.simulator.history import Key
from dyno.storage.cell import pack_cell
from dyno.storage.lmdb.directory import open_directory
from tests.cluster.faults import plan
from tests.cluster.faults.__main__ import again, figures, main
from tests.cluster.faults.disks import look
from tests.cluster.faults.grounds import has_netem, sweep, why_no_namespaces
from tests.cluster.faults.node import sweep as sweep_disks
from tests.cluster.faults.node import why_no_disks
from tests.cluster.faults.trial import Options, run

if TYPE_CHECKING:
    from tests.cluster.faults.trial import Outcome

pytestmark = pytest.mark.cluster

NO_NAMESPACES = why_no_namespaces()
NO_LOSS = NO_NAMESPACES or ("" if has_netem() else "the kernel has no netem, so packets cannot be lost")
NO_DISKS = why_no_disks()


def assert_held(outcome: Outcome) -> None:
    assert outcome.violations == [], "\n".join(figures(outcome))
    assert outcome.operations > 200
    assert outcome.acknowledged > 100
    assert sum(outcome.faults.values()) >= 2, outcome.faults


def test_nodes_that_are_killed_and_paused_and_one_that_loses_its_directory_lose_nothing():
    kinds = (plan.KILL, plan.PAUSE, plan.WIPE)
    outcome = run(Options(seed=66, nodes=3, seconds=7.0, kinds=kinds, loopback=True))
    assert_held(outcome)
    assert set(outcome.faults) == set(kinds)
    assert outcome.starts == 3 + outcome.faults[plan.KILL] + outcome.faults[plan.WIPE]
    assert outcome.left_out == {}


@pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES)
def test_nodes_that_are_cut_off_from_each_other_lose_nothing():
    kinds = (plan.KILL, plan.PART, plan.ISOLATE, plan.ONE_WAY, plan.NARROW)
    outcome = run(Options(seed=100, nodes=5, seconds=6.5, kinds=kinds))
    assert_held(outcome)
    assert set(outcome.faults) >= {plan.PART, plan.ISOLATE, plan.ONE_WAY}
    assert outcome.left_out == {}


@pytest.mark.skipif(bool(NO_LOSS), reason=NO_LOSS)
def test_nodes_whose_packets_are_lost_and_late_lose_nothing():
    outcome = run(Options(seed=1, nodes=3, seconds=5.0, kinds=(plan.LOSSY,)))
    assert_held(outcome)


@pytest.mark.skipif(bool(NO_DISKS), reason=NO_DISKS)
def test_disks_that_are_full_for_a_while_and_one_that_is_an_old_copy_lose_nothing():
    kinds = (plan.KILL, plan.FULL, plan.RESTORE)
    outcome = run(Options(seed=123, nodes=3, seconds=7.0, kinds=kinds, loopback=True))
    assert_held(outcome)
    assert set(outcome.faults) == set(kinds)
    assert outcome.starts == 3 + outcome.faults[plan.KILL] + outcome.faults[plan.RESTORE], (
        "none stopped for it"
    )


def test_ctrl_c_leaves_nothing_behind():
    command = [sys.executable, "-m", "tests.cluster.faults", "--minutes", "5", "--nodes", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as trial:
        try:
            assert trial.stdout is not None
            with selectors.DefaultSelector() as selector:
                selector.register(trial.stdout, selectors.EVENT_READ)
                assert selector.select(60)
            assert b"nodes are up" in trial.stdout.readline()
            children = _children(trial.pid)
            assert len(children) == 3
            trial.send_signal(signal.SIGINT)
            _, said = trial.communicate(timeout=60)
        finally:
            trial.kill()
    assert (trial.returncode, said) == (130, b"")
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert f"dyno-faults-{trial.pid} " not in Path("/proc/mounts").read_text()
    spaces = Path("/run/netns")
    assert not spaces.exists() or not [space for space in spaces.iterdir() if f"-{trial.pid}-" in space.name]


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it is gone
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES)
def test_what_a_killed_trial_left_behind_is_removed_by_the_next_one():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        subprocess.run(["ip", "netns", "add", f"dyno-{pid}-n1"], check=True)
    try:
        sweep()
        left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert f"dyno-{gone.pid}-n1" not in left
        assert f"dyno-{os.getpid()}-n1" in left, "whose process lives"
    finally:
        subprocess.run(["ip", "netns", "del", f"dyno-{os.getpid()}-n1"], check=True)


@pytest.mark.skipif(bool(NO_DISKS), reason=NO_DISKS)
def test_disks_that_a_killed_trial_left_behind_are_taken_down_by_the_next_one(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        disk = tmp_path / str(pid)
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", f"dyno-faults-{pid}", str(disk)], check=True)
    try:
        sweep_disks()
        mounts = Path("/proc/mounts").read_text()
        assert f"dyno-faults-{gone.pid} " not in mounts
        assert f"dyno-faults-{os.getpid()} " in mounts, "whose process lives"
    finally:
        subprocess.run(["umount", str(tmp_path / str(os.getpid()))], check=True)


# ── what is looked at, and said ──


def test_the_disks_are_read(tmp_path: Path) -> None:
    key = Key("plain", "k1")
    record = Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"\x01").pack()
    slot = Keyspace(b"c" * 16, 64).slot(bucket_id("plain"), b"k1", 3)
    paths = {name: tmp_path / name for name in ("n1", "n2", "n3")}
    for name, path in paths.items():
        directory = open_directory(str(path), size_max=1 << 30, reserve_bytes=1)
        if name != "n3":
            directory.engine.write_batch({slot: pack_cell(b"k1", b"", record)}, {})
        if name == "n2":
            directory.engine.write_batch({HINTS + b"n3\0" + slot: b"hint"}, {})
        directory.close()
    found = look(paths, [key, Key("plain", "k2")])
    assert found.copies == {
        key: {"n1": record, "n2": record, "n3": b""},
        Key("plain", "k2"): {"n1": b"", "n2": b"", "n3": b""},
    }
    assert found.left == ["n2 still keeps 1 hints"]


def test_a_trial_can_be_run_again():
    options = Options(7, 3, 90.0, (plan.KILL,), loopback=True)
    assert again(options) == "--minutes 1.5 --seed 7 --nodes 3 --faults 'kill' --loopback"
    assert again(Options(7)) == "--minutes 0.333333 --seed 7 --nodes 5"


def test_unknown_faults_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--faults", "kill,flood"])
    assert ended.value.code == 2
    assert "no fault 'flood'" in capsys.readouterr().err
