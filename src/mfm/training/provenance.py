"""Provenance of a file of weights or predictions: what it says of itself."""

from __future__ import annotations

import torch

from mfm.numerics import environment, precision
from mfm.settings.section import config_hash
from mfm.training.job import Job
from mfm.version import code_version


def provenance(job: Job, *, precision_asked: str, device: torch.device) -> dict[str, str]:
    """Stage, network, data, configuration, code, versions and hardware of a job."""
    return {
        "stage": job.stage,
        "backbone": job.model.backbone,
        "dataset": job.dataset.name,
        "loader": job.loader,
        "config_hash": config_hash(job),
        "code_version": code_version(),
        "precision": precision.resolve(precision_asked, device),
        "hardware": environment.hardware(device),
        **environment.versions(job.loader),
    }
