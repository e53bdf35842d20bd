"""Training by real processes: killed for good, and two at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import load_tensors
from medi.diffusion.denoiser import NetworkSettings
from medi.diffusion.training import Recipe, train

RECIPE = Recipe(images=480, batch=4, save_every=16, warmup=16, dropout=0.2)

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from medi.cohort.table import Cohort
from medi.diffusion.denoiser import NetworkSettings
from medi.diffusion.training import Recipe, train
torch.set_num_threads(1)
cohort, out, pause = Cohort.load(Path(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3])
recipe = Recipe(images=480, batch=4, save_every=16, warmup=16, dropout=0.2)
train(cohort, out, NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1), recipe, cohort.schema, 5, cohort,
      lambda images, total: time.sleep(pause))
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


def begin(cohort: Cohort, tmp_path: Path, out: str, pause: float, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    if not (tmp_path / "cohort").exists():
        cohort.save(tmp_path / "cohort")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(tmp_path / "cohort"), str(tmp_path / out), str(pause)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_killed_three_times_ends_with_the_same_weights_p4_p12(cohort: Cohort, tiny: NetworkSettings, tmp_path) -> None:
    """SIGKILL leaves no time to tidy up: whatever is on disk at that moment is a whole state or none."""
    train(cohort, tmp_path / "whole", tiny, RECIPE, cohort.schema, 5, cohort)
    state, reached = tmp_path / "cut" / "state.safetensors", []
    for _ in range(3):
        process = begin(cohort, tmp_path, "cut", 0.03)
        before, limit = state.stat().st_mtime_ns if state.exists() else 0, time.monotonic() + 60
        while not (state.exists() and state.stat().st_mtime_ns > before) and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(load_tensors(state)[1]["images"])
    assert 16 <= reached[0] < reached[1] < reached[2] < 480, "each went on from where the one before was"
    train(cohort, tmp_path / "cut", tiny, RECIPE, cohort.schema, 5, cohort)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_two_processes_equal_one_p4(cohort: Cohort, tiny: NetworkSettings, tmp_path) -> None:
    """The same batches, learning rates and average, by gloo: equal up to the order of summation."""
    launcher = (
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(20_000 + os.getpid() % 20_000),
    )
    process = begin(cohort, tmp_path, "two", 0.0, launcher)
    train(cohort, tmp_path / "one", tiny, RECIPE, cohort.schema, 5, cohort)
    assert process.wait(timeout=120) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = max((value.abs().max() for value in one.values()), key=float)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=5e-3, atol=5e-3 * float(moved), msg=name)
