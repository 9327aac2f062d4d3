"""Cost of a drafted experiment: time of each stage here, disk and memory, from measured speeds."""

from __future__ import annotations

from dataclasses import dataclass

from mfm.experiment.equal_cost import shown
from mfm.experiment.resolve import finetune_job, frozen_features
from mfm.planning.draft import Draft
from mfm.planning.speeds import Speeds, pretrain_threads

# Jobs that are all start and end: link, dataset report, tables, figures, pictures, plan, page.
SMALL_JOBS = 10
# A job of the workflow besides its process: Snakemake's share, and its configuration's job.
JOB = 1.0
PICTURE = 1_000_000  # bytes of a page, a figure or a table
EPOCHS_OF_FINETUNING = 30  # between checkpoints, as the profile has it


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an experiment takes."""

    stages: dict[str, float]  # seconds, as the clock shows them
    disk: float  # bytes when it is done
    most_disk: float  # bytes while it runs
    memory: float  # bytes, of the runs that go side by side

    @property
    def seconds(self) -> float:
        """Of everything."""
        return sum(self.stages.values())


def cost_of(draft: Draft, speeds: Speeds) -> Cost:
    """From what a step of each stage takes, and how many go side by side."""
    speeds = speeds if speeds.size == draft.size else speeds.at(draft.size)
    experiment, images = draft.experiment, draft.pictures.images
    pretrain, finetune = speeds.pretrain, speeds.finetune
    runs = draft.pretrainings
    recipe, mfm = experiment.finetune, experiment.pretrain["mfm"]
    epochs = dict.fromkeys(experiment.arms, recipe.epochs)
    for arm in experiment.arms:
        more = finetune_job(experiment, arm, 0).makes_up_for
        if more is not None:
            epochs[arm] += more.epochs_more(
                images=images.get(more.split, 0),
                own_images=images["train"],
                batch=recipe.batch,
                size=draft.size,
            )
    in_epoch = shown(images["train"], recipe.batch)
    pretrained = pretrain.start + mfm.epochs * (
        shown(draft.pictures.pretraining_images, mfm.batch) * pretrain.image + pretrain.checkpoint
    )
    finetuned = {
        arm: finetune.start
        + number * in_epoch * finetune.image
        + number / EPOCHS_OF_FINETUNING * finetune.checkpoint
        for arm, number in epochs.items()
    }
    wide, narrow = draft.machine.slots(pretrain_threads(draft)), draft.machine.slots(1)
    evaluated = finetune.start + images["val"] * finetune.evaluate
    features = len(frozen_features(experiment))
    read = (images["train"] + images["val"]) * finetune.evaluate
    stages = {
        "pretraining": _side_by_side([pretrained] * runs, wide),
        "finetuning": _side_by_side(
            [seconds for seconds in finetuned.values() for _ in range(runs)], narrow
        ),
        "evaluation": _side_by_side([evaluated] * (runs * len(epochs)), narrow)
        + _side_by_side([finetune.start + runs * read] * features, narrow),
        "tables and pages": _side_by_side([finetune.start] * SMALL_JOBS, min(2, narrow)),
    }
    # A pretraining leaves its backbone, and model and AdamW's two states in its checkpoint.
    left = runs * (4 * pretrain.weights + len(epochs) * finetune.weights) + SMALL_JOBS * PICTURE
    # Two rolling checkpoints, and one that is being written, of each run beside others.
    rolling = 9 * max(wide * pretrain.weights, narrow * finetune.weights)
    return Cost(
        stages=stages,
        disk=left,
        most_disk=left + rolling,
        memory=1e6 * max(min(wide, runs) * pretrain.memory, narrow * finetune.memory),
    )


def _side_by_side(seconds: list[float], slots: int) -> float:
    """Time of jobs of which so many go at once: their mean share, or the longest one's."""
    seconds = [each + JOB for each in seconds]
    return max(sum(seconds) / slots, max(seconds, default=0.0))
