"""What the training loop costs beside the network's own work, and beside the loop of diffusers' examples.

python benchmarks/engine.py [--quick] [--threads 1]

All loops train the same UNet, that of `medi demo`, on the same number of images. Rates are images per second of the
process's CPU time, which is wall time on one thread of a quiet machine; loops take turns, and ratios are medians over
rounds. The bare loop is forward, backward and update of the loss on one fixed batch, "unet" that of the UNet's output
alone. What each ingredient of ours pays is the rate of "unet" with it over that without it, all others in place. The
last line is one JSON object.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common import figure, report, stock_unet
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.devices import in_bf16
from medi.models.network import build_unet
from medi.training.loop import train
from medi.training.presets import Preset, preset
from medi.training.trainer import Trainer

DEMO = preset("demo")
PIXELS = replace(DEMO, network=replace(DEMO.network, preconditioning="pixels"))
BATCH = DEMO.recipe.batch
BF16 = in_bf16(DEMO.recipe.precision)  # what training takes here by itself
APART = ("example", "given back")  # what runs in a process of its own
Step = Callable[[], object]


def trainer(cohort: Cohort, chosen: Preset = DEMO, batch: int = BATCH) -> Trainer:
    """A preset's trainer with the demo's batch. Its step is an update as `train` makes it, but for log and states."""
    recipe = replace(chosen.recipe, images=10**9, batch=batch, save_every=batch)
    return Trainer(cohort, chosen.network, recipe, cohort.schema, 0)


def whole(cohort: Cohort, updates: int, batch: int = BATCH) -> float:
    """Images per second of `train` from its first update to the finished model: states, log and all."""
    images = batch * (updates + 1)
    recipe = replace(DEMO.recipe, images=images, batch=batch, save_every=images)
    began: list[float] = []

    def progress(images: int, total: int) -> None:
        if not began:
            began.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        train(cohort, Path(folder), DEMO.network, recipe, cohort.schema, 0, progress=progress)
    return updates * batch / (time.process_time() - began[0])


def bare(cohort: Cohort, chosen: Preset = DEMO, batch: int = BATCH) -> Step:
    """Forward and backward of the loss and the update, on one fixed batch: no data, no clipping, no average, no log."""
    made = trainer(cohort, chosen, batch)
    fixed = made.batches(np.arange(batch), made.accelerator.device)

    def step() -> None:
        made.accelerator.backward(made.loss_of(fixed))
        for optimizer in made.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def unet(
    bf16: bool = BF16, fused: bool = True, channels_last: bool = True, compiled: bool = False, batch: int = BATCH
) -> Step:
    """Forward and backward of the UNet alone, towards the square of its output, and the update."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build_unet(DEMO.network).to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=fused)
    x = torch.randn(batch, 12, 16, 16).contiguous(memory_format=layout)
    t, z = torch.rand(batch), torch.randn(batch, DEMO.network.condition_width)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = forward(x, t, z)
        found.float().square().mean().backward()
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


def examples(folder: Path, size: int = BATCH) -> Step:
    """The loop of diffusers' unconditional example, with its defaults: fp32, DDPM noise, plain AdamW, cosine schedule,
    clipping, EMAModel, a log of the loss at every step; on diffusers' own UNet in PyTorch's default layout."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    network: Any = stock_unet(DEMO.network)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True)
    loader = DataLoader(Files(folder), size, shuffle=True, drop_last=True)
    accelerator, noises = Accelerator(mixed_precision="no"), DDPMScheduler(1000, beta_schedule="linear")
    network, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
    z, logs, batches = torch.randn(size, DEMO.network.condition_width), [], iter(())

    def step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        clean = nn.functional.pixel_unshuffle(batch["input"], DEMO.network.fold)
        noise, t = torch.randn_like(clean), torch.randint(0, 1000, (size,))
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


def rates(steps: dict[str, Step], rounds: int, updates: int, batch: int) -> dict[str, np.ndarray]:
    """Images per second of each loop, [rounds]; every loop warms up once, then they take turns."""
    for step in steps.values():
        step(), step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(updates):
                step()
            found[name].append(updates * batch / (time.process_time() - start))
    return {name: np.array(values) for name, values in found.items()}


def alone(name: str, rounds: int, updates: int, threads: int, patches: int, batch: int) -> list[float]:
    """The rates of a loop that must not gain from what ours sets up for its process: see `apart`."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(phantom.cohort(0, DEMO.network.size, patches).images[:]):
            Image.fromarray(image).save(Path(folder) / f"{i:03d}.png")
        step = examples(Path(folder), batch) if name == "example" else unet(batch=batch)
        return rates({name: step}, rounds, updates, batch)[name].tolist()


def apart(call: str, here: bool) -> Any:
    """What a function of this file gives in a process of its own, as JSON; `here`: in this one."""
    if here:
        return eval(call)
    code, folder = f"import json, engine; print(json.dumps(engine.{call}))", Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@cache
def larger(patches: int) -> Cohort:
    """Patches of 64 px."""
    return phantom.cohort(0, 64, patches)


