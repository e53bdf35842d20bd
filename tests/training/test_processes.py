"""Training by real processes: killed for good, and two at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from medi.cohort.table import Cohort
from medi.models.checkpoint import load_tensors

SCRIPT = """
import sys, time
from pathlib import Path
import torch
from medi.cohort.table import Cohort
from medi.models.network import NetworkSettings
from medi.training.loop import train
from medi.training.recipe import Recipe
torch.set_num_threads(1)
cohort, out, images, pause = Cohort.load(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
recipe = Recipe(images=images, batch=4, save_every=16, warmup=16, dropout=0.2)
train(cohort, out, NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1), recipe, cohort.schema, 5, cohort,
      lambda done, total: time.sleep(pause))
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


def begin(folder: Path, cohort: Cohort, out: str, images: int, pause: float = 0.0, *launcher: str) -> subprocess.Popen:
    """Train in a process of its own, on one thread, as all are compared."""
    if not (folder / "cohort").exists():
        cohort.save(folder / "cohort")
        (folder / "script.py").write_text(SCRIPT)
    arguments = [folder / "script.py", folder / "cohort", folder / out, images, pause]
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_killed_three_times_ends_with_the_same_weights_p4_p12(cohort: Cohort, tmp_path: Path) -> None:
    """SIGKILL leaves no time to tidy up: whatever is on disk at that moment is a whole state or none."""
    state, reached = tmp_path / "cut" / "state.safetensors", []
    for _ in range(3):
        process = begin(tmp_path, cohort, "cut", 480, 0.03)
        before, limit = state.stat().st_mtime_ns if state.exists() else 0, time.monotonic() + 120
        while not (state.exists() and state.stat().st_mtime_ns > before) and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(load_tensors(state)[1]["images"])
    assert 16 <= reached[0] < reached[1] < reached[2] < 480, "each went on from where the one before was"
    assert begin(tmp_path, cohort, "cut", 480).wait(timeout=300) == 0
    assert begin(tmp_path, cohort, "whole", 480).wait(timeout=300) == 0
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_two_processes_equal_one_p4(cohort: Cohort, tmp_path: Path) -> None:
    """The same batches, learning rates and average, by gloo: equal up to the order of summation."""
    port = str(20_000 + os.getpid() % 20_000)
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port)
    assert begin(tmp_path, cohort, "two", 48, 0.0, *launcher).wait(timeout=300) == 0
    assert begin(tmp_path, cohort, "one", 48).wait(timeout=300) == 0
    assert begin(tmp_path, cohort, "fewer", 44).wait(timeout=300) == 0
    one, two, fewer = (weights(tmp_path / name) for name in ("one", "two", "fewer"))
    apart = max(float((two[name] - value).abs().max()) for name, value in one.items())
    update = max(float((fewer[name] - value).abs().max()) for name, value in one.items())
    assert apart < 0.1 * update, "far less than one update of twelve makes"
