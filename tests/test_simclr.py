"""SimCLR: its views and its loss against references in float64, and what it asks of a recipe."""

import dataclasses
import math
import signal

import numpy as np
import pyarrow as pa
import pytest
import torch
from backbones import SIZE, SMALL
from PIL import Image
from torchvision.transforms.v2 import functional as F
from two_ranks import IMAGES, Loader, setup_of

from mfm.data.linking import manifest
from mfm.data.loading.batches import Batch, TrainBatches, numbers_of_views
from mfm.data.loading.loader import Loader as RealLoader
from mfm.data.loading.order import Plan
from mfm.data.settings import Crop
from mfm.errors import StoppedError, UserError
from mfm.experiment.jobs import PretrainJob
from mfm.models.settings import Model
from mfm.numerics.draws import Stream, of_views, uniforms
from mfm.objectives.simclr.objective import nt_xent
from mfm.objectives.simclr.views import Distortion
from mfm.processes.ranks import Process
from mfm.settings.section import parse
from mfm.training.loop import Trainer
from mfm.training.operation import Operation
from mfm.training.task import Inputs

CPU = torch.device("cpu")
ALONE = Process(rank=0, world=1, device=CPU)


def settings(**training):
    values = {
        "name": "p",
        "dataset": {"name": "own", "image_size": SIZE},
        "split": "train",
        "model": {"backbone": "resnet18"},
        "training": {"task": "simclr", "batch": 8, **training},
    }
    return parse(PretrainJob, values, where="test").training


def built_of(name, *, rows=None, **training):
    rows = np.arange(IMAGES) if rows is None else rows
    inputs = Inputs(model=SMALL[name], size=SIZE, classes=0, rows=rows, seed=1)
    return settings(**training).build(inputs)


# The loss


def reference(projections, temperature):
    """Of each view, by the paper's formula: views 2k and 2k+1 are a pair."""
    rows = [row / math.sqrt(sum(value**2 for value in row)) for row in projections.numpy()]
    found = []
    for i, row in enumerate(rows):
        terms = {k: math.exp(row @ other / temperature) for k, other in enumerate(rows) if k != i}
        found.append(-math.log(terms[i + 1 if i % 2 == 0 else i - 1] / sum(terms.values())))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_nt_xent(temperature):
    projections = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 6)))
    rows = torch.nn.functional.normalize(projections, dim=1)
    expected = reference(projections, temperature)
    ours = nt_xent(rows, rows, first=0, temperature=temperature)
    torch.testing.assert_close(ours, expected)
    part = nt_xent(rows[4:8], rows, first=4, temperature=temperature)  # of a rank
    torch.testing.assert_close(part, expected[4:8])


def test_a_step_is_the_mean_over_all_views():
    built = built_of("vit_tiny", projection_batchnorm=False)
    plan = Plan(
        **{"images": IMAGES, "batch": 8, "micro_batch": 8, "seed": 1, "rank": 0, "world": 1},
        pairs=False,
        views=2,
    )
    step, (batch,) = next(Loader().train(plan, 3, 0))
    assert len(batch.images) == 16
    with torch.no_grad():
        projections = built.model(built.objective.views(batch, epoch=3)).double()
        loss = built.objective(built.model, batch, step)
    torch.testing.assert_close(loss.double(), reference(projections, 0.1).mean(), rtol=1e-5, atol=0)


