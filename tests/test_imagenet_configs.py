"""The ImageNet configurations, claim by claim, against both public codes and RSB A3.

The numbers below were read off upstream (github.com/CoinCheung/MFM, commit e4ce8db), the paper's
official code (github.com/Jiahao000/MFM, commit c9194b1), table 2 of "ResNet strikes back" (arXiv
2110.00476) and timm's train.py (commit fbf59c0, 4 October 2021). To add a claim, add a line.
"""

import argparse
import csv
import functools
import io
import math
import re
import statistics

import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from conftest import ROOT
from scipy import stats
from timm.scheduler.cosine_lr import CosineLRScheduler
from tiny_imagenet import WNIDS, write_tree
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from mfm.__main__ import main
from mfm.data.loading.augment import plan_crops, plan_mix
from mfm.data.loading.order import Plan
from mfm.evaluation import looks
from mfm.experiment import resolve
from mfm.experiment.demands import check_sizes, demands_of
from mfm.experiment.settings import load_yaml
from mfm.experiment.variants import Runs
from mfm.models.backbones import create_backbone
from mfm.models.reconstruction import ReconstructionModel
from mfm.objectives import MaskedFrequencyModeling
from mfm.objectives.supervised.settings import Finetuning
from mfm.reporting.published import load_published
from mfm.statistics.over_seeds import FEWEST
from mfm.statistics.power import power, smallest_difference
from mfm.training import optimizers
from mfm.training.settings import Optimizer, Schedule

