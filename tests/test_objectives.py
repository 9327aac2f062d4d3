import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mfm.objectives import MaskedFrequencyModeling
from mfm.objectives.mfm.frequency import low_pass

RECIPES = ("upstream", "paper")
MEAN = {"upstream": (0.4, 0.4, 0.4), "paper": (0.485, 0.456, 0.406)}
STD = {"upstream": (0.2, 0.2, 0.2), "paper": (0.229, 0.224, 0.225)}
EPSILON = {"upstream": 1e-7, "paper": 1e-12}
CHANNELS = {"upstream": 1, "paper": 3}

# (height, width, radius): even, odd, oblong; 16 * size / 224 for 28, 32 and 40; on and off circles
SHAPES = [
    (8, 8, 1.0),
    (8, 8, 2.3),
    (9, 9, 4.0),
    (7, 7, 2.3),
    (6, 9, 2.3),
    (9, 6, 1.0),
    (12, 5, 4.0),
    (5, 16, 5.0),
    (28, 28, 16 * 28 / 224),
    (32, 32, 16 * 32 / 224),
    (40, 24, 16 * 40 / 224),
]
KEEPS = {"low": [True] * 3, "high": [False] * 3, "mixed": [True, False, False]}


# The reference: section 3 of the design with matrices, float64, no fast transform.


