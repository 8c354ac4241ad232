"""What was acknowledged survives kill -9, and is only acknowledged when the disk has it.

Real processes (writer.py), killed or given failing system calls from outside with strace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from dyno.storage.engine import KEY_END
from dyno.storage.lmdb.directory import DataDirectory, open_directory

ROOT = Path(__file__).parents[3]
WRITER = Path(__file__).with_name("writer.py")
RECORDS = 5  # in a batch of the writer

strace = shutil.which("strace")
needs_strace = pytest.mark.skipif(strace is None, reason="strace is not installed")


def command(data: Path, batches: int) -> list[str]:
    return [sys.executable, "-S", str(WRITER), str(data), str(batches)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def reopened(data: Path) -> DataDirectory:
    return open_directory(str(data), size_max=1 << 32, reserve_bytes=0)


def whole_batches(data: Path) -> int:
    """Asserts that exactly the batches 1..n are there, each whole; returns n."""
    directory = reopened(data)
    engine = directory.engine
    count = engine.commit_number
    found: dict[bytes, bytes | None] = {}
    start: bytes | None = b""
    while start is not None:
        items, start = engine.scan(start, KEY_END, limit=1000)
        found.update(items)
    last = engine.get_meta("batch")
    directory.close()
    if count:
        assert last == found.pop(b"last") == count.to_bytes(8, "big")
    per_batch = [0] * (count + 1)
    for key, value in found.items():
        assert value is not None
        assert value == key * (len(value) // len(key))
        per_batch[int.from_bytes(key[3:], "big")] += 1
    assert per_batch == [0] + [RECORDS - 1] * count
    return count


# ── kill -9 ──


def test_every_acknowledged_batch_survives_kill_9_whole(tmp_path: Path) -> None:
    random = Random(11)
    count = 0
    for _ in range(6):
        with subprocess.Popen(
            command(tmp_path, 1_000_000), stdout=subprocess.PIPE, env=environment(), cwd=ROOT
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open %d\n" % count
            for _ in range(random.randrange(1, 120)):
                assert process.stdout.readline().startswith(b"ack ")
            process.kill()
            # More were acknowledged between our last look and its end.
            acknowledged = int(process.stdout.read().rstrip(b"\n").split(b"ack ")[-1] or 0)
        assert process.returncode == -signal.SIGKILL
        before, count = count, whole_batches(tmp_path)
        assert max(before + 1, acknowledged) <= count <= max(before + 120, acknowledged + 1)
    assert count > 100


# ── system calls, seen and failed from outside ──

TRACED = (
    "write,writev,pwrite64,pwritev,fdatasync,fsync,msync,openat,ftruncate,rename,renameat,unlink,unlinkat"
)
CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")


def traced(data: Path, batches: int, *, inject: str = "", status: int = 0) -> tuple[list[str], str]:
    """Runs the writer under strace; returns the traced calls and its output."""
    assert strace is not None
    trace = data.with_suffix(".trace")
    fault = ["-e", f"inject={inject}"] if inject else []
    process = subprocess.run(
        [
            strace,
            "-f",
            "-y",
            "-o",
            str(trace),
            "-e",
            f"trace={TRACED}",
            *fault,
            *command(data, batches),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    if "ptrace" in process.stderr.lower():
        pytest.skip(f"strace may not trace here: {process.stderr.strip()}")
    assert process.returncode == status, process.stderr
    return trace.read_text().splitlines(), process.stdout


def kind(line: str) -> str:
    """What a traced call does to the data file: "pages", "sync", "meta", or "" for others; or "ack"."""
    call = CALL.match(line)
    if call is None or int(call[3]) < 0:
        return ""
    name, arguments = call[1], call[2]
    if name == "write" and arguments.startswith("1<") and '"ack ' in arguments:
        return "ack"
    if "/data.mdb>" not in arguments.split(",")[0]:
        return ""
    if name == "fdatasync":
        return "sync"
    # LMDB writes its meta page, less than a page of bytes, through a descriptor opened with O_DSYNC.
    return "meta" if int(call[3]) < 4096 else "pages"


def ordinal(lines: list[str], wanted: str, *, of_batch: int) -> tuple[str, int]:
    """The system call that does the last `wanted` thing for a batch, and which of its name it is."""
    acks = [index for index, line in enumerate(lines) if kind(line) == "ack"]
    at = max(index for index in range(acks[of_batch - 1]) if kind(lines[index]) == wanted)
    call = CALL.match(lines[at])
    assert call is not None
    matches = [CALL.match(line) for line in lines[: at + 1]]
    return call[1], sum(match is not None and match[1] == call[1] for match in matches)


@needs_strace
def test_synced_pages_and_a_synchronous_meta_page_precede_each_acknowledgement(tmp_path: Path) -> None:
    lines, output = traced(tmp_path / "data", 8)
    assert output.splitlines() == ["open 0", *(f"ack {number}" for number in range(1, 9))]
    kinds = "".join(kind(line)[:1] for line in lines)
    assert re.fullmatch(r".*?(?:p+sma){8}[ps]*", kinds), kinds
    meta = next(line for line in lines if kind(line) == "meta")
    descriptor = meta.split("(")[1].split("<")[0]
    opened = [line for line in lines if re.search(rf"openat\(.*/data.mdb\".* = {descriptor}<", line)]
    assert len(opened) == 1
    assert "O_DSYNC" in opened[0]


@needs_strace
def test_a_failed_sync_stops_all_writing_and_is_not_tried_again(tmp_path: Path) -> None:
    name, count = ordinal(traced(tmp_path / "model", 4)[0], "sync", of_batch=3)
    data = tmp_path / "data"
    lines, output = traced(data, 4, inject=f"{name}:error=EIO:when={count}")
    assert output.splitlines()[:3] == ["open 0", "ack 1", "ack 2"]
    assert re.search(r"failed StorageBroken: a commit to \S+ failed with room left: .*Input/output", output)
    assert f"again StorageBroken, read {(2).to_bytes(8, 'big')!r}" in output
    assert "INJECTED" in [line for line in lines if "data.mdb" in line][-1]
    assert whole_batches(data) == 2


@needs_strace
def test_a_failed_meta_page_stops_reading_too(tmp_path: Path) -> None:
    name, count = ordinal(traced(tmp_path / "model", 4)[0], "meta", of_batch=3)
    data = tmp_path / "data"
    _, output = traced(data, 4, inject=f"{name}:error=EIO:when={count}")
    assert output.splitlines()[:3] == ["open 0", "ack 1", "ack 2"]
    assert re.search(
        r"failed StorageBroken: a commit to \S+ failed, and nothing can be read any more: ", output
    )
    assert "again StorageBroken, read StorageBroken" in output
    assert whole_batches(data) == 2


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS"])
def test_pages_that_found_no_room_are_refused_and_may_be_written_later(tmp_path: Path, error: str) -> None:
    name, count = ordinal(traced(tmp_path / "model", 4)[0], "pages", of_batch=3)
    data = tmp_path / "data"
    _, output = traced(data, 4, inject=f"{name}:error={error}:when={count}")
    assert output.splitlines()[:3] == ["open 0", "ack 1", "ack 2"]
    assert re.search(r"failed StorageFull: .*(room|read-only)", output)
    assert f"again 3, read {(3).to_bytes(8, 'big')!r}" in output


@needs_strace
def test_a_birth_killed_at_any_step_is_completed_by_the_next_start(tmp_path: Path) -> None:
    model = tmp_path / "model"
    calls = [CALL.match(line) for line in traced(model, 0)[0]]
    names = [call[1] if call else "" for call in calls]
    steps = [
        (name, names[: index + 1].count(name))
        for index, (name, call) in enumerate(zip(names, calls, strict=True))
        if call is not None and name != "openat" and str(model) in call[2]
    ]
    assert {name for name, _ in steps} >= {"fsync", "fdatasync", "pwrite64", "rename", "unlink"}
    for name, count in steps:
        data = tmp_path / f"{name}-{count}"
        traced(data, 0, inject=f"{name}:signal=KILL:when={count}", status=-signal.SIGKILL)
        directory = reopened(data)
        assert directory.engine.write_batch({b"key": b"value"}, {}) == 1
        directory.close()
        directory = reopened(data)
        assert directory.engine.get(b"key") == b"value"
        directory.close()
