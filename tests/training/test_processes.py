"""Training by real processes: killed for good, and two at once."""

import time
from pathlib import Path

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medi.cohort.table import Cohort
from medi.models.checkpoint import load_tensors
from real_processes import begin, ended, server, train_tiny


@pytest.fixture
def patches(cohort: Cohort, tmp_path: Path) -> Path:
    cohort.save(tmp_path / "cohort")
    return tmp_path / "cohort"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_weights_p4_p12(patches: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to tidy up: whatever is on disk at that moment is a whole state or none."""
    state, reached = tmp_path / "cut" / "state.safetensors", []
    for _ in range(3):
        process = begin(train_tiny, patches, tmp_path / "cut", 480, 0.03)
        before, limit = state.stat().st_mtime_ns if state.exists() else 0, time.monotonic() + 120
        while not (state.exists() and state.stat().st_mtime_ns > before) and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        assert ended(process) == -9
        reached.append(load_tensors(state)[1]["images"])
    assert 16 <= reached[0] < reached[1] < reached[2] < 480, "each went on from where the one before was"
    both = [begin(train_tiny, patches, tmp_path / name, 480) for name in ("cut", "whole")]
    assert [ended(process) for process in both] == [0, 0]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


@pytest.mark.slow
def test_two_processes_equal_one_p4(patches: Path, tmp_path: Path) -> None:
    """The same batches, learning rates and average, by gloo: equal up to the order of summation. torchrun's launcher,
    with processes that have imported torch already."""
    server()
    config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="forkserver")
    others = [begin(train_tiny, patches, tmp_path / name, images) for name, images in (("one", 48), ("fewer", 44))]
    assert elastic_launch(config, train_tiny)(patches, tmp_path / "two", 48) == {0: 2, 1: 2}
    assert [ended(process) for process in others] == [0, 0]
    one, two, fewer = (weights(tmp_path / name) for name in ("one", "two", "fewer"))
    apart = max(float((two[name] - value).abs().max()) for name, value in one.items())
    update = max(float((fewer[name] - value).abs().max()) for name, value in one.items())
    assert apart < 0.1 * update, "far less than one update of twelve makes"
