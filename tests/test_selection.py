import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm.data.linking.selection import labelled_positions


@st.composite
def label_arrays(draw):
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[draw(st.permutations(range(len(labels))))], tuple("abcde"[: len(counts)])


@given(arrays=label_arrays(), fraction=st.floats(0.001, 1), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_a_fraction_is_that_of_each_class(arrays, fraction, seed):
    labels, classes = arrays
    positions = labelled_positions(labels, classes, None, fraction=fraction, seed=seed)
    counts = np.bincount(labels).tolist()
    expected = [max(1, math.floor(fraction * count + 0.5)) for count in counts]
    assert np.bincount(labels[positions]).tolist() == expected
    assert (np.diff(positions) > 0).all()


@given(arrays=label_arrays(), seed=st.integers(0, 2**32), data=st.data())
@settings(deadline=None)
def test_more_labels_include_the_fewer(arrays, seed, data):
    labels, classes = arrays
    fractions = sorted(data.draw(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1))))
    few, many = (
        set(labelled_positions(labels, classes, None, fraction=f, seed=seed)) for f in fractions
    )
    assert few <= many
    smallest = int(np.bincount(labels).min())
    ladder = [set(labelled_positions(labels, classes, n + 1, seed=seed)) for n in range(smallest)]
    assert all(fewer < more for fewer, more in itertools.pairwise(ladder))