def train_twice(name: str, batch: int, patches: int) -> float:
    """GiB of the process after two updates of a preset: moments of the optimiser beside activations."""
    chosen, cohort = preset(name), larger(patches)
    recipe = replace(chosen.recipe, images=2 * batch, batch=batch, save_every=batch)
    made = Trainer(cohort, chosen.network, recipe, cohort.schema, 0)
    made.step(), made.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def compiled() -> tuple[Step, float]:
    """The UNet's loop under torch.compile, and the seconds of its first update."""
    step = unet(compiled=True)
    start = time.perf_counter()
    step()
    return step, time.perf_counter() - start


@dataclass(frozen=True)
class Budget:
    """How much is measured; `large` is the batch of a `larger` preset, `memory` that whose memory is looked at."""

    turns: int = 3
    rounds: int = 3
    updates: int = 15
    whole: int = 300
    batch: int = BATCH
    larger: str = "patch64"
    large_rounds: int = 4
    large: int = BATCH
    memory: int = 64
    patches: int = 400
    patches64: int = 100
    here: bool = False  # nothing in a process of its own


QUICK = Budget(1, 1, 1, 2, 2, "laptop64", large_rounds=1, large=1, memory=1, patches=32, patches64=32, here=True)


def in_turns(steps: dict[str, Step], budget: Budget, threads: int) -> dict[str, np.ndarray]:
    """Images per second of each loop, [turns * rounds]: those of this process, then those that need their own."""
    found = rates(steps, 0, budget.updates, budget.batch)
    for _ in range(budget.turns):
        new = rates(steps, budget.rounds, budget.updates, budget.batch)
        for name in APART:
            sizes = (budget.rounds, budget.updates, threads, budget.patches, budget.batch)
            call = f"alone({name!r}, {', '.join(map(str, sizes))})"
            new[name] = np.array(apart(call, budget.here))
        found = {name: np.append(found.get(name, ()), values) for name, values in new.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an update of each, small batches, in one process")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    budget = QUICK if given.quick else Budget()
    cohort, warm_up = phantom.cohort(0, DEMO.network.size, budget.patches), 0.0
    batch = budget.batch
    steps: dict[str, Step] = {
        "ours": trainer(cohort, batch=batch).step,
        "pixels": trainer(cohort, PIXELS, batch).step,
        "bare": bare(cohort, batch=batch),
        "unet": unet(batch=batch),
        "fp32": unet(bf16=False, batch=batch),
        "plain AdamW": unet(fused=False, batch=batch),
        "default layout": unet(channels_last=False, batch=batch),
    }
    if shutil.which("g++") and not given.quick:
        steps["compiled"], warm_up = compiled()
    found = in_turns(steps, budget, given.threads)
    n = budget.turns * budget.rounds * budget.updates
    place = f"{given.threads} thread(s), demo network, {'bf16' if BF16 else 'fp32'}"
    trained = whole(cohort, budget.whole, batch)
    patches, chosen, size = larger(budget.patches64), preset(budget.larger), budget.large
    both = {"ours": trainer(patches, chosen, size).step, "bare": bare(patches, chosen, size)}
    large = rates(both, budget.large_rounds, 1, size)

    def over(one: str, other: str, target: str | None, against: str) -> dict[str, Any]:
        ratios = found[one] / found[other]
        return figure(ratios, "", target, n, against) | {"value": round(float(np.median(ratios)), 4)}

    figures = {
        "loop_over_bare": over("ours", "bare", ">= 0.95", "forward, backward and update of the same loss"),
        f"loop_over_bare_{budget.larger}": figure(
            large["ours"] / large["bare"],
            "",
            ">= 0.95",
            len(large["bare"]),
            f"the same with {budget.larger}, batch {size}",
        ),
        "loop_over_unet": over("ours", "unet", None, "the UNet alone: neither conditioning nor loss"),
        "training_over_bare": figure(trained / found["bare"], "", None, budget.whole, "with log, state and model too"),
        "loop_over_example": over("ours", "example", ">= 1.3", "diffusers' example loop, fp32, images from PNG files"),
        "images_per_second": figure(found["ours"], "images/s", None, n, place),
        "example_images_per_second": figure(found["example"], "images/s", None, n, "diffusers' example loop"),
        "loop_with_blocks_over_pixels": over("ours", "pixels", None, "preconditioning: pixels"),
        "pays_kept_memory": over("unet", "given back", None, "glibc's defaults"),
        "pays_bf16": over("unet", "fp32", None, "fp32"),
        "pays_fused_adamw": over("unet", "plain AdamW", None, "AdamW of PyTorch's default"),
        "pays_channels_last": over("unet", "default layout", None, "contiguous layout"),
    }
    if "compiled" in found:
        figures["pays_compile"] = over("compiled", "unet", None, "not compiled")
        figures["compile_warm_up"] = figure([warm_up], "s", None, 1, "first update")
    memory = apart(f"train_twice({budget.larger!r}, {budget.memory}, {budget.patches64})", budget.here)
    figures[f"memory_{budget.larger}_batch_{budget.memory}"] = figure([memory], "GiB", "<= 6", 2, "the whole process")
    report("engine", figures, ("torch", "diffusers", "accelerate"))


if __name__ == "__main__":
    main()
