"""The experiment of the Lifeguard paper (arXiv 1707.00788, §V): its points, and one run of each kind.

An *interval* run: WARM_S of quiet, then C of the members freeze in lock-step for D, go on for I, and again,
in whole cycles for at least FREEZING_S. Counted are *false failures*: a member held one dead that never
freezes (FP); and of these the ones at members that never freeze themselves (FP-).

A *latency* run: the same quiet, then C members freeze for good. Of each it is told how long it took until the
first healthy member, and until all of them, held it dead.

In: a point, a detector and a seed; members that freeze, and everything else, follow from the seed alone, so
all detectors meet the same. Out: plain numbers.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from dyno.config import Config
from tests.detection.cluster import Cluster, Detector

FROZEN: Final = (1, 4, 8, 12, 16, 20, 24, 28, 32)
FREEZE_MS: Final = (128, 512, 2048, 8192, 16384, 32768)
THAW_MS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384)
MEMBERS: Final = 128
WARM_S: Final = 15.0
FREEZING_S: Final = 120.0
LATENCY_S: Final = 120.0  # a latency run ends then at the latest
_LOOK_S: Final = 1.0


class Point(NamedTuple):
    frozen: int
    freeze_ms: int
    thaw_ms: int


class Interval(NamedTuple):
    """messages, bytes: per member and second, over the whole run."""

    false: int
    false_at_healthy: int
    messages: float
    bytes: float


class Latency(NamedTuple):
    """Seconds for each member that froze; None for one that was never found out."""

    first: list[float | None]
    everywhere: list[float | None]
    messages: float
    bytes: float


def grid() -> list[Point]:
    """All 432, in their order."""
    return [Point(c, d, i) for c in FROZEN for d in FREEZE_MS for i in THAW_MS]


def sample(count: int, seed: int) -> list[Point]:
    """So many of them, spread over the grid: each value of C, D and I is there as often as any other."""
    random = Random(f"sample {seed}")
    columns = []
    for values in (FROZEN, FREEZE_MS, THAW_MS):
        column = list(values) * (count // len(values)) + random.sample(values, count % len(values))
        random.shuffle(column)
        columns.append(column)
    chosen: dict[Point, None] = {}
    for frozen, freeze_ms, thaw_ms in zip(*columns, strict=True):
        point = Point(frozen, freeze_ms, thaw_ms)
        while point in chosen:  # another I rather than the same point twice
            point = point._replace(thaw_ms=random.choice(THAW_MS))
            if all(point._replace(thaw_ms=ms) in chosen for ms in THAW_MS):
                point = random.choice(grid())
        chosen[point] = None
    return list(chosen)


def detectors(*, alpha: float, beta: float) -> dict[str, Detector]:
    """SWIM as memberlist has it without Lifeguard, Lifeguard as published, and dyno's own."""
    swim = Config(suspicion_mult=alpha, suspicion_max_mult=1.0, self_distrust_max=1)
    lifeguard = Config(suspicion_mult=alpha, suspicion_max_mult=beta)
    return {
        "SWIM": Detector(swim, nacks=False, buddy=False, careful=False, timers_first=True),
        "Lifeguard": Detector(lifeguard, nacks=True, buddy=True, careful=False, timers_first=True),
        "dyno": Detector(lifeguard, nacks=True, buddy=True, careful=True, timers_first=False),
    }


def run_interval(point: Point, detector: Detector, kind: str, seed: str, members: int = MEMBERS) -> Interval:
    cluster, frozen = _warm(members, point.frozen, detector, seed)
    end = WARM_S + FREEZING_S
    while cluster.now < end:
        cluster.freeze(frozen, kind)
        cluster.run_until(cluster.now + point.freeze_ms / 1000)
        cluster.thaw(frozen)
        cluster.run_until(cluster.now + point.thaw_ms / 1000)
    freezing = set(frozen)
    false = [failure for failure in cluster.failures if failure.member not in freezing]
    at_healthy = sum(failure.observer not in freezing for failure in false)
    return Interval(len(false), at_healthy, *_load(cluster))


def run_latency(
    frozen_count: int, detector: Detector, kind: str, seed: str, members: int = MEMBERS
) -> Latency:
    cluster, frozen = _warm(members, frozen_count, detector, seed)
    cluster.freeze(frozen, kind)
    freezing = set(frozen)
    healthy = members - len(frozen)
    heard: dict[int, dict[int, float]] = {member: {} for member in frozen}
    counted = 0
    while cluster.now < WARM_S + LATENCY_S and any(len(by) < healthy for by in heard.values()):
        cluster.run_until(cluster.now + _LOOK_S)
        for failure in cluster.failures[counted:]:
            if failure.member in freezing and failure.observer not in freezing:
                heard[failure.member].setdefault(failure.observer, failure.at - WARM_S)
        counted = len(cluster.failures)
    return Latency(
        [min(by.values(), default=None) for by in heard.values()],
        [max(by.values()) if len(by) == healthy else None for by in heard.values()],
        *_load(cluster),
    )


def run_idle(detector: Detector, seed: str, members: int, seconds: float) -> tuple[float, float]:
    """Messages and bytes per member and second where nothing happens."""
    cluster = Cluster(members, detector=detector, seed=seed)
    cluster.run_until(seconds)
    return _load(cluster)


def _warm(members: int, count: int, detector: Detector, seed: str) -> tuple[Cluster, list[int]]:
    cluster = Cluster(members, detector=detector, seed=seed)
    frozen = Random(f"frozen {seed}").sample(range(members), count)
    cluster.run_until(WARM_S)
    return cluster, frozen


def _load(cluster: Cluster) -> tuple[float, float]:
    per = len(cluster.members) * cluster.now
    return cluster.messages.total() / per, cluster.bytes.total() / per
