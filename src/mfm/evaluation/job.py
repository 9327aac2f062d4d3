"""Job of an evaluation: everything that determines it, besides the weights it reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mfm.evaluation import Evaluation
from mfm.settings.section import PositiveTriple, Triple
from mfm.training.job import Job


class EvaluateJob(Job):
    """Everything that determines one evaluation, besides the weights it reads."""

    stage: Literal["evaluate"] = Field("evaluate", description="Stage of the job.")
    name: str = Field("evaluate", description="'evaluate', or a further evaluation's name.")
    mean: Triple = Field(description="Normalisation of the finetuning.")
    std: PositiveTriple = Field(description="Normalisation of the finetuning.")
    evaluation: Evaluation = Field(description="Evaluation.")
