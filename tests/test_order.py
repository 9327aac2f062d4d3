import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm.data.loading.order import Plan
from mfm.errors import UserError

examples = settings(deadline=None, max_examples=60)


@st.composite
def plans(draw, pairing=(False, True)):
    """Rank 0 of any run a configuration can ask for."""
    world = draw(st.sampled_from([1, 2, 4]))
    pairs = draw(st.sampled_from(pairing))
    unit = 2 if pairs else 1
    batch = world * unit * draw(st.integers(1, 12))
    return Plan(
        images=batch + draw(st.integers(0, 3 * batch)),
        batch=batch,
        micro_batch=unit * draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 99)),
        rank=0,
        world=world,
        pairs=pairs,
    )


def share(step):
    return np.concatenate(step.micro_batches)


def ranks(plan):
    return [dataclasses.replace(plan, rank=rank) for rank in range(plan.world)]


def same(ours, theirs):
    return (
        (ours.epoch, ours.number) == (theirs.epoch, theirs.number)
        and np.array_equal(ours.positions, theirs.positions)
        and len(ours.micro_batches) == len(theirs.micro_batches)
        and all(map(np.array_equal, ours.micro_batches, theirs.micro_batches))
    )


@given(plan=plans(), epoch=st.integers(0, 9))
@examples
def test_an_epoch_shows_each_image_at_most_once(plan, epoch):
    steps = list(plan.epoch(epoch))
    assert len(steps) == plan.steps_per_epoch == plan.images // plan.batch
    assert [(step.epoch, step.number) for step in steps] == [(epoch, i) for i in range(len(steps))]
    assert all(len(step.positions) == plan.batch for step in steps)
    seen = np.concatenate([step.positions for step in steps])
    assert len(set(seen.tolist())) == len(seen) == plan.steps_per_epoch * plan.batch
    assert set(seen.tolist()) <= set(range(plan.images))


@given(plan=plans(), epoch=st.integers(0, 9))
@examples
def test_ranks_partition_the_global_batch(plan, epoch):
    for steps in zip(*(rank.epoch(epoch) for rank in ranks(plan)), strict=True):
        for step in steps:
            np.testing.assert_array_equal(step.positions, steps[0].positions)
        np.testing.assert_array_equal(
            np.concatenate([share(step) for step in steps]), steps[0].positions
        )
        assert {len(share(step)) for step in steps} == {plan.batch // plan.world}


@given(plan=plans(), micro=st.integers(1, 24), epoch=st.integers(0, 9))
@examples
def test_neither_ranks_nor_accumulation_change_the_batch(plan, micro, epoch):
    micro += micro % 2 if plan.pairs else 0
    alone = dataclasses.replace(plan, world=1, micro_batch=micro)
    for ours, theirs in zip(plan.epoch(epoch), alone.epoch(epoch), strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(share(theirs), theirs.positions)


@given(plan=plans(), epoch=st.integers(0, 9))
@examples
def test_pieces_are_equal_and_fit(plan, epoch):
    step = next(plan.epoch(epoch))
    size = plan.batch // plan.world // plan.accumulation
    assert size * plan.accumulation == plan.batch // plan.world
    assert [len(piece) for piece in step.micro_batches] == [size] * plan.accumulation
    assert size <= plan.micro_batch


@given(plan=plans())
@examples
def test_pieces_are_the_fewest(plan):
    unit = 2 if plan.pairs else 1
    mine = plan.batch // plan.world
    fewer = [n for n in range(1, plan.accumulation) if mine % (n * unit) == 0]
    assert all(mine // n > plan.micro_batch for n in fewer)


@pytest.mark.parametrize(
    ("batch", "world", "micro_batch", "pairs", "accumulation"),
    [
        (2048, 8, 256, False, 1),  # upstream: 8 devices x 256
        (2048, 1, 256, False, 8),
        (2048, 2, 256, True, 4),
        (2048, 1, 100, False, 32),  # 64 is the largest divisor that fits
        (12, 1, 6, True, 2),
        (12, 1, 5, True, 3),  # 2 pieces of 6 don't fit, 4 pieces of 3 cut a pair
        (7, 1, 6, False, 7),
    ],
)
def test_accumulation_of_some_batches(batch, world, micro_batch, pairs, accumulation):
    plan = Plan(
        images=2048, batch=batch, micro_batch=micro_batch, seed=0, rank=0, world=world, pairs=pairs
    )
    assert plan.accumulation == accumulation


@given(plan=plans(), epoch=st.integers(0, 9), data=st.data())
@examples
def test_a_resumed_epoch_is_its_tail(plan, epoch, data):
    first = data.draw(st.integers(0, plan.steps_per_epoch))
    rank = data.draw(st.sampled_from(ranks(plan)))
    whole, tail = list(rank.epoch(epoch)), list(rank.epoch(epoch, first_step=first))
    assert len(tail) == len(whole) - first
    assert all(map(same, tail, whole[first:]))


@given(plan=plans(pairing=[True]), epoch=st.integers(0, 9))
@examples
def test_partners_stay_together(plan, epoch):
    for steps in zip(*(rank.epoch(epoch) for rank in ranks(plan)), strict=True):
        wanted = {tuple(pair) for pair in steps[0].positions.reshape(-1, 2).tolist()}
        pieces = [piece for step in steps for piece in step.micro_batches]
        found = [tuple(pair) for piece in pieces for pair in piece.reshape(-1, 2).tolist()]
        assert len(found) == len(wanted)
        assert set(found) == wanted


def test_order_changes_with_epoch_and_seed():
    plan = Plan(images=64, batch=64, micro_batch=64, seed=0, rank=0, world=1, pairs=False)
    orders = [
        next(plan.epoch(0)).positions,
        next(plan.epoch(1)).positions,
        next(dataclasses.replace(plan, seed=1).epoch(0)).positions,
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert {tuple(sorted(order.tolist())) for order in orders} == {tuple(range(64))}


def test_images_left_out_change_by_epoch():
    plan = Plan(images=11, batch=4, micro_batch=4, seed=0, rank=0, world=1, pairs=False)
    left_out = set()
    for epoch in range(40):
        seen = np.concatenate([step.positions for step in plan.epoch(epoch)])
        left_out |= set(range(11)) - set(seen.tolist())
    assert left_out == set(range(11))


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(UserError, match=r"batch is 65, but there are only 64 .* lower batch"):
        Plan(images=64, batch=65, micro_batch=65, seed=0, rank=0, world=1, pairs=False)


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(UserError, match="batch 10 does not divide by 4 ranks"):
        Plan(images=64, batch=10, micro_batch=10, seed=0, rank=0, world=4, pairs=False)
