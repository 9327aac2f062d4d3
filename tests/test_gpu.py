"""What only a GPU can show; each test is skipped where torch sees none."""

import dataclasses
import gc
import math
import os
import re
import signal
import subprocess

import pytest
import torch
import torch.distributed as dist
from test_interruptions import wait_for_checkpoint
from test_memory import trial_of
from test_training import assert_same_bits, command, dataset, final, losses, train, write_config

from benchmarks.case import Case, settings
from mfm.data.linking import manifest
from mfm.data.loading.batches import EvalBatches, TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.settings import Crop, Seen
from mfm.errors import UserError
from mfm.evaluation.classifier import Subject
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.objectives import MaskedFrequencyModeling
from mfm.processes.ranks import Process, data_parallel

__all__ = ["dataset"]  # a fixture
pytestmark = [pytest.mark.gpu, pytest.mark.processes]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MIXED = {"loss": "bce", "smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "erasing": 0.25}
RECIPES = {
    "upstream": ("mfm", {"clip": 3.0}),
    "paper": ("mfm", {"recipe": "paper"}),
    "sr": ("sr", {}),
    "deblur": ("deblur", {}),
    "denoise": ("denoise", {}),
    "simmim": ("simmim", {}),
    "mae": ("mae", {}),
    "autoencode": ("autoencode", {}),
    "simclr": ("simclr", {"jitter": 1.0, "blur": 0.5}),
    "finetune": ("finetune", MIXED),
}


def backbone_of(recipe):
    return "vit_tiny_patch16_224" if recipe == "mae" else "resnet18"


def case(recipe, *, backbone=None, size=64, batch=16, **given):
    backbone = backbone or backbone_of(recipe)
    task, more = RECIPES[recipe]
    training = settings(task, batch=batch, **{"precision": "bf16", **more, **given})
    classes = 10 if task == "finetune" else 0
    return Case(training, Model(backbone=backbone), size=size, classes=classes)


def steps(one, count):
    for _ in range(count):
        one.step()


@pytest.mark.parametrize("number_format", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_step_waits_for_the_gpu(recipe, number_format):
    one = case(recipe, precision=number_format)
    for _ in range(3):
        one.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss = one.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(loss.item())


@pytest.mark.parametrize("recipe", ["upstream", "paper"])
def test_masking_and_loss_are_those_of_the_cpu(recipe):
    task = MaskedFrequencyModeling(recipe=recipe, radius=4.5)
    images = torch.rand(6, 3, 48, 40, dtype=torch.float64)
    prediction = torch.randn(6, task.out_channels, 48, 40, dtype=torch.float64)
    keep_low = torch.arange(6) % 2 == 0

    def found(device, dtype):
        ours = images.to(device, dtype).to(memory_format=torch.channels_last)
        guess = prediction.to(device, dtype).requires_grad_()
        loss = task.loss(guess, ours, keep_low)
        (gradient,) = torch.autograd.grad(loss, guess)
        return [x.detach().double().cpu() for x in (task.corrupt(ours, keep_low), loss, gradient)]

    for ours, exact in zip(found(GPU, torch.float32), found(CPU, torch.float64), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("number_format", "bound"), [("fp32", 1e-4), ("bf16", 0.02), ("fp16", 3e-3)]
)
@pytest.mark.parametrize(
    "recipe", ["upstream", "paper", "denoise", "simmim", "mae", "simclr", "finetune"]
)
def test_a_step_has_the_loss_that_it_has_on_the_cpu(recipe, number_format, bound):
    ours = case(recipe, precision=number_format)
    training = ours.trainer.training.model_copy(update={"precision": "fp32"})
    theirs = Case(
        training,
        Model(backbone=backbone_of(recipe)),
        size=64,
        classes=10 if recipe == "finetune" else 0,
        process=Process(rank=0, world=1, device=CPU),
    )
    assert ours.step().item() == pytest.approx(theirs.step().item(), rel=bound)


@pytest.mark.parametrize("number_format", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("recipe", "backbone", "size"),
    [
        ("upstream", "resnet50", 96),
        ("denoise", "resnet18", 64),
        ("finetune", "resnet50", 96),
        ("finetune", "vit_tiny_patch16_224", 64),
        ("paper", "convnext_atto", 64),
        ("simmim", "vit_tiny_patch16_224", 64),
        ("mae", "vit_tiny_patch16_224", 64),
        ("simclr", "resnet18", 64),
    ],
)
def test_a_deterministic_run_gives_the_same_bits_twice(recipe, backbone, size, number_format):
    def weights():
        given = {"backbone": backbone, "size": size, "precision": number_format}
        one = case(recipe, deterministic=True, **given)
        for _ in range(6):
            one.step()
        return {name: value.cpu() for name, value in one.trainer.model.state_dict().items()}

    assert_same_bits(weights(), weights())


def test_fp16_counts_an_overflow_and_goes_on():
    one = case("upstream", precision="fp16")
    trainer = one.trainer
    one.step()

    def copies():
        return {name: value.clone() for name, value in trainer.model.named_parameters()}

    before, skipped = copies(), trainer.check.skipped
    scale = trainer.scaler.get_scale()
    hook = trainer.model.head[0].weight.register_hook(lambda gradient: gradient * math.inf)
    one.step()
    assert trainer.check.skipped == skipped + 1
    assert trainer.scaler.get_scale() == scale / 2
    assert_same_bits(before, copies())
    hook.remove()
    one.step()
    after = copies()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_fp16_gives_up_after_many_overflows_in_a_row():
    one = case("upstream", precision="fp16")
    one.trainer.model.head[0].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(UserError, match="fp16 overflowed in 21 steps in a row"):
        steps(one, 30)


def test_a_bad_number_is_told_of_with_the_weights_before_it():
    one = case("upstream")
    one.step()
    trainer = one.trainer
    trainer.check._refuse = lambda bad: UserError(bad.what)  # the real one names files
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.model.head[0].weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(UserError, match="the gradient's norm is nan"):
        steps(one, 2)  # a GPU's step is looked at while the next is queued
    assert_same_bits(before, dict(trainer.model.named_parameters()))


def test_nccl_gives_one_rank_the_same_as_none(tmp_path):
    """DistributedDataParallel, sums, and objects, by nccl; two ranks need two GPUs."""
    alone = case("paper", deterministic=True, precision="fp32")
    alone.step()
    torch.cuda.set_device(GPU)
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        other = case("paper", deterministic=True, precision="fp32")
        trainer = other.trainer
        # As with two ranks: one alone would be left without it.
        trainer.parallel = data_parallel(trainer.model, Process(rank=0, world=2, device=GPU))
        other.step()
        said = [None]
        dist.all_gather_object(said, {"loss": 1.5})
        assert said == [{"loss": 1.5}]
        total = torch.ones((), device=GPU)
        dist.all_reduce(total)
        assert total.item() == 1
    finally:
        dist.destroy_process_group()
    assert_same_bits(alone.trainer.model.state_dict(), other.trainer.model.state_dict())


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(tmp_path, dataset, child_environment):
    values = {"precision": "bf16", "deterministic": True, "epochs": 3, "batch": 12, "clip": 1.0}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for run in (whole, killed):
        write_config(run, **values)
    train(whole, dataset, child_environment)
    words = [*command(killed, dataset, workers=1), "--checkpoint-steps", "3"]
    process = subprocess.Popen(
        words, env=child_environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_checkpoint(killed, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "backbone.safetensors").exists()
    assert "resumed" in train(killed, dataset, child_environment)
    assert_same_bits(final(whole), final(killed))
    assert losses(whole) == losses(killed)


def test_a_fed_run_is_that_of_its_batches(tmp_path, dataset, child_environment):
    """What is copied ahead on another stream is the step's own images: as without workers."""
    for name, workers in (("without", 0), ("with", 2)):
        write_config(tmp_path / name, deterministic=True, epochs=2, batch=12)
        train(tmp_path / name, dataset, child_environment, workers=workers)
    assert_same_bits(final(tmp_path / "without"), final(tmp_path / "with"))


def test_an_evaluation_is_that_of_the_cpu(dataset):
    images = manifest.load(dataset, "val")
    model = create_backbone(Model(backbone="resnet18"), classes=len(images.classes))
    job = EvaluateJob(
        dataset=Seen(name="tiny", image_size=64),
        model=Model(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        evaluation=Classification(resize=64, crop=64, batch=16),
    )

    def predictions(device):
        process = Process(rank=0, world=1, device=device)
        subject = Subject(model=model, images=images, job=job, process=process, workers=0)
        return subject.predict()

    ours, again, theirs = predictions(GPU), predictions(GPU), predictions(CPU)
    for field in dataclasses.fields(ours):
        assert (getattr(ours, field.name) == getattr(again, field.name)).all()
    assert abs(ours.probabilities - theirs.probabilities).max() < 1e-4
    assert abs(ours.losses - theirs.losses).max() < 1e-4
    assert (ours.predictions == theirs.predictions).mean() > 0.99


@pytest.mark.parametrize("kind", ["train", "val"])
def test_dali_on_the_gpu_gives_the_hosts_pixels_but_for_rounding(tmp_path, kind):
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    from test_dali_loader import photograph

    folder = tmp_path / "images"
    for split in ("train", "val"):
        for label in ("one", "two"):
            (folder / split / label).mkdir(parents=True)
            for i in range(8):
                file = folder / split / label / f"{i}.jpg"
                photograph(240 + 16 * i, 200, seed=i).save(file, quality=95)
    manifest.write(folder)
    images = manifest.load(folder / "manifest.parquet", kind)
    crop = Crop(area=(0.2, 1.0), aspect=(3 / 4, 4 / 3))
    batches = (
        TrainBatches(images, crop=crop, size=96, seed=3)
        if kind == "train"
        else EvalBatches(images, resize=128, crop=96, interpolation="bilinear")
    )
    request = [(0, torch.arange(16).numpy())]

    def pixels(loader, device):
        made = create_loader(loader, batches, workers=1, device=device)
        (batch,) = list(made.read(lambda: request))
        return batch.images.cpu().float()

    ours, host = pixels("dali", GPU), pixels("torchvision", CPU)
    assert ours.shape == host.shape
    difference = (ours - host).abs()
    assert difference.mean() < 1.0, "of 255; a shifted or flipped image differs by tens"
    assert difference.amax(dim=(1, 2, 3)).median() < 24


def test_the_trainer_holds_no_more_than_two_steps_of_images():
    one = case("upstream", size=224, batch=8)
    for _ in range(3):
        one.step()
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    for _ in range(6):
        one.step()
    torch.cuda.synchronize()
    images = 8 * 3 * 224 * 224
    assert torch.cuda.memory_allocated() <= held + 2 * images


@pytest.fixture
def little_memory():
    """Two gigabytes of the GPU's memory for this process."""
    gc.collect()
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(2e9 / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_full_gpu_names_the_images_that_fit(little_memory):
    many = {"size": 224, "batch": 256, "micro_batch": 256}
    with pytest.raises(UserError, match="256 images at once don't fit the GPU's") as refused:
        case("upstream", **many)
    fits = int(re.search(r"set micro_batch: (\d+), which fits", str(refused.value))[1])
    assert 1 < fits < 256
    steps(case("upstream", **many | {"micro_batch": fits}), 3)


@pytest.mark.parametrize("micro_batch", [64, 16])
def test_a_step_takes_the_memory_that_was_told_before_it(micro_batch):
    one = case("upstream", backbone="resnet50", size=128, batch=64, micro_batch=micro_batch)
    (told,) = re.findall(r", (\d+) of the GPU's \d+ MB", trial_of(one).check())
    torch.cuda.reset_peak_memory_stats()
    steps(one, 3)
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() / 1e6 == pytest.approx(float(told), rel=0.2)
