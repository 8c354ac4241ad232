"""The 95th percentile of what comes, whatever it is distributed like."""

from __future__ import annotations

import math
from random import Random

import pytest

from dyno.hedging.usual import LATER, Usual

DISTRIBUTIONS = {
    "exponential": (lambda random: random.expovariate(1000), 0.0029957),
    "uniform": (lambda random: random.uniform(0.001, 0.01), 0.00955),
    "lognormal": (lambda random: random.lognormvariate(-6, 1), math.exp(-6 + 1.6449)),
    "pareto": (lambda random: 0.001 * random.paretovariate(1.5), 0.001 * 20 ** (1 / 1.5)),
    "two humps": (lambda random: random.uniform(0.1, 0.2) if random.random() < 0.1 else 0.002, 0.15),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_one_sample_in_twenty_is_above(name, seed):
    draw, quantile = DISTRIBUTIONS[name]
    random, usual = Random(seed), Usual(least=1e-6, most=10.0)
    for _ in range(1500):
        usual.took(draw(random))
    above, mean, samples = 0, 0.0, 20_000
    for _ in range(samples):
        seconds = draw(random)
        above += seconds > usual.seconds
        mean += math.log(usual.seconds) / samples
        usual.took(seconds)
    assert above / samples == pytest.approx(0.05, abs=0.003)
    assert math.exp(mean) == pytest.approx(quantile, rel=0.2)


def test_it_follows_a_shift_within_some_hundred_samples():
    random, usual = Random(1), Usual(least=0.001, most=10.0)

    def after(samples, rate):
        for _ in range(samples):
            usual.took(random.expovariate(rate))
        return usual.seconds

    settled = after(2000, 1000)
    assert settled == pytest.approx(0.003, rel=0.6)
    assert after(100, 100) == pytest.approx(0.03, rel=0.7), "up is quick: a node got slow"
    assert after(600, 1000) == pytest.approx(0.003, rel=0.7), "down takes longer"


def test_it_starts_patient_and_stays_within_its_bounds():
    usual = Usual(least=0.005, most=0.05)
    assert usual.seconds == 0.05
    for _ in range(1000):
        usual.took(0.0)
    assert usual.seconds == 0.005
    for _ in range(1000):
        usual.took(LATER)
    assert usual.seconds == 0.05


def test_what_took_just_as_long_is_not_late():
    usual = Usual(least=0.001, most=0.05)
    usual.took(0.05)
    assert usual.seconds < 0.05


def test_a_least_above_the_most_gives_way():
    usual = Usual(least=0.005, most=0.002)
    usual.took(0.0)
    assert usual.seconds == 0.002