IMAGES = 1_281_167  # ImageNet-1k's training images
STEPS = 625  # an epoch's whole batches of 2048, as in the official code (drop_last) and in timm
UPSTREAM, PAPER, VIT = ("imagenet-resnet50", "imagenet-resnet50-paper", "imagenet-vit-base")
FILES = (UPSTREAM, PAPER, VIT)
HALVES = ((0.4,) * 3, (0.2,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHVISION = (3 / 4, 4 / 3)  # aspects of its random crops, and of timm's

RIVALS = ("sr", "deblur", "denoise")  # of MFM in the paper's tables

# What holds in both of the official code's tables.
_OFFICIAL_PRETRAINING = [
    ("pretrain.mfm.recipe", "paper", "models/mfm.py"),
    ("pretrain.mfm.out channels", 3, "models/mfm.py: encoder_stride ** 2 * 3"),
    ("pretrain.mfm.normalisation", IMAGENET, "models/mfm.py: normalize_img"),
    ("pretrain.mfm.radius", 16, "pretraining's yaml: MASK_RADIUS1"),
    ("pretrain.mfm.epochs", 300, "pretraining's yaml: EPOCHS"),
    ("pretrain.mfm.batch", 2048, "docs/PRETRAIN.md, of ViT-B: 16 GPUs, --batch-size 128"),
    ("pretrain.mfm.steps an epoch", STEPS, "data/data_mfm.py: DistributedSampler, drop_last=True"),
    ("pretrain.mfm.precision", "fp16", "main_mfm.py: --amp-opt-level O1"),
    ("pretrain.mfm.clip", 3.0, "pretraining's yaml: CLIP_GRAD"),
    ("pretrain.mfm.crop.size", 224, "pretraining's yaml: IMG_SIZE"),
    ("pretrain.mfm.crop.area", (0.2, 1.0), "config.py: MIN_CROP_SCALE"),
    ("pretrain.mfm.crop.aspect", TORCHVISION, "data/data_mfm.py: RandomResizedCrop's default"),
    ("pretrain.mfm.crop.interpolation", "bicubic", "config.py: INTERPOLATION"),
    ("pretrain.mfm.crop.flip", 0.5, "data/data_mfm.py: RandomHorizontalFlip()"),
    ("pretrain.mfm.optimizer.name", "adamw", "config.py: OPTIMIZER.NAME"),
    ("pretrain.mfm.optimizer.lr", 3e-4, "pretraining's yaml: BASE_LR"),
    ("pretrain.mfm.optimizer.lr_batch", 512, "main_mfm.py: BATCH_SIZE * world size / 512"),
    ("pretrain.mfm.optimizer.betas", (0.9, 0.95), "pretraining's yaml: BETAS"),
    ("pretrain.mfm.optimizer.weight_decay", 0.05, "pretraining's yaml: WEIGHT_DECAY"),
    ("pretrain.mfm.optimizer.decay", "matrices", "optimizer.py: get_pretrain_param_groups"),
    ("pretrain.mfm.optimizer.layer_decay", 1.0, "optimizer.py: none in pretraining"),
    ("pretrain.mfm.first rate", 2.5e-7 * 4, "pretraining's yaml: WARMUP_LR, of batch 512"),
    ("pretrain.mfm.highest rate", 3e-4 * 4, "pretraining's yaml: BASE_LR, of batch 512"),
    ("pretrain.mfm.last rate", 2.5e-6 * 4, "pretraining's yaml: MIN_LR, of batch 512"),
    ("pretrain.mfm.schedule.warmup_epochs", 20, "pretraining's yaml: WARMUP_EPOCHS"),
    ("pretrain.mfm.schedule.warmup_start", 2.5e-7 / 3e-4, "WARMUP_LR, of BASE_LR"),
    ("pretrain.mfm.schedule.end", 2.5e-6 / 3e-4, "MIN_LR, of BASE_LR"),
    ("pretrain.mfm.schedule.per", "step", "lr_scheduler.py: t_in_epochs=False"),
    ("pretrain.mfm.schedule.cosine_from", "start", "timm's CosineLRScheduler: no warmup_prefix"),
    ("pretrain.mfm.sync_batchnorm", False, "main_mfm.py: plain DistributedDataParallel"),
    ("pretrain.sr.factor", 8, "sr's yaml: SR_FACTOR"),
    ("pretrain.deblur.sigma", 5.0, "deblur's yaml: SIGMA_X [5, 5], KERNEL_LIST ['iso']"),
    ("pretrain.deblur.kernels", [*range(7, 22, 2)], "config.py: BLUR.KERNEL_SIZE"),
    ("pretrain.denoise.sigma", 75.0, "denoise's yaml: GAUSSIAN_SIGMA [75, 75], PROB [1.]"),
    ("evaluate.mean and std", IMAGENET, "data/data_finetune.py: IMAGENET_DEFAULT_MEAN, _STD; timm"),
]

# Configuration: (key, or what follows from several; value; where it stands).
CLAIMS = {
    UPSTREAM: [
        ("model.backbone", "resnet50", "dist_train.sh: --model"),
        ("model.zero_init_last", False, "mfm/resnet.py; torchvision.models in train_finetune.py"),
        ("pretrain.mfm.recipe", "upstream", "mfm/fft_masker.py, mfm/focal_frequency_loss.py"),
        ("pretrain.mfm.out channels", 1, "mfm/resnet.py: md_out_chan"),
        ("pretrain.mfm.normalisation", HALVES, "mfm/dali_loader.py: mean, std"),
        ("pretrain.mfm.radius", 16, "train_mfm.py: MaskedFFT(rad=16)"),
        ("pretrain.mfm.low_pass", 0.5, "mfm/fft_masker.py: torch.randint(0, 2)"),
        ("pretrain.mfm.epochs", 300, "dist_train.sh: --epochs"),
        ("pretrain.mfm.batch", 2048, "dist_train.sh: NGPUS=8, --batch-size 256"),
        ("pretrain.mfm.ranks", 8, "dist_train.sh: NGPUS=8"),
        ("pretrain.mfm.micro_batch", 256, "dist_train.sh: --batch-size"),
        ("pretrain.mfm.images of a device", 256, "dist_train.sh: --batch-size"),
        ("pretrain.mfm.precision", "fp16", "dist_train.sh: --amp"),
        ("pretrain.mfm.clip", 3.0, "dist_train.sh: --clip-grad-norm"),
        ("pretrain.mfm.crop.size", 224, "dist_train.sh: --train-crop-size"),
        ("pretrain.mfm.crop.area", (0.2, 1.0), "mfm/dali_loader.py: random_area"),
        ("pretrain.mfm.crop.aspect", (0.8, 1.25), "mfm/dali_loader.py: random_aspect_ratio"),
        ("pretrain.mfm.crop.interpolation", "bilinear", "mfm/dali_loader.py: INTERP_TRIANGULAR"),
        ("pretrain.mfm.crop.flip", 0.5, "mfm/dali_loader.py: coin_flip"),
        ("pretrain.mfm.optimizer.name", "adamw", "dist_train.sh: --opt"),
        ("pretrain.mfm.optimizer.lr", 1.2e-3, "dist_train.sh: LR"),
        ("pretrain.mfm.optimizer.lr_batch", 2048, "dist_train.sh: bs=2048, lr=1.2e-3"),
        ("pretrain.mfm.optimizer.betas", (0.9, 0.95), "train_mfm.py: AdamW(...)"),
        ("pretrain.mfm.optimizer.weight_decay", 0.05, "dist_train.sh: --wd"),
        ("pretrain.mfm.optimizer.decay", "all", "train_mfm.py: --norm-weight-decay None"),
        ("pretrain.mfm.first rate", 1.2e-5, "train_mfm.py: --lr-warmup-decay 0.01"),
        ("pretrain.mfm.highest rate", 1.2e-3, "dist_train.sh: LR"),
        ("pretrain.mfm.last rate", 0.0, "train_mfm.py: --lr-min 0"),
        ("pretrain.mfm.schedule.warmup_epochs", 20, "dist_train.sh: --lr-warmup-epochs"),
        ("pretrain.mfm.schedule.warmup_start", 0.01, "train_mfm.py: --lr-warmup-decay"),
        ("pretrain.mfm.schedule.end", 0.0, "train_mfm.py: --lr-min"),
        ("pretrain.mfm.schedule.per", "epoch", "train_mfm.py: lr_scheduler.step() an epoch"),
        ("pretrain.mfm.schedule.cosine_from", "warmup_end", "train_mfm.py: SequentialLR"),
        ("pretrain.mfm.sync_batchnorm", False, "dist_train.sh: no --sync-bn"),
        ("arms.scratch", "scratch", "README.md"),
        ("arms.supervised.weights", "torchvision/ResNet50_Weights.IMAGENET1K_V1", "README.md"),
        ("arms.supervised.classifier", "keep", "README.md: pretrained=True replaces nothing"),
        ("arms.mfm.classifier", "new", "train_finetune.py: strict=False, no fc in a pretraining"),
        ("finetune.epochs", 100, "dist_train.sh: --epochs"),
        ("finetune.batch", 2048, "dist_train.sh: NGPUS=8, BS=256"),
        ("finetune.ranks", 8, "dist_train.sh: NGPUS=8"),
        ("finetune.micro_batch", 256, "dist_train.sh: BS=256"),
        ("finetune.images of a device", 256, "dist_train.sh: BS=256"),
        ("finetune.precision", "fp16", "dist_train.sh: --amp"),
        ("finetune.clip", None, "dist_train.sh: no --clip-grad-norm"),
        ("finetune.crop.size", 160, "dist_train.sh: --train-crop-size"),
        ("finetune.crop.area", (0.08, 1.0), "mfm/presets.py: RandomResizedCrop's default"),
        ("finetune.crop.aspect", TORCHVISION, "mfm/presets.py: RandomResizedCrop's default"),
        ("finetune.crop.interpolation", "bicubic", "train_finetune.py: --interpolation"),
        ("finetune.crop.flip", 0.5, "mfm/presets.py: hflip_prob"),
        ("finetune.optimizer.name", "adamw", "dist_train.sh: --opt"),
        ("finetune.optimizer.lr", 1.2e-2, "dist_train.sh: LR"),
        ("finetune.optimizer.lr_batch", 2048, "dist_train.sh: bs=2048, lr=1.2e-2"),
        ("finetune.optimizer.betas", (0.9, 0.999), "train_finetune.py: AdamW's default"),
        ("finetune.optimizer.weight_decay", 0.02, "dist_train.sh: --wd"),
        ("finetune.optimizer.decay", "all", "train_finetune.py: --norm-weight-decay None"),
        ("finetune.optimizer.layer_decay", 1.0, "train_finetune.py: none"),
        ("finetune.first rate", 1.2e-4, "train_finetune.py: --lr-warmup-decay 0.01"),
        ("finetune.highest rate", 1.2e-2, "dist_train.sh: LR"),
        ("finetune.last rate", 0.0, "train_finetune.py: --lr-min 0"),
        ("finetune.schedule.warmup_epochs", 5, "dist_train.sh: --lr-warmup-epochs"),
        ("finetune.schedule.warmup_start", 0.01, "train_finetune.py: --lr-warmup-decay"),
        ("finetune.schedule.end", 0.0, "train_finetune.py: --lr-min"),
        ("finetune.schedule.per", "epoch", "train_finetune.py: lr_scheduler.step() an epoch"),
        ("finetune.schedule.cosine_from", "warmup_end", "train_finetune.py: SequentialLR"),
        ("finetune.loss", "bce", "train_finetune.py: BCEWithLogitsLoss"),
        ("finetune.bce_threshold", None, "train_finetune.py: none"),
        ("finetune.smoothing", 0.1, "dist_train.sh: --label-smoothing"),
        ("finetune.smoothing_over", "others", "train_finetune.py: OneHotLBSmooth"),
        ("finetune.mixup", 0.1, "dist_train.sh: --mixup-alpha"),
        ("finetune.cutmix", 1.0, "dist_train.sh: --cutmix-alpha"),
        ("finetune.randaugment.kind", "torchvision", "mfm/presets.py: autoaugment.RandAugment"),
        ("finetune.randaugment.ops", 2, "mfm/presets.py: RandAugment's default"),
        ("finetune.randaugment.magnitude", 6, "dist_train.sh: ra_6_10"),
        ("finetune.randaugment.bins", 10, "dist_train.sh: ra_6_10"),
        ("finetune.erasing", 0.0, "dist_train.sh: no --random-erase"),
        ("finetune.mean", HALVES[0], "mfm/presets.py"),
        ("finetune.std", HALVES[1], "mfm/presets.py"),
        ("finetune.drop_path", None, "torchvision's ResNet has none"),
        ("finetune.images_per_class", None, "all of ImageNet-1k"),
        ("evaluate.resize", 235, "dist_train.sh: --val-resize-size"),
        ("evaluate.crop", 224, "train_finetune.py: --val-crop-size"),
        ("evaluate.interpolation", "bicubic", "train_finetune.py: --interpolation"),
        ("evaluate.precision", "fp32", "train_finetune.py: evaluate() has no autocast"),
        ("evaluate.mean and std", HALVES, "mfm/presets.py: ClassificationPresetEval"),
    ],
    PAPER: [
        *_OFFICIAL_PRETRAINING,
        ("model.backbone", "resnet50", "LAYERS: [3, 4, 6, 3] of Bottleneck; RSB"),
        ("model.zero_init_last", True, "timm 0.4.12's and timm's ResNet: zero_init_last"),
        ("model.drop_path", 0.0, "DROP_PATH_RATE; RSB A3: no stochastic depth"),
        ("pretrain.mfm.low_pass", 0.3, "pretraining's yaml: SAMPLE_RATIO"),
        ("finetune.epochs", 100, "RSB A3"),
        ("finetune.batch", 2048, "RSB A3"),
        ("finetune.steps an epoch", STEPS, "timm's create_loader: drop_last in training"),
        ("finetune.precision", "fp16", "RSB A3: mixed precision"),
        ("finetune.clip", None, "RSB A3: no gradient clipping"),
        ("finetune.crop.size", 160, "RSB A3: train resolution"),
        ("finetune.crop.area", (0.08, 1.0), "train.py: --scale"),
        ("finetune.crop.aspect", TORCHVISION, "train.py: --ratio"),
        ("finetune.crop.flip", 0.5, "RSB A3: horizontal flip; train.py: --hflip"),
        ("finetune.optimizer.name", "lamb", "RSB A3"),
        ("finetune.optimizer.lr", 8e-3, "RSB A3"),
        ("finetune.optimizer.lr_batch", 2048, "RSB A3: batch size"),
        ("finetune.optimizer.betas", (0.9, 0.999), "timm's Lamb"),
        ("finetune.optimizer.weight_decay", 0.02, "RSB A3"),
        ("finetune.optimizer.decay", "matrices", "timm's create_optimizer: filter_bias_and_bn"),
        ("finetune.optimizer.layer_decay", 1.0, "RSB A3: none"),
        ("finetune.first rate", 1e-4, "train.py: --warmup-lr"),
        ("finetune.highest rate", 8e-3, "RSB A3"),
        ("finetune.last rate", 1e-6, "train.py: --min-lr"),
        ("finetune.schedule.warmup_epochs", 5, "RSB A3"),
        ("finetune.schedule.warmup_start", 1e-4 / 8e-3, "train.py: --warmup-lr"),
        ("finetune.schedule.end", 1e-6 / 8e-3, "train.py: --min-lr"),
        ("finetune.schedule.per", "epoch", "timm's create_scheduler: t_in_epochs"),
        ("finetune.schedule.cosine_from", "start", "timm's CosineLRScheduler: no warmup_prefix"),
        ("finetune.loss", "bce", "RSB A3: BCE loss"),
        ("finetune.smoothing", 0.0, "RSB A3: no label smoothing"),
        ("finetune.mixup", 0.1, "RSB A3"),
        ("finetune.cutmix", 1.0, "RSB A3"),
        ("finetune.randaugment.kind", "timm", "RSB A3"),
        ("finetune.randaugment.ops", 2, "timm's rand_augment_transform: num_layers"),
        ("finetune.randaugment.magnitude", 6, "RSB A3: RandAugment 6 / 0.5"),
        ("finetune.randaugment.magnitude_std", 0.5, "RSB A3: RandAugment 6 / 0.5"),
        ("finetune.erasing", 0.0, "RSB A3: no erasing"),
        ("finetune.sync_batchnorm", False, "train.py: no --sync-bn"),
        ("evaluate.resize", math.floor(224 / 0.95), "RSB A3: test crop ratio 0.95"),
        ("evaluate.crop", 224, "RSB A3: test resolution"),
        ("evaluate.interpolation", "bicubic", "timm's ResNet-50 of RSB: interpolation"),
    ],
    VIT: [
        *_OFFICIAL_PRETRAINING,
        ("model.backbone", "vit_base_patch16_224", "EMBED_DIM 768, DEPTH 12, NUM_HEADS 12"),
        ("model.drop_path", 0.0, "pretraining's yaml: DROP_PATH_RATE"),
        ("model.pooling", "mean", "finetuning's yaml: USE_MEAN_POOLING"),
        ("pretrain.mfm.low_pass", 0.5, "pretraining's yaml: SAMPLE_RATIO"),
        ("finetune.drop_path", 0.1, "finetuning's yaml: DROP_PATH_RATE"),
        ("finetune.epochs", 100, "finetuning's yaml: EPOCHS"),
        ("finetune.batch", 2048, "docs/FINETUNE.md: 16 GPUs, --batch-size 128"),
        ("finetune.steps an epoch", STEPS, "data/data_finetune.py: drop_last=True"),
        ("finetune.precision", "fp16", "main_finetune.py: --amp-opt-level O1"),
        ("finetune.clip", None, "finetuning's yaml: CLIP_GRAD"),
        ("finetune.crop.size", 224, "finetuning's yaml: IMG_SIZE"),
        ("finetune.crop.area", (0.08, 1.0), "data/data_finetune.py: create_transform's default"),
        ("finetune.crop.aspect", TORCHVISION, "data/data_finetune.py: create_transform's default"),
        ("finetune.crop.interpolation", "bicubic", "config.py: INTERPOLATION"),
        ("finetune.crop.flip", 0.5, "data/data_finetune.py: create_transform's default"),
        ("finetune.optimizer.name", "adamw", "config.py: OPTIMIZER.NAME"),
        ("finetune.optimizer.lr", 2e-3, "finetuning's yaml: BASE_LR"),
        ("finetune.optimizer.lr_batch", 512, "main_finetune.py: BATCH_SIZE * world size / 512"),
        ("finetune.optimizer.betas", (0.9, 0.999), "config.py: BETAS"),
        ("finetune.optimizer.weight_decay", 0.05, "finetuning's yaml: WEIGHT_DECAY"),
        ("finetune.optimizer.decay", "matrices", "optimizer.py: get_finetune_param_groups"),
        ("finetune.optimizer.layer_decay", 0.8, "finetuning's yaml: LAYER_DECAY"),
        ("finetune.first rate", 2.5e-7 * 4, "finetuning's yaml: WARMUP_LR, of batch 512"),
        ("finetune.highest rate", 2e-3 * 4, "finetuning's yaml: BASE_LR, of batch 512"),
        ("finetune.last rate", 2.5e-7 * 4, "finetuning's yaml: MIN_LR, of batch 512"),
        ("finetune.schedule.warmup_epochs", 5, "finetuning's yaml: WARMUP_EPOCHS"),
        ("finetune.schedule.warmup_start", 2.5e-7 / 2e-3, "WARMUP_LR, of BASE_LR"),
        ("finetune.schedule.end", 2.5e-7 / 2e-3, "MIN_LR, of BASE_LR"),
        ("finetune.schedule.per", "step", "lr_scheduler.py: t_in_epochs=False"),
        ("finetune.schedule.cosine_from", "start", "timm's CosineLRScheduler: no warmup_prefix"),
        ("finetune.loss", "ce", "main_finetune.py: SoftTargetCrossEntropy"),
        ("finetune.smoothing", 0.1, "config.py: LABEL_SMOOTHING"),
        ("finetune.smoothing_over", "all", "data/data_finetune.py: timm's Mixup"),
        ("finetune.mixup", 0.8, "config.py: MIXUP"),
        ("finetune.cutmix", 1.0, "config.py: CUTMIX"),
        ("finetune.randaugment.kind", "timm", "config.py: rand-m9-mstd0.5-inc1"),
        ("finetune.randaugment.ops", 2, "timm's rand_augment_transform: num_layers"),
        ("finetune.randaugment.magnitude", 9, "config.py: rand-m9-mstd0.5-inc1"),
        ("finetune.randaugment.magnitude_std", 0.5, "config.py: rand-m9-mstd0.5-inc1"),
        ("finetune.randaugment.increasing", True, "config.py: rand-m9-mstd0.5-inc1"),
        ("finetune.erasing", 0.25, "config.py: REPROB"),
        ("arms.scratch", "scratch", "no arm of the official code"),
        ("evaluate.resize", int(256 / 224 * 224), "data/data_finetune.py: build_transform"),
        ("evaluate.crop", 224, "finetuning's yaml: IMG_SIZE"),
        ("evaluate.interpolation", "bicubic", "config.py: INTERPOLATION"),
    ],
}


@functools.cache
def experiment(name):
    return load_yaml(ROOT / f"configs/{name}.yaml")


def job(name, stage):
    found = experiment(name)
    if stage == "pretrain":
        return resolve.pretrain_job(found, "mfm", found.pretrain["mfm"].seeds[0])
    if stage == "finetune":
        return resolve.finetune_job(found, "mfm", 0)
    return resolve.evaluate_job(found)


def training(name, stage):
    return job(name, stage).training


@functools.cache
def resolved(name):
    """What the jobs of a configuration do, by the configuration's keys, and what follows."""
    found = {}
    for stage, prefix in (("pretrain", "pretrain.mfm"), ("finetune", "finetune")):
        run = training(name, stage)
        found |= flat(run, prefix)
        found |= {
            f"{prefix}.steps an epoch": plan_of(run).steps_per_epoch,
            f"{prefix}.images of a device": run.batch // run.ranks // plan_of(run).accumulation,
            f"{prefix}.normalisation": run.normalisation(),
            f"{prefix}.first rate": optimizers.rate(run, epoch=0, step=0, steps_per_epoch=STEPS),
            f"{prefix}.highest rate": optimizers.peak_rate(run),
            f"{prefix}.last rate": optimizers.peak_rate(run) * run.schedule.end,
        }
    for rival, run in experiment(name).pretrain.items():
        if rival != "mfm":
            found |= flat(run, f"pretrain.{rival}")
    pretraining = training(name, "pretrain")
    task = MaskedFrequencyModeling(recipe=pretraining.recipe, radius=pretraining.radius)
    found["pretrain.mfm.out channels"] = task.out_channels
    evaluation = job(name, "evaluate")
    found |= flat(evaluation.evaluation, "evaluate") | flat(evaluation.model, "model")
    found["evaluate.mean and std"] = (evaluation.mean, evaluation.std)
    for arm in experiment(name).arms:
        source = resolve.finetune_job(experiment(name), arm, 0).source
        found |= {f"arms.{arm}": source} if source == "scratch" else flat(source, f"arms.{arm}")
    return found


def flat(section, prefix):
    found = {}
    for key in type(section).model_fields:
        value = getattr(section, key)
        nested = hasattr(type(value), "model_fields")
        found |= flat(value, f"{prefix}.{key}") if nested else {f"{prefix}.{key}": value}
    return found


def plan_of(run, *, images=IMAGES):
    return Plan(
        images=images,
        batch=run.batch,
        micro_batch=run.micro_batch,
        seed=0,
        rank=0,
        world=run.ranks,
        pairs=bool(getattr(run, "mixup", 0)),
    )


@pytest.mark.parametrize("name", FILES)
def test_every_claim_is_what_the_jobs_do(name):
    found = resolved(name)
    wrong = {
        key: (found[key], value, source)
        for key, value, source in CLAIMS[name]
        if found[key] != (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
    }
    assert not wrong


@pytest.mark.parametrize("name", FILES)
def test_every_value_with_a_source_is_a_claim(name):
    """A line such as `epochs: 300 # [run]` has its number among the claims."""
    claimed = [key for key, *_ in CLAIMS[name]]
    path, tagged = [], []
    for line in (ROOT / f"configs/{name}.yaml").read_text().splitlines():
        entry = re.match(r"( *)(\w+):", line)
        if entry:
            path = [*path[: len(entry[1]) // 2], entry[2]]
            tagged += [".".join(path)] * bool(re.search(r"# .*\[\w+\]", line))
    assert len(tagged) > 50
    missing = [k for k in tagged if not any(c == k or c.startswith(f"{k}.") for c in claimed)]
    assert not missing


def test_upstreams_epoch_has_one_more_step_of_what_is_left():
    """mfm/dali_loader.py and DistributedSampler: 8 devices x 256, the last batch kept."""
    of_a_device = math.ceil(IMAGES / 8)
    assert of_a_device == 160_146
    assert (math.ceil(of_a_device / 256), of_a_device % 256) == (626, 146)
    assert plan_of(training(UPSTREAM, "pretrain")).steps_per_epoch == 625
    head = heads()[UPSTREAM]
    assert "8 x 146 images" in head
    assert f"{1 - 625 / 626:.2%} fewer updates, as if 300 epochs were {300 * 625 / 626:.1f}" in head
    assert f"{(80.1 - 78.5) * math.log(626 / 625) / math.log(3):.3f} points" in head


def heads():
    """What each file's comments say before its first key, in one line."""
    texts = {name: (ROOT / f"configs/{name}.yaml").read_text() for name in FILES}
    return {
        name: " ".join(re.sub(r"^# ?", "", text[: text.index("\nresults:")], flags=re.M).split())
        for name, text in texts.items()
    }


def test_the_files_are_whole_experiments():
    for name in FILES:
        found = experiment(name)
        check_sizes(demands_of(Runs(found)))
        # As published: one pretraining; three finetunings instead of one.
        assert {*found.pretrain} == {"mfm"} if name == UPSTREAM else {"mfm", *RIVALS}
        assert all(run.seeds == [0] for run in found.pretrain.values())
        assert found.seeds == [0, 1, 2]


@pytest.mark.parametrize("name", [PAPER, VIT])
def test_the_papers_table_is_whole_and_differs_in_nothing_but_the_task(name):
    """The official code's four yaml files of a network differ in DATA alone."""
    found = experiment(name)
    assert list(found.arms) == ["scratch", *RIVALS, "mfm"]
    mfm = found.pretrain["mfm"]
    shared = set.intersection(*({*type(run).model_fields} for run in found.pretrain.values()))
    assert {"optimizer", "schedule", "crop", "epochs", "batch", "clip"} < shared
    published = load_published()
    published = published[published["backbone"] == found.model.backbone].set_index("row")["top1"]
    for rival in RIVALS:
        run = found.pretrain[rival]
        assert run.normalisation() == mfm.normalisation()
        for key in shared - {"task"}:
            assert getattr(run, key) == getattr(mfm, key), key
        # What stands in the file is what null would be: these are images of 224 px.
        if rival == "deblur":
            fields = {"sigma": None, "kernels": None}
            assert run.model_copy(update=fields).sides(224) == run.sides(224)
        spelled = {"sr": "SR"}.get(rival, rival)
        assert f"{spelled} {published[rival]}" in heads()[name]


def test_headers_say_what_a_lab_has_to_know():
    for name, head in heads().items():
        throughput = "RTX 3090" if name == VIT else "8 A100"
        for part in (f"--configfile configs/{name}.yaml", "computed and not measured", throughput):
            assert part in head, (name, part)
        for part in ("Published top-1", "What the plan below can find", "What has been run"):
            assert part in head, (name, part)
        for part in ("What has not", "each with its size", "Sources"):
            assert part in head, (name, part)


# What the plans can find

# Upstream's README.md, "model variance": 4 pretrainings, 3 finetunings of each.
TWELVE = [
    [78.654, 78.61, 78.668],
    [78.646, 78.79, 78.49],
    [78.516, 78.626, 78.694],
    [78.608, 78.668, 78.476],
]


def test_the_spread_of_upstreams_12_runs():
    runs = [run for pretraining in TWELVE for run in pretraining]
    deviation = statistics.stdev(runs)
    assert round(deviation, 3) == 0.090
    assert round(statistics.mean(runs), 3) == 78.621  # as the README has it; it has 0.08 beside it
    # Pretrainings differ by less than their finetunings make them differ.
    between = 3 * statistics.variance(map(statistics.mean, TWELVE))
    assert between < statistics.mean(map(statistics.variance, TWELVE))
    rows = load_published().set_index("row")
    note = rows.loc["mfm, mean of 12 runs", "note"]
    assert f"{deviation:.3f} (n - 1)" in note
    assert f"{min(runs)} to {max(runs):.3f}" in note
    assert f"standard deviation {deviation:.3f} (n - 1" in heads()[UPSTREAM]


def test_what_three_seeds_find_is_said_and_is_the_power_of_the_t_test():
    deviation = round(math.sqrt(2) * 0.090, 3)
    assert deviation == 0.127
    found = f"a difference of {smallest_difference(3, deviation):.2f} in 80% of experiments"
    rows = load_published().set_index(["publisher", "row", "backbone"])["top1"].astype(float)
    for name, publisher, difference in ((UPSTREAM, "upstream", 0.284), (PAPER, "paper", 0.4)):
        mfm, scratch = (rows[publisher, row, "resnet50"] for row in ("mfm", "scratch"))
        assert mfm - scratch == pytest.approx(difference)
        head = heads()[name]
        assert found in head
        assert f"{difference} in {power(3, difference, deviation):.0%}" in head
        question = experiment(name).question
        assert (question.arm, question.baseline, question.metric) == ("mfm", "scratch", "top1")
        assert (question.difference, question.deviation) == (difference, deviation)
        assert question.runs == len(experiment(name).seeds)
    assert f"four seeds find 0.284 in {power(4, 0.284, deviation):.0%}" in heads()[UPSTREAM]
    # The smallest p of an exact test of n pairs is 2 / 2^n.
    assert 2 / 2 ** (FEWEST - 1) > 0.05 > 2 / 2**FEWEST
    assert FEWEST == 6
    assert all("six pairs to reach 5%" in heads()[name] for name in (UPSTREAM, VIT))
    question = experiment(VIT).question
    assert (question.arm, question.baseline, question.runs) == ("mfm", "scratch", 3)
    assert (question.difference, question.deviation) == (None, None)


def test_the_times_are_those_of_the_throughput_that_is_named():
    pretraining = 300 * IMAGES / 16_621 / 3600
    finetuning = 100 * IMAGES / 16_621 / 3600 * (160 / 224) ** 2
    head = heads()[UPSTREAM]
    assert f"300 epochs {pretraining:.1f} h" in head
    assert f"100 epochs {finetuning:.1f} h" in head
    assert f"1 + 9 finetunings {pretraining + 9 * finetuning:.0f} h" in head
    six = "3, 4, 5]"
    assert f"{six}' {pretraining + 18 * finetuning:.0f} h" in head
    assert f"{six}}}}}' {6 * pretraining + 18 * finetuning:.0f} h" in head
    whole = f"4 + 15 finetunings {4 * pretraining + 15 * finetuning:.0f} h"
    slower = (4 * pretraining + 15 * finetuning) * 16_621 / 8_056
    assert f"{whole} ({slower:.0f} h)" in heads()[PAPER]
    of_vit = IMAGES / (8 * 391) / 3600
    assert f"4 + 15 finetunings, {(4 * 300 + 15 * 100) * of_vit:.0f} h" in heads()[VIT]


# Learning rates

each_run = pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name in FILES for stage in ("pretrain", "finetune")]
)


def claimed(name, stage):
    prefix = {"pretrain": "pretrain.mfm.", "finetune": "finetune."}[stage]
    claims = {key: value for key, value, _ in CLAIMS[name]}
    return {key.removeprefix(prefix): claims[key] for key in claims if key.startswith(prefix)}


def rates_claimed(name, stage):
    """Epochs, warmup epochs; first, highest and last rate."""
    of = claimed(name, stage)
    rates = (of["first rate"], of["highest rate"], of["last rate"])
    return of["epochs"], of["schedule.warmup_epochs"], *rates


@each_run
def test_rates_are_printed_and_stored(name, stage):
    run = training(name, stage)
    _, _, *rates = rates_claimed(name, stage)
    printed = re.findall(r"(?:from|to) ([\d.e-]+)", optimizers.describe_rates(run))
    assert [float(rate) for rate in printed] == pytest.approx(rates, rel=1e-3)
    assert optimizers.absolute(run) == {"batch": "2048", "peak_learning_rate": f"{rates[1]:g}"}
    # With fewer devices gradients are accumulated, and batch and rate stay.
    alone = run.model_copy(update={"ranks": 1})
    assert optimizers.describe_rates(alone) == optimizers.describe_rates(run)
    assert plan_of(alone).batch == 2048


def reference_rate(name, stage, step):
    """The rate of one step, from the claims alone."""
    epochs, warmup, first, peak, last = rates_claimed(name, stage)
    of = claimed(name, stage)
    time = step / STEPS if of["schedule.per"] == "step" else step // STEPS
    if time < warmup:
        return first + (peak - first) * time / warmup
    if of["schedule.cosine_from"] == "warmup_end":
        time, epochs = time - warmup, epochs - warmup
    return last + (peak - last) * (1 + math.cos(math.pi * time / epochs)) / 2


@each_run
def test_rates_of_all_epochs_and_steps_are_an_independent_formula(name, stage):
    run = training(name, stage)
    steps = range(0, run.epochs * STEPS, 13)
    found = [
        optimizers.rate(run, epoch=n // STEPS, step=n % STEPS, steps_per_epoch=STEPS) for n in steps
    ]
    expected = [reference_rate(name, stage, n) for n in steps]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "stage", "scale"),
    [
        (PAPER, "pretrain", 1.0),
        (VIT, "pretrain", 1.0),
        *((VIT, "finetune", 0.8**n) for n in (0, 13)),
    ],
)
def test_the_papers_rates_are_those_of_the_scheduler_it_uses(name, stage, scale):
    run = training(name, stage)
    epochs, warmup, first, peak, last = rates_claimed(name, stage)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak * scale)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=epochs * STEPS,
        lr_min=last,
        warmup_lr_init=first,
        warmup_t=warmup * STEPS,
        cycle_limit=1,
        t_in_epochs=False,
    )
    for number in [*range(0, epochs * STEPS, 997), warmup * STEPS - 1, warmup * STEPS]:
        scheduler.step_update(number)
        epoch, step = divmod(number, STEPS)
        ours = optimizers.rate(run, epoch=epoch, step=step, steps_per_epoch=STEPS, scale=scale)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_the_official_curve_lags_by_a_step_of_the_size_that_is_said():
    for name, stages in ((PAPER, ["pretrain"]), (VIT, ["pretrain", "finetune"])):
        for stage in stages:
            _, warmup, _, peak, _ = rates_claimed(name, stage)
            largest = max(
                abs(reference_rate(name, stage, n) - reference_rate(name, stage, n + 1)) / peak
                for n in range(0, warmup * STEPS - 1, 97)
            )
            assert f"{largest:.3%}"[:5] in heads()[name] or f"{largest:.2%}" in heads()[name]


