import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from service.assignment import assign

sizes = st.integers(0, 7)


def total(weights, pairs):
    return sum(weights[pair] for pair in pairs)


@settings(max_examples=100)
@given(
    st.tuples(sizes, sizes).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1, width=16) | st.sampled_from([0.0, 0.5, 1.0]))
    )
)
def test_no_other_pairs_weigh_more(weights):
    pairs = assign(weights)
    assert all(weights[pair] > 0 for pair in pairs)
    assert pairs == sorted(pairs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    rows, columns = linear_sum_assignment(weights, maximize=True)
    assert total(weights, pairs) == pytest.approx(weights[rows, columns].sum())


def test_a_hundred_of_each():
    weights = np.random.default_rng(0).random((100, 100))
    rows, columns = linear_sum_assignment(weights, maximize=True)
    assert assign(weights) == list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_the_best_for_one_is_not_the_best_for_all():
    assert assign(np.array([[0.9, 0.8], [0.8, 0.1]])) == [(0, 1), (1, 0)]


def test_what_is_not_above_zero_is_never_paired():
    assert assign(np.array([[-1.0, 0.0], [0.0, 0.2]])) == [(1, 1)]