def dft(n):
    """Orthonormal, row u stands for frequency u - n // 2."""
    k = np.arange(n)
    return torch.from_numpy(np.exp(-2j * np.pi * np.outer(k - n // 2, k) / n) / np.sqrt(n))


def forward(x):
    f, g = dft(x.shape[-2]), dft(x.shape[-1])
    return f @ x.to(torch.complex128) @ g.T


def inverse(z):
    f, g = dft(z.shape[-2]), dft(z.shape[-1])
    return f.conj().T @ z @ g.conj()


def disc(height, width, radius):
    m = torch.zeros(height, width, dtype=torch.float64)
    for u, v in itertools.product(range(height), range(width)):
        if (u - height // 2) ** 2 + (v - width // 2) ** 2 < radius**2:
            m[u, v] = 1
    return m


def kept(images, keep_low, radius):
    """A for each image: [N, 1, H, W]."""
    m = disc(*images.shape[-2:], radius)
    return torch.stack([m if keep else 1 - m for keep in keep_low])[:, None]


def normalised(recipe, images):
    mean = torch.tensor(MEAN[recipe], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(STD[recipe], dtype=torch.float64).view(3, 1, 1)
    return (images - mean) / std


def reference_corrupt(recipe, radius, images, keep_low):
    images = images.double()
    a = kept(images, keep_low, radius)
    if recipe == "upstream":
        return inverse(a * forward(normalised(recipe, images))).abs()
    return normalised(recipe, inverse(a * forward(images)).real.clamp(0, 1))


def reference_target(recipe, images):
    y = normalised(recipe, images.double())
    if recipe == "upstream":
        y = 0.299 * y[:, :1] + 0.587 * y[:, 1:2] + 0.114 * y[:, 2:]
    return y


def reference_loss(recipe, radius, prediction, images, keep_low):
    difference = forward(prediction) - forward(reference_target(recipe, images))
    distance = torch.sqrt(difference.real**2 + difference.imag**2 + EPSILON[recipe])
    removed = 1 - kept(images, keep_low, radius)
    if recipe == "upstream":
        means = [
            (distance[n, k] * removed[n, 0]).sum() / removed[n, 0].sum()
            for n in range(len(images))
            for k in range(1)
        ]
        return sum(means) / len(means)
    return (distance * removed).sum() / (removed.sum() * 3)


def reference_gradient(recipe, radius, prediction, images, keep_low):
    prediction = prediction.double().requires_grad_()
    loss = reference_loss(recipe, radius, prediction, images, keep_low)
    return torch.autograd.grad(loss, prediction)[0]


def draw(recipe, height, width, n=3, seed=0, dtype=torch.float64):
    """Images in [0, 1] and a prediction that is wrong at every frequency."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, height, width, generator=generator, dtype=torch.float64)
    prediction = torch.randn(
        n, CHANNELS[recipe], height, width, generator=generator, dtype=torch.float64
    )
    return images.to(dtype), prediction.to(dtype)


def loss_and_gradient(task, prediction, images, keep_low):
    prediction = prediction.clone().requires_grad_()
    loss = task.loss(prediction, images, keep_low)
    return loss.detach(), torch.autograd.grad(loss, prediction)[0]


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


# float64: only rounding differs. float32: 24 bits, and transforms of at most 1024 points add their
# rounding in some ten levels, so a relative error of some ten times 2**-24 in the 2-norm; 1e-5
# leaves room for the distances, whose gradient is a direction and loses digits where they're small.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

recipes = pytest.mark.parametrize("recipe", RECIPES)
shapes = pytest.mark.parametrize(("height", "width", "radius"), SHAPES)
keeps = pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def test_the_reference_transform_is_the_centred_dft():
    x = torch.rand(4, 5, dtype=torch.float64)
    z = forward(x)
    for u, v in itertools.product(range(4), range(5)):
        direct = sum(
            x[j, k] * np.exp(-2j * np.pi * ((u - 2) * j / 4 + (v - 2) * k / 5)) / np.sqrt(20)
            for j, k in itertools.product(range(4), range(5))
        )
        assert abs(z[u, v] - direct) < 1e-14
    torch.testing.assert_close(inverse(z).real, x, rtol=0, atol=1e-14)


@recipes
@shapes
@keeps
@dtypes
def test_corrupt_is_the_reference(recipe, height, width, radius, keep, dtype):
    images, _ = draw(recipe, height, width, dtype=dtype)
    task = MaskedFrequencyModeling(recipe=recipe, radius=radius)
    inputs = task.corrupt(images, torch.tensor(keep))
    expected = reference_corrupt(recipe, radius, images, keep)
    assert inputs.dtype == dtype
    assert inputs.shape == images.shape
    assert relative(inputs.double(), expected) < TOLERANCE[dtype]


@recipes
@shapes
@keeps
@dtypes
def test_loss_and_its_gradient_are_the_reference(recipe, height, width, radius, keep, dtype):
    images, prediction = draw(recipe, height, width, dtype=dtype)
    task = MaskedFrequencyModeling(recipe=recipe, radius=radius)
    loss, gradient = loss_and_gradient(task, prediction, images, torch.tensor(keep))
    expected = reference_loss(recipe, radius, prediction, images, keep)
    expected_gradient = reference_gradient(recipe, radius, prediction, images, keep)
    assert loss.shape == ()
    assert loss.dtype == gradient.dtype == dtype
    assert relative(loss.double(), expected) < TOLERANCE[dtype]
    assert relative(gradient.double(), expected_gradient) < TOLERANCE[dtype]


@given(
    recipe=st.sampled_from(RECIPES),
    height=st.integers(2, 11),
    width=st.integers(2, 11),
    radius=st.floats(0.3, 7),
    keep=st.lists(st.booleans(), min_size=1, max_size=4),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=100)
def test_any_batch_is_the_reference(recipe, height, width, radius, keep, seed):
    assume(disc(height, width, radius).sum() < height * width)
    images, prediction = draw(recipe, height, width, n=len(keep), seed=seed)
    task = MaskedFrequencyModeling(recipe=recipe, radius=radius)
    keep_low = torch.tensor(keep)
    loss, gradient = loss_and_gradient(task, prediction, images, keep_low)
    inputs = task.corrupt(images, keep_low)
    # an absolute tolerance for inputs: a band of a small image can be next to nothing
    expected = reference_corrupt(recipe, radius, images, keep)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-12)
    assert relative(loss, reference_loss(recipe, radius, prediction, images, keep)) < 1e-12
    expected_gradient = reference_gradient(recipe, radius, prediction, images, keep)
    assert relative(gradient, expected_gradient) < 1e-10


@recipes
@keeps
def test_gradient_is_the_difference_quotient(recipe, keep):
    images, prediction = draw(recipe, 5, 6)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor(keep)
    assert torch.autograd.gradcheck(
        lambda p: task.loss(p, images, keep_low), prediction.requires_grad_()
    )


@recipes
@keeps
def test_perfect_prediction_costs_the_root_of_epsilon(recipe, keep):
    images, _ = draw(recipe, 8, 9)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    perfect = reference_target(recipe, images)
    torch.testing.assert_close(task.target(images), perfect, rtol=0, atol=1e-14)
    loss, _ = loss_and_gradient(task, perfect, images, torch.tensor(keep))
    torch.testing.assert_close(loss.item(), EPSILON[recipe] ** 0.5, rtol=1e-6, atol=0)


@recipes
@dtypes
def test_gradient_vanishes_at_the_target(recipe, dtype):
    images, _ = draw(recipe, 8, 9, dtype=dtype)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor([True, False, False])
    _, gradient = loss_and_gradient(task, task.target(images), images, keep_low)
    assert gradient.abs().max() == 0


@recipes
@pytest.mark.parametrize("keep", [True, False])
def test_kept_frequencies_cost_nothing(recipe, keep):
    images, prediction = draw(recipe, 9, 8)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor([keep] * 3)
    low = low_pass(7 * torch.randn_like(prediction), 2.3)
    rest = 7 * torch.randn_like(prediction)
    rest = rest - low_pass(rest, 2.3)
    free, costly = (low, rest) if keep else (rest, low)
    loss = task.loss(prediction, images, keep_low)
    torch.testing.assert_close(
        task.loss(prediction + free, images, keep_low), loss, rtol=1e-12, atol=0
    )
    assert task.loss(prediction + costly, images, keep_low) > loss + 1


@shapes
def test_low_and_high_add_up_to_the_image(height, width, radius):
    images, _ = draw("upstream", height, width)
    task = MaskedFrequencyModeling(recipe="upstream", radius=radius)
    x = normalised("upstream", images)
    low = low_pass(x, radius)
    high = inverse((1 - disc(height, width, radius)) * forward(x)).real
    torch.testing.assert_close(low + high, x, rtol=0, atol=1e-12)
    # the network sees their moduli
    everywhere = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(task.corrupt(images, everywhere), low.abs(), rtol=0, atol=1e-12)
    torch.testing.assert_close(task.corrupt(images, ~everywhere), high.abs(), rtol=0, atol=1e-12)


@recipes
def test_each_image_is_corrupted_by_itself(recipe):
    images, _ = draw(recipe, 9, 8, n=4)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor([True, False, False, True])
    alone = [task.corrupt(images[i : i + 1], keep_low[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(task.corrupt(images, keep_low), torch.cat(alone))


@recipes
def test_corrupt_leaves_the_images_alone(recipe):
    images, _ = draw(recipe, 9, 8)
    before = images.clone()
    MaskedFrequencyModeling(recipe=recipe, radius=2.3).corrupt(images, torch.tensor([True] * 3))
    assert torch.equal(images, before)


@recipes
@keeps
def test_autocast_changes_nothing_but_the_prediction(recipe, keep):
    images, prediction = draw(recipe, 9, 8, dtype=torch.float32)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor(keep)
    rounded = prediction.bfloat16()
    expected, expected_gradient = loss_and_gradient(task, rounded.float(), images, keep_low)
    expected_inputs = task.corrupt(images, keep_low)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradient = loss_and_gradient(task, rounded, images, keep_low)
        inputs = task.corrupt(images, keep_low)
    assert loss.dtype == inputs.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(inputs, expected_inputs)
    assert torch.equal(gradient, expected_gradient.bfloat16())


@recipes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_loss_has_the_dtype_of_the_images(recipe, dtype):
    images, prediction = draw(recipe, 9, 8, dtype=torch.float32)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor([True, False, False])
    given = prediction.to(dtype)
    expected, expected_gradient = loss_and_gradient(task, given.float(), images, keep_low)
    loss, gradient = loss_and_gradient(task, given, images, keep_low)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@recipes
def test_training_after_inference_mode(recipe):
    # a size nothing else asks for: cached masks are born inside inference mode
    images, prediction = draw(recipe, 10, 14, dtype=torch.float32)
    task = MaskedFrequencyModeling(recipe=recipe, radius=3.21)
    keep_low = torch.tensor([True, False, False])
    with torch.inference_mode():
        inside = task.loss(prediction, images, keep_low).item()
    loss, gradient = loss_and_gradient(task, prediction, images, keep_low)
    assert loss.item() == inside
    assert gradient.isfinite().all()


@recipes
def test_inputs_are_differentiable_after_inference_mode(recipe):
    images, _ = draw(recipe, 14, 10, dtype=torch.float32)
    task = MaskedFrequencyModeling(recipe=recipe, radius=3.21)
    keep_low = torch.tensor([True, False, False])
    with torch.inference_mode():
        task.corrupt(images, keep_low)
    leaf = images.clone().requires_grad_()
    task.corrupt(leaf, keep_low).sum().backward()
    assert leaf.grad.isfinite().all()


@given(
    recipe=st.sampled_from(RECIPES),
    keep=st.lists(st.booleans(), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7)),
    seed=st.integers(0, 999),
    data=st.data(),
)
@settings(deadline=None, max_examples=80)
def test_batch_loss_is_the_weighted_sum_over_any_split(recipe, keep, cuts, seed, data):
    n = len(keep)
    images, prediction = draw(recipe, 7, 10, n=n, seed=seed)
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.3)
    keep_low = torch.tensor(keep)
    order = data.draw(st.permutations(range(n)))
    edges = [0, *sorted(cut for cut in cuts if cut < n), n]
    pieces = [list(order[a:b]) for a, b in itertools.pairwise(edges)]

    def weights(piece):
        return task.image_weights(keep_low[piece], height=7, width=10)

    def contribution(p, piece):
        losses = task.image_losses(p[piece], images[piece], keep_low[piece])
        return (losses * weights(piece)).sum() / task.image_weights(
            keep_low, height=7, width=10
        ).sum()

    loss, gradient = loss_and_gradient(task, prediction, images, keep_low)
    p = prediction.clone().requires_grad_()
    total = sum(contribution(p, piece) for piece in pieces)
    torch.testing.assert_close(total.detach(), loss, rtol=1e-12, atol=0)
    split_gradient = sum(torch.autograd.grad(contribution(p, piece), p)[0] for piece in pieces)
    torch.testing.assert_close(split_gradient, gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("height", "width", "radius"), SHAPES)
def test_image_weights_count_what_the_recipe_averages_over(height, width, radius):
    keep_low = torch.tensor([True, False])
    inside = disc(height, width, radius).sum().item()
    upstream = MaskedFrequencyModeling(recipe="upstream", radius=radius)
    paper = MaskedFrequencyModeling(recipe="paper", radius=radius)
    assert upstream.image_weights(keep_low, height=height, width=width).tolist() == [1, 1]
    assert paper.image_weights(keep_low, height=height, width=width).tolist() == [
        height * width - inside,
        inside,
    ]


@pytest.mark.parametrize(("recipe", "channels"), [("upstream", 1), ("paper", 3)])
def test_out_channels(recipe, channels):
    task = MaskedFrequencyModeling(recipe=recipe)
    assert task.out_channels == channels
    assert task.target(torch.rand(2, 3, 5, 4)).shape == (2, channels, 5, 4)


def test_defaults_are_upstream_at_224():
    task = MaskedFrequencyModeling()
    assert (task.recipe, task.radius, task.low_pass_share) == ("upstream", 16.0, 0.5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_keep_low_has_its_share(share):
    task = MaskedFrequencyModeling(recipe="paper", low_pass_share=share)
    n = 20_000
    keep_low = task.sample_keep_low(n, generator=torch.Generator().manual_seed(0))
    assert keep_low.dtype == torch.bool
    assert keep_low.shape == (n,)
    # four standard deviations of a binomial share
    assert abs(keep_low.double().mean() - share) <= 4 * (share * (1 - share) / n) ** 0.5


def test_keep_low_repeats_with_its_generator():
    task = MaskedFrequencyModeling()

    def sample(seed):
        return task.sample_keep_low(64, generator=torch.Generator().manual_seed(seed)).tolist()

    assert sample(1) == sample(1) != sample(2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"recipe": "mae"},
        {"radius": 0},
        {"radius": -1.0},
        {"radius": float("nan")},
        {"low_pass_share": -0.1},
        {"low_pass_share": 1.1},
    ],
)
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MaskedFrequencyModeling(**arguments)


def test_settings_are_keyword_only():
    with pytest.raises(TypeError):
        MaskedFrequencyModeling("upstream", 16.0)


@recipes
@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 5), (4, 7)])
def test_a_disc_over_everything_is_refused(recipe, height, width):
    # the farthest frequency is at (-(H // 2), -(W // 2))
    farthest = float(np.hypot(height // 2, width // 2))
    images, prediction = draw(recipe, height, width)
    keep_low = torch.tensor([True, False, True])
    fits = MaskedFrequencyModeling(recipe=recipe, radius=farthest - 1e-6)
    assert fits.corrupt(images, keep_low).isfinite().all()
    assert fits.loss(prediction, images, keep_low).isfinite()
    covers = MaskedFrequencyModeling(recipe=recipe, radius=farthest + 1e-6)
    with pytest.raises(ValueError, match="covers every frequency"):
        covers.corrupt(images, keep_low)
    with pytest.raises(ValueError, match="covers every frequency"):
        covers.loss(prediction, images, keep_low)


IMAGES = torch.rand(2, 3, 8, 8)
KEEP = torch.tensor([True, False])


@recipes
@pytest.mark.parametrize(
    ("images", "keep_low"),
    [
        (IMAGES[0], KEEP),
        (IMAGES[:, :1], KEEP),
        (IMAGES.half(), KEEP),
        (IMAGES.bfloat16(), KEEP),
        ((IMAGES * 255).byte(), KEEP),
        (IMAGES, KEEP.float()),
        (IMAGES, KEEP.long()),
        (IMAGES, KEEP[:1]),
        (IMAGES, KEEP[:, None]),
    ],
)
def test_wrong_images_and_masks_are_refused(recipe, images, keep_low):
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.0)
    with pytest.raises(ValueError, match=r"images are|keep_low is"):
        task.corrupt(images, keep_low)
    with pytest.raises(ValueError, match=r"images are|keep_low is"):
        task.loss(torch.zeros(2, task.out_channels, 8, 8), images, keep_low)


@recipes
@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (1, None, 8, 8), (2, None, 8, 7), (None, 8, 8)])
def test_wrong_predictions_are_refused(recipe, shape):
    task = MaskedFrequencyModeling(recipe=recipe, radius=2.0)
    prediction = torch.zeros([task.out_channels if side is None else side for side in shape])
    with pytest.raises(ValueError, match="prediction has shape"):
        task.loss(prediction, IMAGES, KEEP)