# Parameters


def groups_by_name(model, settings):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimizers.parameter_groups(model, settings)
        for parameter in group["params"]
    }
    assert found.keys() == dict(model.named_parameters()).keys()
    return found


@pytest.mark.parametrize("name", FILES)
def test_parameters_decay_as_in_either_code(name):
    found = experiment(name)
    with torch.device("meta"):
        backbone = create_backbone(found.model, classes=0)
        model = ReconstructionModel(backbone, out_channels=3)
    decays = groups_by_name(model, found.pretrain["mfm"].optimizer)
    for key, parameter in model.named_parameters():
        exempt = name != UPSTREAM and (
            parameter.ndim == 1
            or key.endswith(".bias")
            or key in ("backbone.pos_embed", "backbone.cls_token")
        )
        assert decays[key] == (0.0 if exempt else 0.05, 1.0), key
    assert {0.0, 0.05} == {decay for decay, _ in decays.values()} | {0.0}


def test_layers_of_the_vit_learn_as_in_the_papers_code():
    run = job(VIT, "finetune")
    with torch.device("meta"):
        model = run.training.build(run.inputs_of(classes=1000, rows=np.arange(1))).model
    groups = groups_by_name(model, run.training.optimizer)
    for key, parameter in model.named_parameters():
        # 14 layers: embeddings, 12 blocks, and the rest
        if key in ("cls_token", "pos_embed") or key.startswith("patch_embed."):
            layer = 0
        elif key.startswith("blocks."):
            layer = int(key.split(".")[1]) + 1
        else:
            layer = 13
        exempt = parameter.ndim == 1 or key in ("cls_token", "pos_embed")
        assert groups[key] == (0.0 if exempt else 0.05, pytest.approx(0.8 ** (13 - layer))), key
    assert {key.split(".")[0] for key in groups} >= {"fc_norm", "head", "pos_embed"}
    assert not [key for key in groups if key.startswith("norm.")]


