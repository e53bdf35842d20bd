"""What the training loop costs beside the network's own work, and beside the loop of diffusers' examples.

python benchmarks/engine.py [--quick] [--threads 1]

All loops train the same UNet (the demo's) on the same number of images; they take turns, so that a busy machine slows
all of them, and ratios are medians over rounds. The last line is one JSON object.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common import figure, report
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.diffusion.denoiser import NetworkSettings, build_network
from medi.diffusion.presets import preset
from medi.diffusion.training import Recipe, Trainer

BATCH = 16
Step = Callable[[], object]


def ours(cohort: Cohort) -> Step:
    recipe = Recipe(images=10**9, batch=BATCH, save_every=BATCH)
    return Trainer(cohort, NetworkSettings(), recipe, cohort.schema, 0).step


def bare(fused: bool = True, channels_last: bool = True, compiled: bool = False) -> Step:
    """Forward, backward and update of the network on one fixed batch: no data, no noise, no average, no clipping."""
    torch.manual_seed(0)
    network = build_network(NetworkSettings())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=fused)
    x = torch.randn(BATCH, 12, 16, 16).contiguous(memory_format=layout)
    t, z = torch.rand(BATCH), torch.randn(BATCH, NetworkSettings().condition_width)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        forward(x, t, class_labels=z, return_dict=False)[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class Files(Dataset[dict[str, Tensor]]):
    """Images from disk by Pillow, as the examples' transforms read them: to tensor, mirrored at random, normalised."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        image = torch.from_numpy(np.asarray(Image.open(self.paths[i]).convert("RGB")).copy()).permute(2, 0, 1)
        image = image.float().div(255)
        return {"input": (image.flip(2) if torch.rand(()) < 0.5 else image).sub(0.5).div(0.5)}


def examples(folder: Path) -> Step:
    """The loop of diffusers' unconditional example, with its defaults: DDPM noise, plain AdamW, cosine schedule,
    clipping, EMAModel, a log of the loss at every step; on the same UNet in PyTorch's default layout."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    network: Any = build_network(NetworkSettings()).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True)
    loader = DataLoader(Files(folder), BATCH, shuffle=True, drop_last=True)
    accelerator, noises = Accelerator(), DDPMScheduler(1000, beta_schedule="linear")
    network, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
    z, logs, batches = torch.randn(BATCH, NetworkSettings().condition_width), [], iter(())

    def step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        clean = nn.functional.pixel_unshuffle(batch["input"], 2)
        noise, t = torch.randn_like(clean), torch.randint(0, 1000, (BATCH,))
        with accelerator.accumulate(network):
            predicted = network(noises.add_noise(clean, noise, t), t, class_labels=z).sample
            loss = nn.functional.mse_loss(predicted.float(), noise.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        average.step(network.parameters())
        logs.append({"loss": loss.detach().item(), "lr": schedule.get_last_lr()[0]})

    return step


def rates(steps: dict[str, Step], rounds: int, updates: int) -> dict[str, np.ndarray]:
    """Images per second of each loop, [rounds]; every loop warms up once, then they take turns."""
    for step in steps.values():
        step(), step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(updates):
                step()
            found[name].append(updates * BATCH / (time.perf_counter() - start))
    return {name: np.array(values) for name, values in found.items()}


def memory(batch: int) -> float:
    """GiB of a process that trains the patch64 preset, at its highest, after one update."""
    code = f"import engine; engine.train_once({batch})"
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def train_once(batch: int) -> None:
    cohort = phantom.cohort(0, 64, 200)
    recipe = Recipe(images=batch, batch=batch, save_every=batch)
    Trainer(cohort, preset("patch64").network, recipe, cohort.schema, 0).step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few updates, and memory at batch 2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/engine"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    rounds, updates = (2, 2) if given.quick else (9, 30)
    cohort = phantom.cohort(0, 32, 400)
    given.out.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(cohort.images[:]):
        Image.fromarray(image).save(given.out / f"{i:03d}.png")
    steps: dict[str, Step] = {
        "ours": ours(cohort),
        "bare": bare(),
        "example": examples(given.out),
        "plain AdamW": bare(fused=False),
        "default layout": bare(channels_last=False),
    }
    warm_up = 0.0
    if shutil.which("g++") and not given.quick:
        steps["compiled"] = bare(compiled=True)
        start = time.perf_counter()
        steps["compiled"]()
        warm_up = time.perf_counter() - start
    found = rates(steps, rounds, updates)
    n = rounds * updates
    figures = {
        "loop_over_bare": figure(found["ours"] / found["bare"], "", ">= 0.95", n, "bare forward, backward, update"),
        "loop_over_example": figure(found["ours"] / found["example"], "", ">= 1.3", n, "diffusers' example loop"),
        "images_per_second": figure(found["ours"], "images/s", None, n, f"{given.threads} thread(s), demo network"),
        "fused_adamw": figure(found["bare"] / found["plain AdamW"], "", None, n, "AdamW of PyTorch's default"),
        "channels_last": figure(found["bare"] / found["default layout"], "", None, n, "contiguous layout"),
    }
    if "compiled" in found:
        figures["compile"] = figure(found["compiled"] / found["bare"], "", None, n, "not compiled")
        figures["compile_warm_up"] = figure([warm_up], "s", None, 1, "first call")
    batch = 2 if given.quick else 64
    figures[f"memory_patch64_batch_{batch}"] = figure([memory(batch)], "GiB", "<= 6", 1, "the whole process")
    report("engine", figures, ("torch", "diffusers", "accelerate"))


if __name__ == "__main__":
    main()
