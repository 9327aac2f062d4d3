"""Job of an evaluation: everything that determines it, besides the weights it reads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mfm.evaluation.settings import ClassificationJob


class EvaluateJob(ClassificationJob):
    """Everything that determines one evaluation, besides the weights it reads."""

    stage: Literal["evaluate"] = Field("evaluate", description="Stage of the job.")
    name: str = Field("evaluate", description="'evaluate', or a further evaluation's name.")
    # Plain, so that the job of one evaluation knows nothing of the others, registered or not.
    further: dict[str, Any] | None = Field(None, description="Settings of a further evaluation.")
    # By this key, evaluations of a version that kept the label's alone are made again.
    probabilities: Literal["all"] = Field("all", description="Classes whose probabilities stay.")

    @model_serializer(mode="wrap")
    def _without_probabilities(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A further evaluation keeps no predictions, so it is the job that it was."""
        values: dict[str, Any] = write(self)
        if self.further is not None:
            del values["probabilities"]
        return values