def test_an_image_alone_in_its_batch_and_accumulation_are_refused_in_one_line():
    for training, told in (
        ({"batch": 1}, "raise batch to 2"),
        ({"batch": 64, "micro_batch": 16}, "raise micro_batch to 64, or lower batch"),
        ({"batch": 64, "micro_batch": 16, "ranks": 2}, "raise micro_batch to 32, or lower batch"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            settings(**training)
        assert "\n" not in str(caught.value)
    settings(batch=64, micro_batch=16, ranks=4)


def test_the_projection_is_that_of_the_official_code():
    projection = built_of("resnet18").model.projection
    shapes = {name: tuple(value.shape) for name, value in projection.named_parameters()}
    assert shapes == {
        "0.weight": (32, 32),
        "1.weight": (32,),
        "1.bias": (32,),
        "3.weight": (128, 32),
        "4.weight": (128,),
    }


def test_mean_pooling_is_what_is_projected():
    images = torch.randn(2, 3, SIZE, SIZE)
    built = {}
    for pooling in (None, "mean"):
        model = SMALL["vit_tiny"].model_copy(update={"pooling": pooling})
        inputs = Inputs(model=model, size=SIZE, classes=0, rows=np.arange(2), seed=1)
        built[pooling] = settings().build(inputs).model.eval()
    assert not torch.equal(built[None](images), built["mean"](images))
    tokens = built["mean"].backbone.forward_features(images)
    expected = built["mean"].projection(tokens[:, 1:].mean(dim=1))
    torch.testing.assert_close(built["mean"](images), expected)


def test_the_projection_is_loaded_where_one_goes_on():
    one = built_of("resnet18").model
    torch.nn.init.ones_(one.projection[0].weight)
    other = built_of("resnet18")
    assert settings().load_head(other, one.state_dict())
    assert torch.equal(other.model.projection[0].weight, one.projection[0].weight)
    assert not settings().load_head(other, one.backbone.state_dict())


# Views


def test_views_depend_on_seed_epoch_image_and_view_alone():
    rows = np.arange(IMAGES) + 100
    objective = built_of("resnet18", rows=rows, jitter=1, blur=0.5).objective
    pixels = torch.randint(0, 256, (1, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)

    def views(*positions, epoch=0, of=objective):
        images = pixels.expand(2 * len(positions), -1, -1, -1)
        twice = torch.tensor(positions).repeat_interleave(2)
        batch = Batch(images, torch.zeros_like(twice), twice)
        return of.views(batch, epoch=epoch)

    both = views(3)
    assert not torch.equal(both[0], both[1])
    torch.testing.assert_close(views(5, 3, 0)[2:4], both)
    for other in (views(4), views(3, epoch=1)):
        assert not torch.equal(other[0], both[0])
        assert not torch.equal(other[1], both[1])
    inputs = Inputs(model=SMALL["resnet18"], size=SIZE, classes=0, rows=rows, seed=2)
    another = settings(jitter=1, blur=0.5).build(inputs).objective
    assert not torch.equal(views(3, of=another)[0], both[0])


def gaussian(image, sigma):
    """Zero beyond the edges, a tenth of the side wide: by sums over the window."""
    size = image.shape[-1]
    reach = size // 10 // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    wide = np.pad(image.numpy(), ((0, 0), (reach, reach), (reach, reach)))
    found = np.zeros_like(image.numpy())
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            found += kernel[y, x] * wide[:, y : y + size, x : x + size]
    return torch.from_numpy(found)


OPERATIONS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


@pytest.mark.parametrize(("jitter", "blur"), [(1.0, 0.5), (0.5, 0.0), (0.0, 1.0)])
def test_distortions_are_torchvisions_in_a_random_order(jitter, blur):
    n, size = 24, 64
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    images[0] = 0.5  # grey has no hue
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    indices = np.arange(n) * 7
    ours = Distortion(jitter=jitter, blur=blur)(images, seed=4, epoch=2, indices=indices)
    assert torch.equal(images, before)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    draws = uniforms(seed=4, epoch=2, stream=Stream.VIEW, indices=indices, n=12)
    for image, found, draw in zip(images.double(), ours, draws, strict=True):
        if draw[0] < 0.8 and jitter:
            for number in np.argsort(draw[1:5]):
                low, high = (max(0, 1 - 0.8 * jitter), 1 + 0.8 * jitter)
                if number == 3:
                    low, high = -0.2 * jitter, 0.2 * jitter
                image = OPERATIONS[number](image, low + draw[5 + number] * (high - low))
        if draw[9] < 0.2:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        if draw[10] < blur:
            image = gaussian(image, 0.1 + 1.9 * draw[11])
        torch.testing.assert_close(found, image.float(), rtol=0, atol=2e-5)


def test_small_images_are_distorted_as_cifars_and_large_ones_as_imagenets():
    model = Model()
    small, large = (settings().describe(model=model, size=size) for size in (32, 64))
    assert "jitter 0.5" in small
    assert "blur of 0%" in small
    assert "jitter 1 " in large
    assert "blur of 50%" in large
    assert settings().crop.area == settings(crop={"size": 64}).crop.area == (0.08, 1.0)


# Two views of an image in a batch


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    names = [f"{k}.png" for k in range(8)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / name)
    numbers = np.arange(8) + 9, np.zeros(8, int), np.full(8, 48), np.full(8, 40)
    return manifest.Images(folder, ("a",), pa.array(names), *numbers)


def test_the_second_view_is_another_crop_and_the_first_is_that_of_other_tasks(images):
    batches = TrainBatches(images, crop=Crop(), size=16, seed=5)
    plan = Plan(images=8, batch=4, micro_batch=4, seed=5, rank=0, world=1, pairs=False)
    twice = dataclasses.replace(plan, views=2)
    assert twice.accumulation == 1

    def batch(plan, workers):
        loader = RealLoader(batches, workers=workers, device=CPU)
        (_, (found,)), (_, (last,)) = loader.train(plan, 3, 0)
        assert len(found.images) == len(last.images)
        return found

    one, two = batch(plan, 0), batch(twice, 2)
    assert torch.equal(two.positions, one.positions.repeat_interleave(2))
    assert torch.equal(two.images[::2], one.images)
    boxes = batches.geometry((3, two.positions.numpy())).boxes
    assert (boxes[::2] != boxes[1::2]).any(axis=1).all()
    part = batches.batch((3, two.positions.numpy()[2:4]))
    assert torch.equal(part.images, two.images[2:4])


def test_views_of_an_image_are_numbered():
    assert numbers_of_views(np.array([4, 4, 0, 0, 7, 2, 2, 2])).tolist() == [0, 1, 0, 1, 0, 0, 1, 2]
    assert numbers_of_views(np.array([], np.int64)).tolist() == []
    rows = np.arange(1000)
    indices = np.concatenate([of_views(rows, np.full(1000, view)) for view in range(2)])
    assert (indices[:1000] == rows).all()
    assert len(set(indices.tolist())) == 2000


def test_a_resumed_run_has_the_same_bits(tmp_path):
    class Stopping(Loader):
        """Asks for a stop in the second epoch's first step."""

        def train(self, plan, epoch, first_step):
            for step, batches in super().train(plan, epoch, first_step):
                if stop is not None and (epoch, step.number) == (1, 0):
                    stop.received = signal.SIGTERM
                yield step, batches

    def run(folder):
        setup = setup_of(SMALL["resnet18"], settings(epochs=2, precision="fp32"), rank=0, world=1)
        setup = dataclasses.replace(setup, loader=Stopping())
        trainer = Trainer(
            setup,
            operation=Operation(run=tmp_path / folder, workers=0, checkpoint_epochs=1),
            process=ALONE,
        )
        return trainer, setup.task.model

    stop = None
    trainer, whole = run("whole")
    losses = [row.loss for row in trainer.train()]
    trainer, _ = run("stopped")
    stop = trainer.operation.stop
    with pytest.raises(StoppedError, match="in epoch 2 after step 1"):
        trainer.train()
    stop = None
    trainer, resumed = run("stopped")
    assert [row.loss for row in trainer.train()] == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
