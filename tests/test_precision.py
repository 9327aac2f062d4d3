import itertools
import warnings

import pytest
import torch

from mfm.errors import UserError
from mfm.numerics import precision
from mfm.training.settings import Training

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)  # a name, no GPU is needed
CHOICES = Training.model_json_schema()["properties"]["precision"]["enum"]


@pytest.fixture
def processor(monkeypatch):
    """Set what the processor and the GPU can do."""

    def can(*, avx512=False, amx=False, gpu=False, gpu_emulation=True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: gpu or (including_emulation and gpu_emulation),
        )

    return can


@pytest.mark.parametrize(("avx512", "amx"), [*itertools.product([False, True], repeat=2)])
def test_auto_is_bf16_on_a_processor_that_has_it(processor, avx512, amx):
    processor(avx512=avx512, amx=amx)
    assert precision.resolve("auto", CPU) == ("bf16" if avx512 or amx else "fp32")


def test_auto_is_bf16_on_a_gpu_that_has_it(processor):
    processor(gpu=True)
    assert precision.resolve("auto", GPU) == "bf16"


def test_auto_is_fp32_on_a_gpu_that_only_emulates_bf16(processor):
    # as config.yaml says of auto: "bf16 where the processor or GPU has it, else fp32"
    processor(gpu=False, gpu_emulation=True)
    assert precision.resolve("auto", GPU) == "fp32"


@pytest.mark.parametrize("given", sorted(set(CHOICES) - {"auto"}))
@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_what_is_asked_for_is_done_or_refused(processor, given, device):
    processor()
    if (given, device) == ("fp16", CPU):
        with pytest.raises(UserError, match=r"fp16 needs a GPU.*bf16"):
            precision.resolve(given, device)
    else:
        assert precision.resolve(given, device) == given


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_forward_pass_computes_in_the_chosen_format(name, dtype):
    layer, images = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with precision.autocast(name, CPU):
        assert layer(images).dtype == dtype
    assert layer(images).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_fp32_is_fp32_within_an_outer_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16), precision.autocast("fp32", CPU):
        assert torch.nn.Linear(4, 4)(torch.ones(2, 4)).dtype == torch.float32


@pytest.mark.parametrize("name", sorted(precision.DTYPES))
def test_only_fp16_scales_the_loss(name):
    scaler = precision.grad_scaler(name, CPU)
    assert scaler.is_enabled() is (name == "fp16")
    loss = torch.tensor(2.0)
    assert (scaler.scale(loss).item() == 2.0) is (name != "fp16")


def test_no_scaler_complains_where_there_is_nothing_to_scale():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, device in itertools.product(("fp32", "bf16"), (CPU, GPU)):
            assert not precision.grad_scaler(name, device).is_enabled()


def test_every_choice_of_the_configuration_has_a_format():
    assert set(CHOICES) == {"auto", *precision.DTYPES}
