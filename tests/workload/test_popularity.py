"""The draws follow the closed form of their distribution. Seeds are fixed, so a bound holds or does not."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from random import Random

import pytest

from dyno.workload.popularity import CONSTANT, SCRAMBLED_RANKS, Scrambled, Zipfian, fnv64, latest

DRAWS = 100_000


def zeta(count: int) -> float:
    """The sum of k**-CONSTANT up to count; from 1000 on by the midpoint rule, exact to 1e-9 there."""
    exactly = min(count, 1000)
    head = sum(rank**-CONSTANT for rank in range(1, exactly + 1))
    rise = 1 - CONSTANT
    return head + ((count + 0.5) ** rise - (exactly + 0.5) ** rise) / rise


def within(seen: int, share: float, *, sigmas: float = 4) -> bool:
    """Whether a count of DRAWS is what a binomial distribution would bring."""
    return abs(seen - DRAWS * share) <= sigmas * sqrt(DRAWS * share * (1 - share))


def test_the_sum_is_ycsbs() -> None:
    assert zeta(SCRAMBLED_RANKS) == pytest.approx(26.46902820178302, rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 12_345])
def test_ranks_are_zipfian(count: int) -> None:
    zipfian, total = Zipfian(Random(count)), zeta(count)
    drawn = Counter(zipfian.rank(count) for _ in range(DRAWS))
    assert min(drawn) >= 1
    assert max(drawn) <= count
    # Chi-square over the first ranks and all others together.
    expected = [DRAWS * rank**-CONSTANT / total for rank in range(1, min(count, 100) + 1)]
    observed = [drawn[rank] for rank in range(1, len(expected) + 1)]
    if count > len(expected):
        expected.append(DRAWS - sum(expected))
        observed.append(DRAWS - sum(observed))
    freedom = len(expected) - 1
    chi_square = sum((seen - due) ** 2 / due for seen, due in zip(observed, expected, strict=True))
    assert chi_square <= freedom + 4 * sqrt(2 * freedom)


def test_so_are_ranks_of_more_items_than_any_table_holds() -> None:
    zipfian, total = Zipfian(Random(7)), zeta(SCRAMBLED_RANKS)
    drawn = [zipfian.rank(SCRAMBLED_RANKS) for _ in range(DRAWS)]
    assert within(drawn.count(1), 1 / total)
    for bound in (10, 1000, 1_000_000):
        assert within(sum(rank <= bound for rank in drawn), zeta(bound) / total)
    assert max(drawn) <= SCRAMBLED_RANKS


def test_the_count_may_change_from_draw_to_draw() -> None:
    zipfian = Zipfian(Random(3))
    drawn = {count: Counter[int]() for count in (2, 50)}
    for _ in range(DRAWS):
        for count, ranks in drawn.items():
            ranks[zipfian.rank(count)] += 1
    for count, ranks in drawn.items():
        assert within(ranks[1], 1 / zeta(count))
        assert within(ranks[count], count**-CONSTANT / zeta(count))


def test_the_extremes_of_chance_stay_within_the_ranks() -> None:
    class Extreme(Random):
        def random(self) -> float:
            return next(draws)

    for draw in (0.0, 1 - 2**-53):
        for count in (1, 2, 1000, SCRAMBLED_RANKS):
            draws = iter([draw, draw, 0.5])
            assert 1 <= Zipfian(Extreme()).rank(count) <= count


def test_popular_items_are_scattered_over_all_and_every_item_is_asked_for() -> None:
    scrambled = Scrambled(Random(1), 1000)
    drawn = Counter(scrambled.item() for _ in range(DRAWS))
    assert sorted(drawn) == list(range(1000))
    hottest = [item for item, _ in drawn.most_common(4)]
    assert hottest[0] == fnv64(0) % 1000
    assert hottest != sorted(hottest)
    # The first rank's share, and of all other ranks about what falls to any item.
    total = zeta(SCRAMBLED_RANKS)
    assert within(drawn[hottest[0]], (1 + (total - 1) / 1000) / total, sigmas=6)


def test_the_latest_item_is_the_most_popular() -> None:
    zipfian = Zipfian(Random(1))
    drawn = Counter(latest(zipfian, 1000) for _ in range(DRAWS))
    assert (min(drawn), max(drawn)) == (0, 999)
    assert within(drawn[999], 1 / zeta(1000))
    assert within(drawn[998], 2**-CONSTANT / zeta(1000))


def test_the_hash_is_fnv_1a() -> None:
    def fnv_1a(data: bytes) -> int:
        value = 0xCBF29CE484222325
        for byte in data:
            value = (value ^ byte) * 0x100000001B3 % 2**64
        return value

    assert fnv_1a(b"foobar") == 0x85944171F73967E8  # of the algorithm's published test vectors
    for number in (0, 1, 255, 256, 10**10, 2**64 - 1):
        assert fnv64(number) == fnv_1a(number.to_bytes(8, "little"))


def test_the_same_seed_draws_the_same() -> None:
    one, other = Scrambled(Random(5), 100), Scrambled(Random(5), 100)
    assert [one.item() for _ in range(100)] == [other.item() for _ in range(100)]
