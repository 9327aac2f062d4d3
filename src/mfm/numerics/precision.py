"""Number format that a run computes in, and how exactly it repeats."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch

from mfm.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device) -> str:
    """'auto' is bf16 where the processor or GPU computes in it natively, otherwise fp32.

    Raises UserError for fp16 on a CPU, which has no fast half-precision arithmetic.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        if device.type == "mps":
            return "fp32"
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if native else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU; use auto, bf16 or fp32 here")
    return precision


def wide(device: torch.device) -> torch.dtype:
    """The type that sums and small numbers are kept in: float64, which Apple's GPUs don't have."""
    return torch.float32 if device.type == "mps" else torch.float64


def settle(device: torch.device, *, deterministic: bool) -> None:
    """Choose a GPU's algorithms, before it computes anything; a CPU's need no choice.

    fp32 is IEEE float32: TF32, which torch lets convolutions use, has 10 bits of a mantissa's 23.
    `deterministic` gives the same bits twice. Otherwise cuDNN tries its algorithms on the first
    batch and takes the fastest, which may be another one in the next run, and some sums are made in
    the order in which their parts are ready.
    """
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS then repeats, too
    torch.use_deterministic_algorithms(deterministic)
    # Nothing here reads memory that wasn't written. (torch's types don't know the names.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Automatic mixed precision for the forward pass; nothing for fp32."""
    return torch.autocast(
        device.type,
        dtype=DTYPES["bf16"] if precision == "fp32" else DTYPES[precision],
        enabled=precision != "fp32",
    )


def grad_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling, which only fp16 needs; it does nothing otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
