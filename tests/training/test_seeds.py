"""Seeds made of several numbers."""

import itertools

import pytest

from lit_dcem.training.seeds import seed_of


@pytest.mark.parametrize(
    ("words", "seed"),
    [
        ((0,), 6569863346532939966),
        ((3, 0, 7), 3823186359581806887),
        ((2**63 - 1, 5), 8155698559991145589),
        ((1, 2, 3, 4), 6100127812649090955),
    ],
)
def test_seeds_stay_the_same(words, seed):
    """Resumed runs and published numbers depend on them."""
    assert seed_of(*words) == seed


def test_every_number_and_their_order_count():
    words = list(itertools.product(range(3), repeat=3))
    seeds = {seed_of(*each) for each in words}
    assert len(seeds) == len(words) and all(0 <= seed < 2**63 for seed in seeds)