def test_the_vit_is_the_papers():
    run = job(VIT, "finetune")
    with torch.device("meta"):
        classifier = run.training.build(run.inputs_of(classes=1000, rows=np.arange(1))).model
        pretrained = create_backbone(experiment(VIT).model, classes=0, image_size=224)
    assert classifier.pos_embed.shape == (1, 197, 768)
    assert classifier.pos_embed.requires_grad
    assert classifier.global_pool == "avg"
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in classifier.blocks]
    assert rates == pytest.approx([0.1 * n / 11 for n in range(12)])
    assert not [m for m in pretrained.modules() if getattr(m, "drop_prob", 0.0)]
    # Pretraining ends in the backbone's own norm, finetuning in one after the pooling.
    assert isinstance(pretrained.norm, nn.LayerNorm)
    assert isinstance(classifier.norm, nn.Identity)
    assert isinstance(classifier.fc_norm, nn.LayerNorm)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_layer_decay_sets_each_groups_rate(name):
    model = timm.create_model("test_vit", num_classes=3)
    run = Finetuning(
        epochs=10,
        batch=8,
        optimizer=Optimizer(name=name, lr=0.1, lr_batch=8, layer_decay=0.5),
        schedule=Schedule(warmup_epochs=2, warmup_start=0.001),
    )
    optimizer = optimizers.create_optimizer(model, run.optimizer)
    whole = optimizers.set_rates(optimizer, run, epoch=2, step=0, steps_per_epoch=4)
    assert whole == pytest.approx(0.1)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert len(scales) > 3
    assert 1.0 in scales
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.1 * group["lr_scale"])


