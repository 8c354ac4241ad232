"""How far a node distrusts itself."""

from __future__ import annotations

from dyno.protocol.local_health import LocalHealth


def test_signs_of_trouble_add_up_to_a_bound_and_signs_of_health_take_them_away():
    health = LocalHealth(factor_max=8)
    factors = []
    for by in (-1, 1, 3, 0, 3, 3, -1, -1):
        health.change(by)
        factors.append(health.factor)
    assert factors == [1, 2, 5, 5, 8, 8, 7, 6]


def test_with_a_bound_of_one_a_node_never_distrusts_itself():
    health = LocalHealth(factor_max=1)
    health.change(5)
    assert health.factor == 1
