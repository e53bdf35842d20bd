"""Training by real processes: killed for good, and two at once."""

import socket
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.checkpoint import load_model, load_tensors
from medi.models.network import NetworkSettings
from medi.study.jobs import Job, Needs, Task, meeting
from medi.training.loop import _check_shares, train
from medi.training.recipe import Recipe
from medi.training.trainer import fresh_denoiser
from real_processes import begin, ended, on_node, preload, server, tiny_training, train_sharded, train_tiny

preload("torch.distributed.fsdp")


@pytest.fixture
def patches(cohort: Cohort, tmp_path: Path) -> Path:
    cohort.save(tmp_path / "cohort")
    return tmp_path / "cohort"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


def test_one_process_cannot_cut_a_network(cohort: Cohort, tiny: NetworkSettings, tmp_path: Path) -> None:
    recipe = Recipe(images=16, batch=4, save_every=16, shard_model=True)
    with pytest.raises(
        MediError, match="shard_model cuts a network among several processes, and this is one; start it"
    ):
        train(cohort, tmp_path / "model", tiny, recipe, cohort.schema, 0)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("images", "batch", "micro_batch", "processes", "size"),
    [(48, 4, 0, 8, 4), (17, 4, 0, 2, 1), (50, 10, 3, 3, 10), (48, 5, 0, 2, 0), (48, 12, 2, 3, 0), (16, 16, 3, 1, 0)],
)
def test_processes_that_would_wait_for_each_other_are_refused(
    cohort: Cohort,
    tiny: NetworkSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
    batch: int,
    micro_batch: int,
    processes: int,
    size: int,
) -> None:
    """Each forward pass of one waits for that of all others, so that all need equally many."""
    recipe = Recipe(images=images, batch=batch, save_every=batch * 4, micro_batch=micro_batch)
    if not size:
        _check_shares(recipe, processes)
        return
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(MediError, match=f"{processes} processes cannot share an update of {size} images"):
        train(cohort, tmp_path / "model", tiny, recipe, cohort.schema, 0)


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
    assert 15 <= reached[0] < reached[1] < reached[2] < 480, "each went on from where the one before was"
    both = [begin(train_tiny, patches, tmp_path / name, 480) for name in ("cut", "whole")]
    assert [ended(process) for process in both] == [0, 0]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


@pytest.mark.slow
def test_two_processes_equal_one_p4(patches: Path, tmp_path: Path) -> None:
    """The same batches, learning rates and average, by gloo: equal up to the order of summation. A process on each of
    two nodes, as a job of Slurm begins them, by torchrun's launcher with processes that have imported torch."""
    command = Task(Job("models-medi", ("run",), needs=Needs(nodes=2))).command()
    with socket.create_server(("localhost", 0)) as found:
        port = found.getsockname()[1]
    places = [meeting(command, "localhost", port, is_first) for is_first in (True, False)]
    nodes = [begin(on_node, place, train_tiny, patches, tmp_path / "two", 48) for place in places]
    others = [begin(train_tiny, patches, tmp_path / name, images) for name, images in (("one", 48), ("fewer", 44))]
    assert [ended(process) for process in (*nodes, *others)] == [0, 0, 0, 0]
    one, two, fewer = (weights(tmp_path / name) for name in ("one", "two", "fewer"))
    apart = max(float((two[name] - value).abs().max()) for name, value in one.items())
    update = max(float((fewer[name] - value).abs().max()) for name, value in one.items())
    assert apart < 0.1 * update, "far less than one update of twelve makes"


@pytest.mark.slow
def test_sharded_processes_equal_unsharded_ones_p4_p12(cohort: Cohort, patches: Path, tmp_path: Path) -> None:
    """Each of two holds half of everything; the files are those of two that hold all, up to the order of summation. A
    signal to one stops both; what they saved goes on bitwise, and without sharding as well. In parts, with Muon."""
    server()
    config = LaunchConfig(
        1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="forkserver", max_restarts=0
    )
    settings = {"images": 20, "optimizer": "muon", "micro_batch": 1, "save_every": 20, "precision": "fp32"}
    found = elastic_launch(config, train_sharded)(patches, tmp_path, settings)
    assert [reached for reached, _, _ in found.values()] == [8, 8]
    assert all(0.4 < held / every < 0.6 for _, held, every in found.values())
    plain, sharded, again, without = (weights(tmp_path / name) for name in ("plain", "sharded", "again", "without"))
    first = fresh_denoiser(tiny_training(**settings)[0], cohort.schema, 5).state_dict()
    moved = max(float((first[name] - value).abs().max()) for name, value in plain.items())
    for other in (sharded, without):
        assert max(float((other[name] - value).abs().max()) for name, value in plain.items()) < 1e-3 * moved
    assert all(torch.equal(value, again[name]) for name, value in sharded.items())
    states = [load_tensors(tmp_path / name / "state.safetensors")[0] for name in ("plain", "sharded", "again")]
    assert {name: value.shape for name, value in states[0].items()} == {n: v.shape for n, v in states[1].items()}
    assert all(torch.equal(value, states[2][name]) for name, value in states[1].items())
    assert load_model(tmp_path / "sharded" / "model.safetensors")[1].images == 20
