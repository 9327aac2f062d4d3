"""Training loop of the published reproduction, run as it stands: a side of train_step.py.

Needs a checkout of https://github.com/CoinCheung/MFM (commit e4ce8db, MIT) and a GPU. Its package
has our package's name, so this is a program of its own. Options are those of its dist_train.sh:
AdamW, `--amp` (float16, scaled), clipping of the pretraining, mixup and cutmix of the finetuning;
cuDNN tries its algorithms, as its main does. Images lie on the GPU already, normalised, as its DALI
loader leaves them.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch

DEVICE = torch.device("cuda", 0)
_LOADER = ("", ".plugin", ".plugin.pytorch", ".pipeline", ".fn", ".types")


def loop(settings: dict[str, object]) -> SimpleNamespace:
    """Its `train_one_epoch` with everything that it takes, and its batches."""
    sys.path.insert(0, str(settings["published"]))
    for name in _LOADER:  # imported by its programs, not used here
        sys.modules.setdefault(f"nvidia.dali{name}", MagicMock())
    import mfm.utils as utils  # the checkout's

    torch.manual_seed(0)
    pretrain = settings["task"] == "mfm"
    if pretrain:
        import train_mfm as program
        from mfm.fft_masker import MaskedFFT
        from mfm.focal_frequency_loss import FocalFrequencyLoss
        from mfm.resnet import resnet50

        model = resnet50()
        model.mfm()
        more = {"fft_masker": MaskedFFT(rad=16)}
        criterion: tuple[object, ...] = (FocalFrequencyLoss(),)
        betas, decay = (0.9, 0.95), 0.05
    else:
        import mfm.transforms as transforms
        import torchvision
        import train_finetune as program

        model = torchvision.models.resnet50(num_classes=1000)
        mixes = [
            transforms.RandomMixup(1000, p=1.0, alpha=0.1),
            transforms.RandomCutmix(1000, p=1.0, alpha=1.0),
        ]
        # Its own call, for targets that are one-hot already
        more = {"mixupcutmix": torchvision.transforms.RandomChoice(mixes)}
        one_hot = program.OneHotLBSmooth(num_classes=1000, label_smoothing=0.1)
        criterion = (torch.nn.BCEWithLogitsLoss(), one_hot)
        betas, decay = (0.9, 0.999), 0.02
    model.to(DEVICE)
    groups = utils.set_weight_decay(model, decay)
    optimizer = torch.optim.AdamW(groups, lr=1e-4, weight_decay=decay, betas=betas)
    scaler = torch.cuda.amp.GradScaler()
    args = Namespace(
        print_freq=100, use_dali=False, model_ema_steps=32, clip_grad_norm=3.0 if pretrain else None
    )
    batch, size = int(str(settings["batch"])), int(str(settings["size"]))
    batches = [
        (
            torch.randn(batch, 3, size, size, device=DEVICE),
            torch.randint(0, 1000, (batch,), device=DEVICE),
        )
        for _ in range(2)
    ]

    def steps(count: int) -> None:
        data = [batches[i % 2] for i in range(count)]
        program.train_one_epoch(
            model, *criterion, optimizer, data, DEVICE, 0, args, scaler=scaler, **more
        )
        torch.cuda.synchronize()

    return SimpleNamespace(steps=steps, batch=batch)


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--side", type=json.loads, required=True)
    settings = parser.parse_args().side
    torch.backends.cudnn.benchmark = True
    with contextlib.redirect_stdout(sys.stderr):
        theirs = loop(settings)
    for question in sys.stdin:
        answer = {}
        with contextlib.redirect_stdout(sys.stderr):
            if question.strip() == "warm up":
                theirs.steps(8)
                answer = {"losses": []}
            elif question.strip() == "measure":
                count = int(settings["steps"])
                started = time.perf_counter()
                theirs.steps(count)
                took = (time.perf_counter() - started) / count
                peak = torch.cuda.max_memory_allocated() / 1e6
                answer = {"seconds": took, "images/s": theirs.batch / took, "peak": peak}
            torch.cuda.empty_cache()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
