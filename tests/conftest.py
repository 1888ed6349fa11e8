import numpy as np
import pytest

from sepconv import _core, cpu_info


def pytest_report_header(config):
    info = cpu_info()
    lacking = [t for t in info["built_targets"] if t not in info["targets"]]
    return f"sepconv targets: run {info['targets']}, skipped (not on this machine) {lacking}"


def pytest_collection_modifyitems(items):
    """The longest tests first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: item.path.name != "test_torch_training.py")


@pytest.fixture(params=cpu_info()["built_targets"])
def target(request):
    """Runs the test once for every instruction set; those that the machine lacks are skipped."""
    if request.param not in cpu_info()["targets"]:
        pytest.skip(f"this machine has no {request.param}")
    _core.set_target(request.param)
    yield request.param
    _core.set_target("")


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)
