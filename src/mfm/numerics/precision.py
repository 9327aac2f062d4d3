"""Number format that a run computes in."""

from __future__ import annotations

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
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if native else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU; use auto, bf16 or fp32 here")
    return precision


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
