"""Several pretrainings an arm: which finetuning starts from which, and whose draws are whose."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mfm.data.linking import manifest
from mfm.data.sources import generated
from mfm.experiment.jobs import FinetuneJob
from mfm.experiment.resolve import (
    finetune_job,
    pretrain_job,
    pretraining_seed,
    pretrainings,
)
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.models.weights import save_weights
from mfm.processes.ranks import Process
from mfm.settings.section import dumps, load_json, parse
from mfm.training import run
from mfm.training.operation import Operation

ALONE = Process(rank=0, world=1, device=torch.device("cpu"))


def experiment(pretraining_seeds, *, seeds=(0, 1, 2, 3, 4, 5), **arms):
    values = {
        "seeds": list(seeds),
        "dataset": {"name": "tiny", "source": "generated", "image_size": 32},
        "model": {"backbone": "resnet10t"},
        "pretrain": {"p": {"task": "supervised", "batch": 8, "seeds": list(pretraining_seeds)}},
        "arms": {"scratch": "scratch", "a": {"pretrain": "p"}} | arms,
        "finetune": {"batch": 8},
    }
    return parse(Experiment, values, where="test")


@pytest.mark.parametrize(
    ("seeds", "starts"),
    [
        ([3], [3, 3, 3, 3, 3, 3]),
        ([7, 3], [7, 3, 7, 3, 7, 3]),
        ([0, 1, 2, 9], [0, 1, 2, 9, 0, 1]),
        ([8, 7, 6, 5, 4, 3, 2, 1], [8, 7, 6, 5, 4, 3]),
    ],
)
def test_a_finetuning_starts_from_the_pretraining_of_its_number_mod_k(seeds, starts):
    ours = experiment(seeds)
    runs = Runs(ours)
    assert [runs.initial_weights("a", seed) for seed in range(6)] == [
        f"results/pretrain/p/seed{start}/backbone.safetensors" for start in starts
    ]
    # Only those are trained, each in a folder of its own, as its settings say.
    assert runs.pretrainings == [("", "p", seed) for seed in sorted(set(starts))]
    for _, name, seed in runs.pretrainings:
        job = pretrain_job(ours, name, seed)
        assert (job.training.seeds, job.seed) == ([seed], seed)
    texts = {dumps(pretrain_job(ours, name, seed)) for _, name, seed in runs.pretrainings}
    assert len(texts) == len(set(starts))


def test_an_arm_of_fewer_seeds_asks_for_its_pretrainings_alone():
    few = experiment([10, 11, 12, 13], a={"pretrain": "p", "seeds": [1, 5, 3]})
    assert pretrainings(few) == [("p", 11), ("p", 13)]
    both = experiment([10, 11, 12, 13], a={"pretrain": "p", "seeds": [1]}, b={"pretrain": "p"})
    assert pretrainings(both) == [("p", seed) for seed in (10, 11, 12, 13)]
    assert pretraining_seed(both, "scratch", 1) is None


def test_one_more_pretraining_changes_what_finetunings_start_from():
    before, after = experiment([10, 11]), experiment([10, 11, 12])
    changed = [
        s for s in range(6) if pretraining_seed(before, "a", s) != pretraining_seed(after, "a", s)
    ]
    assert changed == [2, 3, 4, 5], "all beyond the first K: s mod 2 and s mod 3"
    # Its own settings are the same: the workflow runs it again because of the file it starts from.
    for seed in range(6):
        assert finetune_job(before, "a", seed) == finetune_job(after, "a", seed)
        assert finetune_job(before, "scratch", seed) == finetune_job(after, "scratch", seed)
    assert pretrain_job(before, "p", 11) == pretrain_job(after, "p", 11)


class Begun(Exception):  # noqa: N818
    """Raised in the place of a training, with what it would be made of."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generated.export(folder)
    manifest.write(folder)
    return folder / "manifest.parquet"


@pytest.fixture
def begin(images, tmp_path, monkeypatch):
    """A training up to its first step: the network, the order, the images."""

    def stop(setup, **_):
        raise Begun(setup)

    monkeypatch.setattr(run, "Trainer", stop)
    monkeypatch.setattr(run, "create_loader", lambda kind, batches, **_: batches)

    def begin(job, weights="scratch"):
        operation = Operation(run=tmp_path, workers=0, checkpoint_epochs=1)
        config = tmp_path / "config.json"
        files = {"config": config, "weights": weights, "manifest_path": images}
        with pytest.raises(Begun) as begun:
            run.run(job, operation=operation, process=ALONE, **files)
        return begun.value.args[0]

    return begin


def test_a_pretraining_and_a_finetuning_of_one_seed_share_no_draw(begin):
    ours = experiment([3], seeds=(3,))
    jobs = pretrain_job(ours, "p", 3), finetune_job(ours, "scratch", 3)
    assert jobs[0].run_seed - jobs[1].run_seed == 2**31
    setups = [begin(job) for job in jobs]
    # Same images, same network, same kind of classifier: all that is drawn is another.
    orders = [next(setup.plan.epoch(0)).positions for setup in setups]
    assert not np.array_equal(*orders)
    boxes = [setup.loader.geometry((0, np.arange(16))).boxes for setup in setups]
    assert not (boxes[0] == boxes[1]).all(axis=1).any()
    begun = [dict(setup.task.model.named_parameters()) for setup in setups]
    drawn = [name for name, values in begun[0].items() if values.std() > 0]
    assert {"conv1.0.weight", "fc.weight"} <= set(drawn)
    for name in drawn:
        correlation = torch.corrcoef(torch.stack([each[name].flatten() for each in begun]))[0, 1]
        assert abs(correlation) < 0.5, name


def test_a_finetuned_model_names_the_pretraining_it_started_from(begin, tmp_path, images):
    ours = experiment([4, 6], seeds=(0, 1))
    job = pretrain_job(ours, "p", 6)
    setup = begin(job)
    backbone = tmp_path / "backbone.safetensors"
    said = job.facts(setup.images, job.load(setup.task, "scratch"))
    save_weights(setup.task.backbone, backbone, said)
    (tmp_path / "config.json").write_text(dumps(finetune_job(ours, "a", 1)))
    finetuning = load_json(FinetuneJob, tmp_path / "config.json")
    initial = finetuning.load(begin(finetuning, str(backbone)).task, str(backbone))
    facts = finetuning.facts(setup.images, initial)
    assert (facts["seed"], facts["initial_seed"]) == ("1", "6")
    assert Path(Runs(ours).initial_weights("a", 1)).parent.name == "seed6"
