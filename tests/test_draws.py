import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mfm.numerics.draws import Stream, hashes, permutation, uniforms

N = 20_000
SEEDS = st.integers(0, 2**63 - 1)
streams = st.sampled_from(list(Stream))
examples = settings(deadline=None, max_examples=40)


def draw(seed=0, epoch=0, stream=Stream.CROP, indices=None, n=1):
    indices = np.arange(N) if indices is None else np.asarray(indices, np.int64)
    return uniforms(seed=seed, epoch=epoch, stream=stream, indices=indices, n=n)


# SplitMix64 in whole numbers: the k-th output of a generator with state s is mix(s + k * golden).
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def splitmix(state, k):
    return mix((state + k * GOLDEN) & MASK)


def reference(seed, epoch, stream, index, n):
    key = 0
    for word in (seed, epoch, int(stream)):
        key = splitmix(key + word, 1)
    image = splitmix(key, index + 1)
    return [splitmix(image, k) for k in range(1, n + 1)]


def test_the_reference_is_splitmix64():
    # first outputs for state 1234567, as published with the reference implementations
    assert [splitmix(1234567, k) for k in range(1, 6)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=SEEDS,
    epoch=st.integers(0, 2000),
    stream=streams,
    index=st.integers(0, 2**40),
    n=st.integers(1, 5),
)
@examples
def test_hashes_are_splitmix64_of_their_coordinates(seed, epoch, stream, index, n):
    words = hashes(seed=seed, epoch=epoch, stream=stream, indices=np.array([index]), n=n)
    assert words.dtype == np.uint64
    assert words[0].tolist() == reference(seed, epoch, stream, index, n)


# A change of any of these would break every run that is resumed across it.


def test_pinned_streams():
    assert {stream.name: stream.value for stream in Stream} == {
        "ORDER": 1,
        "CROP": 2,
        "KEEP_LOW": 3,
        "AUGMENT": 4,
        "MIX": 5,
        "SUBSET": 6,
        "STEP": 7,
        "HOLDOUT": 8,
        "REPORT": 9,
        "ERASE": 10,
        "ERASE_NOISE": 11,
        "BLUR": 12,
        "NOISE": 13,
        "PATCHES": 14,
        "VIEW": 15,
        "VAL": 16,
        "EVALUATED": 17,
        "CORRUPTION": 18,
        "WAVE": 19,
    }


def test_pinned_words():
    words = hashes(seed=1, epoch=2, stream=Stream.CROP, indices=np.array([0, 1, 1_281_166]), n=2)
    assert words.tolist() == [
        [449350096667798058, 16275152197251258051],
        [13446434610598434132, 12640967526243309882],
        [9878036030436862738, 2373116694611913888],
    ]


def test_pinned_uniforms():
    values = draw(seed=0, epoch=0, stream=Stream.KEEP_LOW, indices=[0, 7])
    assert values.tolist() == [[0.336594276197584], [0.5222125849251062]]


def test_pinned_order():
    assert permutation(10, seed=0, epoch=0).tolist() == [9, 5, 6, 2, 3, 4, 7, 1, 8, 0]
    assert permutation(10, seed=3, epoch=1).tolist() == [4, 3, 2, 7, 0, 5, 1, 8, 9, 6]


@given(seed=SEEDS, epoch=st.integers(0, 2000), stream=streams, n=st.integers(1, 50))
@examples
def test_uniforms_lie_in_the_unit_interval(seed, epoch, stream, n):
    values = draw(seed, epoch, stream, range(50), n)
    assert values.shape == (50, n)
    assert values.dtype == np.float64
    assert ((values >= 0) & (values < 1)).all()


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_uniforms_are_uniform(seed, stream):
    values = draw(seed, 5, stream, n=4)
    for column in values.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    for row in draw(seed, 5, stream, range(3), n=N):
        assert stats.kstest(row, "uniform").pvalue > 1e-3


def test_uniforms_of_different_coordinates_are_uncorrelated():
    columns = [
        *draw(n=3).T,
        draw(seed=1)[:, 0],
        draw(epoch=1)[:, 0],
        draw(stream=Stream.AUGMENT)[:, 0],
        draw(indices=np.arange(1, N + 1))[:, 0],
    ]
    correlations = np.corrcoef(columns)[np.triu_indices(len(columns), 1)]
    assert np.abs(correlations).max() < 4 / N**0.5


def test_equal_coordinates_are_needed_for_equal_words():
    words = {
        int(word)
        for seed, epoch, stream in itertools.product(range(8), range(8), Stream)
        for word in hashes(
            seed=seed, epoch=epoch, stream=stream, indices=np.arange(16), n=4
        ).ravel()
    }
    assert len(words) == 8 * 8 * len(Stream) * 16 * 4


@given(seed=SEEDS, epoch=st.integers(0, 2000), stream=streams, data=st.data())
@examples
def test_neither_order_nor_batching_nor_number_matters(seed, epoch, stream, data):
    indices = np.array(data.draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=20)))
    cut = data.draw(st.integers(0, len(indices)))
    order = np.array(data.draw(st.permutations(range(len(indices)))))
    whole = draw(seed, epoch, stream, indices, n=5)
    parts = [draw(seed, epoch, stream, part, n=5) for part in (indices[:cut], indices[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(draw(seed, epoch, stream, indices[order], n=5), whole[order])
    np.testing.assert_array_equal(draw(seed, epoch, stream, indices, n=2), whole[:, :2])


@given(n=st.integers(0, 500), seed=SEEDS, epoch=st.integers(0, 2000), stream=streams)
@examples
def test_permutation_permutes(n, seed, epoch, stream):
    order = permutation(n, seed=seed, epoch=epoch, stream=stream)
    assert sorted(order.tolist()) == list(range(n))


def test_every_permutation_is_as_likely():
    count = dict.fromkeys(itertools.permutations(range(4)), 0)
    for epoch in range(2400):
        count[tuple(permutation(4, seed=0, epoch=epoch).tolist())] += 1
    assert stats.chisquare(list(count.values())).pvalue > 1e-3


def test_orders_differ_by_seed_epoch_and_stream():
    orders = [
        permutation(50, seed=0, epoch=0),
        permutation(50, seed=1, epoch=0),
        permutation(50, seed=0, epoch=1),
        permutation(50, seed=0, epoch=0, stream=Stream.SUBSET),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4