def test_the_official_vit_begins_with_narrower_weights():
    """models/mfm.py cuts at one standard deviation: trunc_normal_(a=-std, b=std), std=.02."""
    torch.manual_seed(0)
    model = create_backbone(
        experiment(VIT).model.model_copy(update={"backbone": "test_vit"}), classes=5
    )
    theirs = 0.02 * stats.truncnorm(-1, 1).std()
    assert f"leaves {theirs:.4f} of 0.02" in heads()[VIT]
    assert model.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.cls_token.std().item() == pytest.approx(1e-6, rel=0.3)


# What is done otherwise, and by how much


def upstreams_mix(draw, *, mixup=0.1, cutmix=1.0, size=160):
    """Own share of the images of one device's batch, after mfm/transforms.py."""
    if draw.random() < 0.5:
        return draw.beta(mixup, mixup)
    half = int(0.5 * math.sqrt(1 - draw.beta(cutmix, cutmix)) * size)
    sides = [min(at + half, size) - max(at - half, 0) for at in draw.integers(0, size, 2).tolist()]
    return 1 - sides[0] * sides[1] / size**2


def our_mix(step, *, mixup=0.1, cutmix=1.0, size=160):
    mix = plan_mix(mixup=mixup, cutmix=cutmix, seed=0, epoch=0, step=step)
    return mix.targets(torch.eye(2, dtype=torch.float64), size=size)[0, 0].item()


