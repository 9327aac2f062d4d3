import gc
import os
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Files of minutes, the longest first.
LONGEST = (
    "workflow",
    "interruptions",
    "own_images",
    "registration",
    "notebook",
    "planning",
    "tuning",
    "docs",
    "imagenet_workflow",
    "training",
)


def pytest_configure(config):
    config.addinivalue_line("markers", "processes: starts training or workflow processes")
    config.addinivalue_line("markers", "gpu: runs where torch sees a GPU, else it is skipped")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Import without looking for garbage, since all of it stays, and without torch's compiler."""
    if session.config.getoption("dist", "no") != "no":
        return (yield)  # the process that shares out imports none of it
    from mfm.processes.startup import without_compiler

    gc.disable()
    try:
        with without_compiler():
            for name in ("torchvision", "timm"):
                import_module(name)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """The long files first, then all that starts processes: what is left last can be shared out."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))
    items.sort(key=_length)


def _length(item):
    name = item.path.stem.removeprefix("test_")
    place = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return place, item.get_closest_marker("processes") is None


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _elsewhere(tmp_path_factory):
    """Relative paths, `results` above all, must not lead to what was run in the checkout."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def child_environment():
    """Environment of a stage that a test starts: one thread, no ties to an outer launcher."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def finished_results(tmp_path_factory):
    """Results folder of a small finished experiment, with its figures; not to be changed."""
    import finished

    folder = tmp_path_factory.mktemp("results")
    finished.finish(folder)
    return folder


@pytest.fixture(scope="session")
def page(finished_results):
    """The report of that experiment."""
    import finished

    from mfm.reporting.page.build import build

    path = finished_results / "report.html"
    path.write_text(build(finished.experiment(finished_results), checked=99))
    return path
