"""What a seat scores is its own affair, spread evenly over the partitions."""

from math import log

import pytest

from dyno.placement.scores import scores

A, B, C = (bytes([i]) * 16 for i in (1, 2, 3))


def test_a_seat_scores_the_same_whoever_else_is_there():
    alone = scores([A], [1.0], 256, seed=0)[0]
    assert scores([C, A, B], [1.0, 1.0, 1.0], 256, seed=0)[1] == alone
    weighted = scores([A, B], [1.0, 2.0], 256, seed=0)[0]
    assert scores([B, A, C], [3.0, 1.0, 5.0], 256, seed=0)[1] == weighted


def test_equal_weights_order_as_unequal_ones_do():
    """Ranks stand in for quantiles; a first seat of another weight must not reshuffle the others."""
    ranks = [value for own in scores([A, B], [1.0, 1.0], 512, seed=0) for value in own]
    quantiles = [value for own in scores([A, B, C], [1.0, 1.0, 2.0], 512, seed=0)[:2] for value in own]
    assert sorted(range(1024), key=ranks.__getitem__) == sorted(range(1024), key=quantiles.__getitem__)


def test_no_two_partitions_of_a_seat_score_alike_and_each_stratum_has_one():
    own = scores([A], [1.0], 1000, seed=0)[0]
    assert sorted(value >> 16 for value in own) == list(range(1000))


@pytest.mark.parametrize("partitions", [1, 2, 7, 64])
def test_any_number_of_partitions_will_do(partitions):
    for weights in ([1.0, 1.0], [1.0, 2.0]):
        drawn = scores([A, B], weights, partitions, seed=0)
        assert [len(own) for own in drawn] == [partitions, partitions]
        assert all(value >= 0 for own in drawn for value in own)


def test_seeds_and_ids_give_unrelated_orders():
    def order(seat, seed):
        own = scores([seat], [1.0], 1024, seed=seed)[0]
        return sorted(range(1024), key=own.__getitem__)

    base = order(A, 0)
    for other in (order(B, 0), order(A, 1)):
        assert len(set(base[:100]) & set(other[:100])) < 30


def test_a_seat_of_double_weight_wins_twice_as_often():
    heavy, light = scores([A, B], [2.0, 1.0], 8192, seed=0)
    wins = sum(one < other for one, other in zip(heavy, light, strict=True))
    assert abs(wins / 8192 - 2 / 3) < 0.02


def test_weighted_scores_are_exponential_quantiles():
    own, _ = scores([A, B], [1.0, 2.0], 1024, seed=0)
    unit = 1 << (32 + 16 + 64)
    for rank, value in enumerate(sorted(own)[:-1]):
        low, high = -log(1 - rank / 1024), -log(1 - (rank + 1) / 1024)
        assert low - 1e-6 <= value / unit <= high + 1e-6