def test_one_mix_for_a_batch_is_a_wider_draw_of_the_same():
    n, draw = 8_000, np.random.default_rng(0)
    theirs = np.array([upstreams_mix(draw) for _ in range(n)])
    ours = np.array([our_mix(step) for step in range(n)])
    weaker = [np.minimum(own, 1 - own) for own in (ours, theirs)]
    assert [f"{each.mean():.2f}" for each in weaker] == ["0.17", "0.17"]
    of_a_step = weaker[1].reshape(-1, 8).mean(axis=1).std()
    head = heads()[UPSTREAM]
    assert f"varies from step to step by {weaker[0].std():.2f} here and by {of_a_step:.2f}" in head
    assert "0.17 in both" in head
    assert (weaker[0] < 0.01).mean() == pytest.approx(1 / 3, abs=0.02)
    wide = np.array([our_mix(step, mixup=0.8, size=224) for step in range(n)])
    deviation = np.minimum(wide, 1 - wide).std()
    assert f"varies by {deviation:.2f} here, and by {deviation / 4:.2f} there" in heads()[VIT]


def test_cutmix_pastes_a_little_more_than_upstream():
    size = 160
    shares = (np.arange(20_000) + 0.5) / 20_000  # of alpha 1
    at = np.arange(size)
    mean_side = {
        half: (np.minimum(at + half, size) - np.maximum(at - half, 0)).mean() / size
        for half in range(size // 2 + 1)
    }
    theirs = np.mean([mean_side[int(0.5 * math.sqrt(1 - s) * size)] ** 2 for s in shares])
    ours = 1 / 2 - 1 / 5 + 1 / 48  # tests/test_augment.py
    text = f"{ours:.1%} of the image are pasted on average, and {theirs:.1%} there"
    assert text in heads()[UPSTREAM]


def failing(ratio):
    """Probability that a try of the pretraining's crops doesn't fit an image of that aspect."""
    aspects = np.exp(np.linspace(math.log(0.8), math.log(1.25), 20_001))
    largest = np.clip(np.minimum(ratio / aspects, aspects / ratio), 0.2, 1.0)
    return 1 - ((largest - 0.2) / 0.8).mean()


def test_ten_tries_of_a_crop_nearly_always_suffice():
    rare, rarer = (1 / failing(ratio) ** 10 for ratio in (3 / 2, 4 / 3))
    wide, wider = (failing(ratio) ** 10 for ratio in (2, 3))
    text = f"1 of {round(rarer, -3):,.0f} crops at 4:3, 1 of {round(rare, -2):,.0f} at 3:2, "
    assert text + f"{wide:.1%} at 2:1, {wider:.0%} at 3:1" in heads()[UPSTREAM]
    assert failing(3) ** 100 < 1e-7


def drawn(outputs, *, batch, batches):
    """What a DALI pipeline of these operators gives, on the CPU."""
    dali = pytest.importorskip("nvidia.dali")
    pipeline = dali.pipeline_def(outputs)(batch_size=batch, num_threads=1, device_id=None, seed=1)
    pipeline.build()
    runs = [[np.array(each.as_tensor()) for each in pipeline.run()] for _ in range(batches)]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (333, 500)])
