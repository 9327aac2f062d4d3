"""Start and end of jobs: what a training of seconds doesn't wait for."""

import json
import subprocess
import sys

import pytest
import torch
from test_training import command, dataset, write_config

from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.settings.section import dumps
from mfm.training import optimizers
from mfm.training.settings import Optimizer

__all__ = ["dataset"]  # a fixture

# The compiler, and what stands on it; tables and their statistics; figures; DALI.
NOT_NEEDED = {"torch._dynamo", "torch._inductor", "torch.distributed.tensor", "timm.optim"}
NOT_NEEDED |= {"pandas", "pyarrow.dataset", "scipy.stats", "sklearn", "matplotlib", "nvidia.dali"}
NOT_NEEDED |= {"huggingface_hub"}
# Runs a command as `mfm` does, and prints what it has imported, and a pretraining would have.
TOLD = """
import json, sys
from mfm.__main__ import main
sys.argv = ["mfm", *sys.argv[1:]]
main()
import mfm.objectives.mfm.pictures
print(json.dumps(list(sys.modules)))
"""


def imported(words, environment):
    done = subprocess.run(
        [sys.executable, "-c", TOLD, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.processes
def test_a_finetuning_and_its_evaluation_import_what_they_need(
    tmp_path, dataset, child_environment
):
    run = tmp_path / "run"
    write_config(run, stage="finetune", epochs=1, randaugment={}, curve_images=8)
    words = command(run, dataset, stage="finetune")
    found = imported(words[words.index("train") :], child_environment)
    assert NOT_NEEDED & found == set()
    assert "scipy" not in found, "only mixing needs it"
    job = EvaluateJob(
        dataset={"name": "tiny", "image_size": 32},
        model={"backbone": "resnet10t"},
        evaluation=Classification(resize=32, crop=32),
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
    config = tmp_path / "evaluate.json"
    config.write_text(dumps(job))
    words = ["evaluate", "--config", config, "--manifest", dataset, "--csv", tmp_path / "row.csv"]
    words += ["--weights", run / "model.safetensors", "--predictions", tmp_path / "all.parquet"]
    found = imported([str(word) for word in [*words, "--workers", "0"]], child_environment)
    # pyarrow imports it to make a table of what isn't in its own memory.
    assert NOT_NEEDED & found == {"pandas"}


def test_the_launcher_of_one_process_imports_next_to_nothing():
    code = "import sys, mfm.__main__, mfm.processes.launch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("None", 0), ("75", 75), ("'a text'", 1)])
def test_a_process_ends_with_its_code_and_everything_that_was_registered(code, expected):
    program = f"""
import atexit, sys
from mfm import __main__
def main():
    atexit.register(print, "registered")
    print("printed")
    sys.exit({code})
__main__.main = main
__main__.program()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == expected
    assert done.stdout == "printed\nregistered\n"
    assert done.stderr == ("a text\n" if expected == 1 else "")


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_an_optimizer_without_the_compilers_wrappers_is_the_same(name):
    def steps(plain):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        optimizer = optimizers.create_optimizer(model, Optimizer(name=name, lr=0.1))
        if plain:
            optimizer = type(optimizer).__base__(optimizer.param_groups)
        for _ in range(3):
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [*model.parameters()], optimizer.state_dict()

    (ours, state), (theirs, others) = steps(False), steps(True)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert state["state"].keys() == others["state"].keys()
    assert state["param_groups"] == others["param_groups"]
