"""Masking of patches, against references in float64 written from the papers' definitions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from backbones import SIZE, SMALL
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_demands import VALUES, runs_of
from test_training import dataset

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.errors import UserError
from mfm.experiment import preflight
from mfm.experiment.jobs import PretrainJob
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.models.weights import load_backbone
from mfm.objectives.masking import mae, simmim
from mfm.objectives.masking.masks import draw_masks, enlarged, filled
from mfm.objectives.picture_files import read_captions
from mfm.objectives.pictures import load_snapshots
from mfm.reporting.pictures import draw_pictures
from mfm.settings.section import parse
from mfm.training.optimizers import parameter_groups
from mfm.training.task import Inputs

__all__ = ["dataset"]  # a fixture

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# Each task with networks that it fits, of every kind.
FITTING = {
    "simmim": ("resnet18", "convnext_tiny", "vit_small", "swin_tiny"),
    "mae": ("vit_tiny", "vit_small"),
}
PAIRS = [(task, name) for task, names in FITTING.items() for name in names]
TOKENS = [("simmim", "vit_small"), ("simmim", "swin_tiny"), ("mae", "vit_small")]
IMAGES = torch.randint(
    0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
).permute(0, 3, 1, 2)
STEP = Step(epoch=1, number=0, positions=np.arange(4), micro_batches=(np.arange(4),))


def job(task, model, *, size=SIZE, **training):
    return parse(
        PretrainJob,
        {
            "name": "p",
            "dataset": {"name": "own", "image_size": size},
            "split": "train",
            "model": SMALL[model].model_dump() if isinstance(model, str) else model,
            "training": {"task": task, "batch": 4, **training},
        },
        where="test",
    )


def built_of(task, name, **training):
    inputs = Inputs(model=SMALL[name], size=SIZE, classes=0, rows=np.arange(4) + 10, seed=2)
    return job(task, name, **training).training.build(inputs)


def loss_of(built, *positions, images=IMAGES):
    labels = torch.zeros(len(positions), dtype=torch.int64)
    batch = Batch(images[list(positions)], labels, torch.tensor(positions))
    return built.objective(built.model, batch, STEP)


def masking_of(task, name):
    return job(task, name).training.masking(model=SMALL[name], size=SIZE)


def masks_of(task, name):
    """Those of the step."""
    return masking_of(task, name).draw(seed=2, epoch=1, rows=np.arange(4) + 10)


def normalised(images=IMAGES):
    return (images / 255 - MEAN) / STD


def noisy_where(masks):
    """The images, other ones where pixels are masked."""
    other = torch.randint_like(IMAGES, 0, 256)
    return torch.where(enlarged(masks, SIZE)[:, None], other, IMAGES)


# Masks


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    rows=st.lists(st.integers(0, 2**30), min_size=1, max_size=8, unique=True),
    side=st.integers(1, 14),
    share=st.floats(0, 1),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_masks_have_their_share_and_depend_on_seed_epoch_and_image(
    seed, epoch, rows, side, share, data
):
    count = round(share * side**2)
    masks = draw_masks(seed=seed, epoch=epoch, rows=np.array(rows), side=side, count=count)
    assert masks.dtype == torch.bool
    assert (masks.sum(dim=(1, 2)) == count).all()
    some = data.draw(st.permutations(range(len(rows))))[: len(rows) // 2 + 1]
    of_some = np.array(rows)[some]
    again = draw_masks(seed=seed, epoch=epoch, rows=of_some, side=side, count=count)
    assert torch.equal(again, masks[some])


def test_every_patch_is_masked_as_often_and_by_itself():
    rows = np.arange(4000)
    masks = draw_masks(seed=0, epoch=0, rows=rows, side=4, count=10).flatten(1).double()
    assert stats.chisquare(masks.sum(dim=0).numpy()).pvalue > 1e-3
    # Without replacement, two of 16 patches have this correlation.
    pairs = np.corrcoef(masks.T.numpy())[np.triu_indices(16, k=1)]
    assert abs(pairs + 1 / 15).max() < 0.07
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        different = draw_masks(**other, rows=rows, side=4, count=10).flatten(1).double()
        assert abs(np.corrcoef(masks.flatten(), different.flatten())[0, 1]) < 0.02


@given(side=st.sampled_from([1, 2, 4, 7]), factor=st.integers(1, 8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_patch_is_masked_as_a_whole(side, factor, seed):
    masks = draw_masks(seed=seed, epoch=0, rows=np.arange(3), side=side, count=side**2 // 2)
    pixels = enlarged(masks, side * factor)
    whole = pixels.reshape(3, side, factor, side, factor)
    assert (whole == masks[:, :, None, :, None]).all()


def test_a_masked_patch_has_the_images_mean_colour():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)
    masks = draw_masks(seed=0, epoch=0, rows=np.arange(2), side=4, count=10)
    ours = filled(images, masks)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    for image, mask, found in zip(images.numpy(), masks.numpy(), ours.numpy(), strict=True):
        for y, x in np.ndindex(8, 8):
            masked = mask[y // 2, x // 2]
            expected = image.reshape(3, -1).mean(axis=1) if masked else image[:, y, x]
            np.testing.assert_allclose(found[:, y, x], expected)


# Which patches are masked


def resnet(**more):
    return {"backbone": "resnet18", **more}


def vit(patch):
    return {"backbone": "vit_tiny_patch16_224", "options": {"patch_size": patch}}


SWIN = {"backbone": "swin_tiny_patch4_window7_224"}


@pytest.mark.parametrize(
    ("model", "size", "patch", "count"),
    [
        (resnet(), 224, 32, 30),  # ceil(0.6 * 49)
        (vit(16), 224, 32, 30),
        (SWIN, 224, 32, 30),
        (SWIN, 192, 32, 22),  # SimMIM's own size
        (resnet(), 64, 32, 3),
        (resnet(stem_stride=2), 64, 16, 10),
        (vit(8), 64, 8, 39),
        (vit(4), 32, 4, 39),
        (vit(4), 28, 4, 30),
        (resnet(stem_stride=1), 32, 8, 10),
    ],
)
def test_patches_are_32_pixels_at_224_and_scaled(model, size, patch, count):
    settings = job("simmim", model, size=size).training
    masking = settings.masking(model=Model(**model), size=size)
    assert (size // masking.side, masking.count) == (patch, count)


@pytest.mark.parametrize(("size", "patch", "kept"), [(224, 16, 49), (28, 4, 12), (32, 16, 1)])
def test_mae_leaves_a_quarter(size, patch, kept):
    masking = job("mae", vit(patch), size=size).training.masking(
        model=Model(**vit(patch)), size=size
    )
    assert masking.side == size // patch
    assert masking.side**2 - masking.count == kept


def told(task, model, size, **training):
    values = VALUES | {
        "model": model,
        "pretrain": {"p": {"task": task, "batch": 64, **training}},
        "arms": {"scratch": "scratch", "p": {"pretrain": "p"}},
        "evaluate": {"crop": size, "resize": size},
    }
    with pytest.raises(UserError) as caught:
        preflight.remarks(runs_of(values, dataset__image_size=size))
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "model", "size", "training", "said"),
    [
        (
            "simmim",
            resnet(),
            96,
            {"patch": 16},
            "pretrain.p.patch is 16, but it has to divide the 96 px of its images, be a multiple "
            "of resnet18's stride 32 and leave some unmasked: give one of 32",
        ),
        ("simmim", vit(8), 64, {"patch": 24}, "patch size 8 and leave some unmasked: give one of"),
        ("simmim", resnet(), 32, {}, "pretrain.p.masked is 0.6, which leaves nothing of images of"),
        ("simmim", resnet(), 64, {"masked": 0.8}, "pretrain.p.masked is 0.8, which leaves nothing"),
        ("simmim", resnet(), 50, {}, "dataset.image_size is 50, but pretrain.p predicts whole"),
        (
            "mae",
            resnet(),
            64,
            {},
            "pretrain.p.task is mae, which is for timm's plain ViTs",
        ),
        ("mae", {"backbone": "convnext_atto"}, 64, {}, "not for convnext_atto: choose"),
        ("mae", SWIN | {"options": {"window_size": 2}}, 64, {}, "not for swin_tiny_patch4_window7"),
        ("mae", vit(8), 68, {}, "dataset.image_size is 68, but pretrain.p predicts whole images"),
        ("mae", vit(32), 32, {}, "pretrain.p.masked is 0.75, which leaves 0 of the 1 patches of"),
    ],
)
def test_what_does_not_fit_the_network_is_said_before_any_job(task, model, size, training, said):
    message = told(task, model, size, **training)
    assert said in message
    assert "\n" not in message


def test_a_swin_may_have_patches_finer_than_its_last_map():
    settings = job("simmim", SWIN, size=192, patch=16).training
    assert settings.masking(model=Model(**SWIN), size=192).side == 12


@pytest.mark.parametrize(
    ("task", "training"),
    [
        ("simmim", {"masked": 0}),
        ("simmim", {"masked": 1}),
        ("simmim", {"patch": 0}),
        ("simmim", {"norm_pixels": False}),
        ("mae", {"decoder_width": 100}),
        ("mae", {"decoder_depth": 0}),
        ("mae", {"patch": 8}),
    ],
)
def test_bad_settings_are_refused(task, training):
    with pytest.raises(UserError, match=next(iter(training))):
        job(task, "vit_small", **training)


# Losses


def test_the_loss_is_simmims():
    prediction, target = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    masks = masks_of("simmim", "vit_small")
    ours = simmim.image_losses(prediction.float(), target.float(), masks).mean()
    mask = np.kron(masks.numpy(), np.ones((4, 4)))[:, None]
    errors = abs(prediction.numpy() - target.numpy()) * mask
    assert ours.item() == pytest.approx(errors.sum() / (mask.sum() + 1e-5) / 3, rel=1e-6)


@pytest.mark.parametrize("norm_pixels", [True, False])
def test_the_loss_is_maes(norm_pixels):
    target = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    prediction = torch.randn(4, 64, 4 * 4 * 3, dtype=torch.float64)
    masks = masks_of("mae", "vit_small")
    total = 0.0
    for n, y, x in np.argwhere(masks.numpy()):
        patch = target[n, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].numpy()
        if norm_pixels:
            patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
        predicted = prediction[n, 8 * y + x].numpy().reshape(4, 4, 3).transpose(2, 0, 1)
        total += ((predicted - patch) ** 2).mean()
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        ours = mae.image_losses(
            prediction.to(dtype), target.to(dtype), masks, norm_pixels=norm_pixels
        )
        assert ours.mean().item() == pytest.approx(total / masks.sum().item(), rel=bound)


@pytest.mark.parametrize("norm_pixels", [True, False])
def test_what_mae_predicts_is_an_image_again(norm_pixels):
    target = torch.randn(2, 3, 32, 32)
    patches = mae.patches_of(target, 8)
    if norm_pixels:
        mean, deviation = mae.statistics(patches)
        patches = (patches - mean) / deviation
    again = mae.as_images(patches, target, side=8, norm_pixels=norm_pixels)
    torch.testing.assert_close(again, target)


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_the_step_is_what_its_parts_are_however_it_is_cut(task, name):
    built = built_of(task, name)
    built.model.eval()
    whole = loss_of(built, 0, 1, 2, 3)
    parts = loss_of(built, 0) + loss_of(built, 3, 1) + loss_of(built, 2)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)
    masks = masks_of(task, name)
    prediction = built.model(normalised(), masks)
    losses = masking_of(task, name).image_losses(prediction, normalised(), masks)
    torch.testing.assert_close(losses.mean(), whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_a_step_lowers_the_loss(task, name):
    built = built_of(task, name)
    optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-3)
    before = loss_of(built, 0, 1, 2, 3)
    before.backward()
    optimizer.step()
    assert loss_of(built, 0, 1, 2, 3) < before


# Networks


@pytest.mark.parametrize(("task", "name"), TOKENS)
def test_masked_pixels_change_nothing_of_what_is_predicted(task, name):
    built, masks = built_of(task, name), masks_of(task, name)
    built.model.eval()
    prediction = built.model(normalised(), masks)
    assert torch.equal(built.model(normalised(noisy_where(masks)), masks), prediction)
    assert not torch.equal(built.model(normalised(noisy_where(~masks)), masks), prediction)


def test_a_cnn_sees_nothing_of_masked_pixels_but_their_mean():
    built, masks = built_of("simmim", "resnet18"), masks_of("simmim", "resnet18")
    built.model.eval()
    pixels, images = enlarged(masks, SIZE), normalised()
    shuffled = images.clone()
    for image, mask in zip(shuffled, pixels, strict=True):
        image[:, mask] = image[:, mask].flip(dims=(1,))
    torch.testing.assert_close(
        built.model(shuffled, masks), built.model(images, masks), rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(shuffled, images)


def test_the_token_stands_where_a_vit_adds_positions():
    built, masks = built_of("simmim", "vit_small"), masks_of("simmim", "vit_small")
    model, vit = built.model.eval(), built.backbone
    torch.nn.init.normal_(model.mask_token)
    embedded = vit.patch_embed(normalised())
    embedded[masks.flatten(1)] = model.mask_token[0, 0]
    tokens = torch.cat([vit.cls_token.expand(4, -1, -1), embedded], dim=1) + vit.pos_embed
    last = vit.norm(vit.blocks(tokens))[:, 1:].transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(model(normalised(), masks), model.head(last))


@pytest.mark.parametrize("registers", [0, 3])
def test_mae_encodes_the_patches_that_are_left_and_decodes_all(registers):
    model = SMALL["vit_small"]
    options = model.options | {"reg_tokens": registers}
    model = model.model_copy(update={"options": options})
    run = job("mae", model.model_dump())
    built = run.training.build(run.inputs_of(classes=0, rows=np.arange(4)))
    masks = masks_of("mae", "vit_small")
    network, seen = built.model.eval(), []
    network.backbone.blocks.register_forward_hook(lambda m, i, out: seen.append(out.shape[1]))
    ours = network(normalised(), masks)
    assert seen == [1 + registers + 16]

    vit, decoder = network.backbone, network.decoder
    tokens = vit._pos_embed(vit.patch_embed(normalised()))
    before = 1 + registers
    x = torch.arange(8, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(8) / 8)
    place = torch.cat([x.sin(), x.cos()], dim=1).float()
    for image, mask, predicted in zip(tokens, masks.flatten(1), ours, strict=True):
        kept = [k for k in range(64) if not mask[k]]
        sequence = torch.cat([image[:before], image[[before + k for k in kept]]])[None]
        encoded = decoder.embed(vit.norm(vit.blocks(sequence)))[0]
        patches = [
            (encoded[before + kept.index(k)] if k in kept else decoder.mask_token[0, 0])
            + torch.cat([place[k % 8], place[k // 8]])
            for k in range(64)
        ]
        sequence = torch.cat([encoded[:before], torch.stack(patches)])[None]
        expected = decoder.pred(decoder.norm(decoder.blocks(sequence)))[0, before:]
        torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "depth", "width"),
    [
        ("vit_base_patch16_224", {}, 8, 512),
        ("vit_large_patch16_224", {}, 8, 512),
        ("vit_small_patch16_224", {}, 8, 256),
        ("vit_tiny_patch16_224", {"decoder_depth": 2, "decoder_width": 64}, 2, 64),
    ],
)
def test_the_decoder_is_maes_for_large_vits(name, given, depth, width):
    run = job("mae", {"backbone": name}, size=224, **given)
    with torch.device("meta"):
        decoder = run.training.build(run.inputs_of(classes=0, rows=np.arange(4))).model.decoder
    assert (len(decoder.blocks), decoder.norm.normalized_shape) == (depth, (width,))
    assert decoder.blocks[0].attn.num_heads == width // 32


def test_a_pretraining_goes_on_from_a_published_decoder():
    first, second = built_of("mae", "vit_small"), built_of("mae", "vit_small")
    for parameter in first.model.decoder.parameters():
        parameter.data.add_(0.01)
    published = {
        name if name == "mask_token" else f"decoder_{name}": tensor
        for name, tensor in first.model.decoder.state_dict().items()
    }
    assert job("mae", "vit_small").training.load_head(second, published)
    for name, tensor in second.model.decoder.state_dict().items():
        assert torch.equal(tensor, first.model.decoder.state_dict()[name])


@pytest.mark.parametrize(("name", "widest"), [("vit_small", 0.02), ("swin_tiny", 0.2)])
def test_the_token_starts_as_simmims_and_learns_without_weight_decay(name, widest):
    built = built_of("simmim", name, optimizer={"decay": "matrices"})
    token = built.model.mask_token
    assert 0.002 < token.std().item() < 0.04
    assert token.abs().max().item() <= widest
    loss_of(built, 0, 1).backward()
    assert (token.grad != 0).all()
    groups = parameter_groups(
        built.model, job("simmim", name).training.optimizer.model_copy(update={"decay": "matrices"})
    )
    (of_token,) = [group for group in groups if any(each is token for each in group["params"])]
    assert of_token["weight_decay"] == 0


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_what_others_start_from_is_a_plain_backbone(task, name):
    built = built_of(task, name)
    loss_of(built, 0, 1).backward()
    tensors = built.backbone.state_dict()
    assert (
        tensors.keys()
        == create_backbone(SMALL[name], classes=0, image_size=SIZE).state_dict().keys()
    )
    classifier = create_backbone(SMALL[name], classes=3, image_size=SIZE)
    load_backbone(classifier, tensors, source="test")
    ours, theirs = (
        each.eval().forward_features(normalised()) for each in (built.backbone, classifier)
    )
    assert torch.equal(ours, theirs)
    assert not any(module._forward_hooks for module in built.model.modules())


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_a_pretraining_goes_on_from_its_own_checkpoint(task, name):
    first, second = built_of(task, name), built_of(task, name)
    for parameter in first.model.parameters():
        parameter.data.add_(0.01)
    settings, tensors = job(task, name).training, first.model.state_dict()
    load_backbone(second.backbone, tensors, source="test")
    assert settings.load_head(second, tensors)
    masks = masks_of(task, name)
    ours, theirs = (each.model.eval()(normalised(), masks) for each in (first, second))
    assert torch.equal(ours, theirs)
    assert not settings.load_head(second, first.backbone.state_dict())


# Pictures


@pytest.mark.parametrize(("task", "name"), [("simmim", "vit_small"), ("mae", "vit_small")])
def test_reconstructions_are_drawn(task, name, dataset, tmp_path):
    run = job(task, name, reconstructions=3)
    model = run.training.build(run.inputs(run.images(dataset))).model
    keep = run.observer(
        manifest_path=dataset, run=tmp_path, plan=SimpleNamespace(steps_per_epoch=4)
    )
    for done in (0, 4):
        keep(model, done)
    torch.save({"model": model.state_dict()}, tmp_path / "checkpoint.pt")
    folder = tmp_path / "pictures"
    draw_pictures(run, manifest_path=dataset, checkpoint=tmp_path / "checkpoint.pt", folder=folder)
    captions = read_captions(folder)
    assert set(captions) == {"epochs", "reconstructions"}
    assert all(("mean and the deviation" in each) == (task == "mae") for each in captions.values())
    assert (folder / "reconstructions.png").stat().st_size > 5000
    kept = load_snapshots(tmp_path)
    assert list(kept) == [0, 1]
    assert {f"loss_{name}" for name in run.training.losses} | {"prediction"} == set(kept[1])


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_masked_patches_are_shown_as_predicted_and_others_as_they_are(task, name):
    run = job(task, name)
    pictures = run.training.pictures(model=SMALL[name], size=SIZE)
    model = built_of(task, name).model
    images = IMAGES / 255
    seen = pictures.look(model, images)
    shown = pictures.shown(seen["prediction"], images)
    masks = masking_of(task, name).draw(seed=0, epoch=0, rows=np.arange(4))
    pixels = enlarged(masks, SIZE)[:, None].expand_as(images)
    assert torch.equal(shown[~pixels], images[~pixels])
    assert not torch.isclose(shown[pixels], images[pixels]).all()
    torch.testing.assert_close(pictures.inputs(images)[~pixels], images[~pixels])
