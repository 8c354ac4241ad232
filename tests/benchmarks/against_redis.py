"""Compare dyno with redis-py asyncio, side by side in one run.

    python tests/benchmarks/against_redis.py [--seconds 3] [--rounds 3] [--outstanding 1 16 64 256]
                                             [--only get put mixed batch] [--value-bytes 1000]

Starts three dyno nodes (N=3, R=W=2, every write fsynced on W of them) and, where redis-server and the redis
package are installed, one Redis master with two replicas (appendonly, appendfsync always), all on loopback
and on one disk. The same closed loops (see loops.py) run against both in turn, each in a process of its own:
gets, durable puts (Redis: SET and WAIT 1, in one pipeline and one after the other), half of each, and batches
of 100 keys (get_many against a pipeline of 100 GETs, 4 outstanding). redis-py runs with its parser in Python
and, where hiredis is installed, with that. Prints the medians over the rounds, dyno's rate over the other's,
and the client's CPU per operation, dyno's over the other's. Exits 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOOPS = str(Path(__file__).with_name("loops.py"))
BATCHES_OUTSTANDING = 4

Figures = dict[str, float]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(*command: str, ready: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A child that has said the line that means ready; ended by its own id."""
    child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=cwd)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if ready in line:
                break
        else:
            raise SystemExit(f"{command[0]} ended before it was ready")
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)


@contextlib.contextmanager
def dyno_cluster(directory: Path) -> Iterator[list[str]]:
    addresses: list[str] = []
    with contextlib.ExitStack() as stack:
        for number in range(1, 4):
            address = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "dyno", "node", "--name", f"n{number}", "--listen", address]
            command += ["--data", str(directory / f"n{number}")]
            for known in addresses:
                command += ["--join", known]
            stack.enter_context(process(*command, ready="ready on", cwd=Path.cwd()))
            addresses.append(address)
        yield addresses


@contextlib.contextmanager
def redis_servers(directory: Path) -> Iterator[list[str]]:
    """A master and two replicas that have caught up."""
    ports = [free_port() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for number, port in enumerate(ports):
            home = directory / f"redis{number}"
            home.mkdir()
            command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "yes"]
            command += ["--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
            ready = "eady to accept connections"
            if number:
                command += ["--replicaof", "127.0.0.1", str(ports[0])]
                ready = "Finished with success"
            stack.enter_context(process(*command, ready=ready, cwd=home))
        yield [f"127.0.0.1:{ports[0]}"]


def measure(store: str, what: str, at: list[str], *words: str) -> Figures:
    command = [sys.executable, LOOPS, store, what, *words]
    for address in at:
        command += ["--at", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures


def medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def compare(
    stores: dict[str, tuple[str, list[str], list[str]]],
    cases: list[tuple[str, int]],
    options: argparse.Namespace,
) -> None:
    """stores: by the name of a column, which store, where, and further words."""
    print(f"{options.value_bytes}-byte values, medians of {options.rounds} rounds of {options.seconds:g} s")
    print("what   outstanding  store                    ops/s  ratio  p50 ms  p99 ms  client CPU us  ratio")
    for what, outstanding in cases:
        words = ["--outstanding", str(outstanding), "--seconds", str(options.seconds)]
        words += ["--value-bytes", str(options.value_bytes)]
        rounds: dict[str, list[Figures]] = {name: [] for name in stores}
        for _ in range(options.rounds):
            for name, (store, at, more) in stores.items():
                if what in ("get", "batch") and "--separate-wait" in more:
                    continue  # has no puts
                rounds[name].append(measure(store, what, at, *words, *more))
        ours = medians(rounds["dyno"])
        for name in [name for name in stores if rounds[name]]:
            its = medians(rounds[name])
            line = f"{what:6} {outstanding:11}  {name:19} {its['ops_per_s']:10,.0f}"
            rates, costs = ours["ops_per_s"] / its["ops_per_s"], ours["cpu_us"] / its["cpu_us"]
            line += f"  {rates:5.2f}  {its['p50_ms']:6.2f}  {its['p99_ms']:6.2f}"
            print(f"{line}  {its['cpu_us']:13.1f}  {costs:5.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outstanding", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--only", nargs="+", choices=["get", "put", "mixed", "batch"])
    parser.add_argument("--value-bytes", type=int, default=1000)
    options = parser.parse_args()
    wanted = options.only or ["get", "mixed", "put", "batch"]
    cases = [(what, count) for what in wanted if what != "batch" for count in options.outstanding]
    if "batch" in wanted:
        cases.append(("batch", BATCHES_OUTSTANDING))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores = {"dyno": ("dyno", stack.enter_context(dyno_cluster(directory)), [])}
        if shutil.which("redis-server") and importlib.util.find_spec("redis"):
            at = stack.enter_context(redis_servers(directory))
            stores["redis-py"] = ("redis", at, ["--no-hiredis"])
            stores["redis-py, SET, WAIT"] = ("redis", at, ["--no-hiredis", "--separate-wait"])
            if importlib.util.find_spec("hiredis"):
                stores["redis-py, hiredis"] = ("redis", at, [])
        else:
            print("redis-server or the redis package is not installed: dyno alone")
        compare(stores, cases, options)


if __name__ == "__main__":
    main()