def test_the_pretrainings_crops_are_those_of_upstreams_dali(height, width):
    fn = pytest.importorskip("nvidia.dali.fn")

    def crops():
        return fn.random_crop_generator(
            np.array([height, width, 3], np.int32),
            random_aspect_ratio=[0.8, 1.25],
            random_area=[0.2, 1.0],
            num_attempts=100,
        )

    anchors, shapes = drawn(lambda: tuple(crops()), batch=1000, batches=20)
    n = len(anchors)
    ours = plan_crops(
        training(UPSTREAM, "pretrain").crop,
        seed=0,
        epoch=0,
        indices=np.arange(n),
        widths=np.full(n, width),
        heights=np.full(n, height),
    )
    for mine, theirs in (
        (ours.top, anchors[:, 0]),
        (ours.left, anchors[:, 1]),
        (ours.height, shapes[:, 0]),
        (ours.width, shapes[:, 1]),
    ):
        error = math.sqrt((mine.var() + theirs.var()) / n)
        assert abs(mine.mean() - theirs.mean()) < 4 * error
        assert mine.std() == pytest.approx(theirs.std(), rel=0.03)


def test_upstreams_pretraining_shuffles_once_and_then_nearby(tmp_path):
    """mfm/dali_loader.py: readers.file(random_shuffle=True), with DALI's initial_fill."""
    fn = pytest.importorskip("nvidia.dali.fn")
    n, batch = 12_800, 256
    (tmp_path / "class").mkdir()
    for number in range(n):
        (tmp_path / f"class/{number:05d}.bin").write_bytes(number.to_bytes(4, "little"))

    def reader():
        files, _ = fn.readers.file(
            file_root=str(tmp_path), file_filters=["*.bin"], random_shuffle=True, name="Reader"
        )
        return files

    [read] = drawn(reader, batch=batch, batches=2 * n // batch)
    epochs = read.reshape(-1, 4).copy().view("<i4")[:, 0].reshape(2, n)
    assert stats.spearmanr(np.arange(n), epochs[0]).pvalue > 1e-4  # shuffled
    assert stats.spearmanr(*(epoch.argsort() for epoch in epochs)).statistic > 0.7  # but once
    batch_of = epochs.argsort(axis=1) // batch
    met = np.bincount(batch_of[0] * (n // batch) + batch_of[1], minlength=(n // batch) ** 2)
    again = (met * (met - 1)).sum() / (n * (batch - 1))
    assert 0.05 < again < 0.09
    assert "in about 6% of the later epochs, and in 0.02% here" in heads()[UPSTREAM]
    assert f"{(256 - 1) / (IMAGES - 1):.2%}" == "0.02%"


@pytest.mark.parametrize("name", [PAPER, VIT])
def test_an_images_weight_in_the_official_loss_depends_on_its_devices_others(name):
    low = training(name, "pretrain").low_pass
    inside = sum(x * x + y * y < 16**2 for x in range(-16, 17) for y in range(-16, 17))
    kept_low = np.arange(129)  # of a device's 128 images
    removed = kept_low * (224**2 - inside) + (128 - kept_low) * inside
    shares = stats.binom.pmf(kept_low, 128, low)
    mean, square = ((shares / removed**power).sum() for power in (1, 2))
    deviation = math.sqrt(square / mean**2 - 1)
    assert f"An image's weight there varies by {deviation:.0%}".lower() in heads()[name].lower()


# A checkpoint that upstream published

OWN = {
    "dataset": {"name": "tiny-imagenet", "source": "tiny-imagenet"},
    "evaluate": {"batch": 10},
}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """What train_finetune.py saves, of five classes, beside a small tree like ImageNet's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mfm.commands.evaluate.begin", lambda: None)
    for variable in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    write_tree(tmp_path / "tiny-imagenet")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=len(WNIDS)).eval()
    optimizer = torch.optim.AdamW(model.fc.parameters(), lr=0.012, weight_decay=0.02)
    schedulers = torch.optim.lr_scheduler
    warmup = schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = schedulers.CosineAnnealingLR(optimizer, T_max=95)
    rate = schedulers.SequentialLR(optimizer, [warmup, cosine], milestones=[5])
    model(torch.zeros(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": rate.state_dict(),
        "epoch": 99,
        "args": argparse.Namespace(model="resnet50", lr=0.012, clip_grad_norm=None, amp=True),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
    }
    torch.save(content, tmp_path / "saved_model_bce_15.pth")
    return model


def evaluate(monkeypatch, *words):
    files = [str(ROOT / f"configs/{UPSTREAM}.yaml"), "own.yaml"]
    command = ["mfm", "evaluate", "--configfile", *files, "--from", "upstream", *words]
    monkeypatch.setattr("sys.argv", [*command, "--workers", "0"])
    main()


def test_one_command_evaluates_a_published_checkpoint(tmp_path, checkpoint, monkeypatch, capsys):
    tensors = {n: t for n, t in checkpoint.state_dict().items() if not n.startswith("fc.")}
    torch.save({"model": tensors}, "saved_model_15.pth")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, "--weights", "saved_model_15.pth", "--csv", "row.csv")
    assert "saved_model_15.pth has no classifier" in capsys.readouterr().err
    assert not list(tmp_path.glob("row.*"))
    # The manifest that is there by now is an input of finished runs, which a new one would repeat.
    manifest = tmp_path / "data/tiny-imagenet/manifest.parquet"
    before = manifest.stat().st_mtime_ns

    words = ("--weights", "saved_model_bce_15.pth", "--csv", "out/saved_model_bce_15.csv")
    evaluate(monkeypatch, *words)
    assert manifest.stat().st_mtime_ns == before
    assert "on 10 images of split 'val'" in capsys.readouterr().out
    assert looks.count(tmp_path / "data/tiny-imagenet", "val") == 1
    [row] = csv.DictReader(io.StringIO((tmp_path / "out/saved_model_bce_15.csv").read_text()))
    # mfm/presets.py, ClassificationPresetEval, with the constants of dist_train.sh
    transform = v2.Compose(
        [
            v2.Resize(235, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=[0.4] * 3, std=[0.2] * 3),
        ]
    )
    dataset = torchvision.datasets.ImageFolder(tmp_path / "tiny-imagenet/val", transform)
    images, labels = zip(*dataset, strict=True)
    with torch.inference_mode():
        logits = checkpoint(torch.stack(images))
    labels = torch.tensor(labels)
    top1 = 100 * (logits.argmax(dim=1) == labels).double().mean().item()
    assert float(row["top1"]) == pytest.approx(top1)
    assert float(row["loss"]) == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    assert (row["arm"], row["images"], row["epochs"]) == ("saved_model_bce_15", "10", "0")


def test_the_command_that_the_head_gives_is_the_manuals():
    head = heads()[UPSTREAM].replace("\\ ", "")
    [command] = re.findall(r"mfm evaluate .*?\.csv", head)
    manual = " ".join((ROOT / "docs/imagenet.md").read_text().replace("\\\n", " ").split())
    assert command in manual
