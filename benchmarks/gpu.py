"""Training and sampling on a GPU: images/s, memory and utilisation of presets and studies, against a plain loop.

python benchmarks/gpu.py [--presets paper patch64 patch128 patch256] [--seconds 20]
    [--skip compile sampling] [--quick]

Ours is `Trainer.step` with the recipe of the preset, or of a study of that name (bf16, channels-last, fused AdamW):
eager, as a recorded CUDA graph, which is what training takes, and recorded under torch.compile; in micro-batches, which
are never recorded, where a batch does not fit. The plain loop trains the same network on the same batch as the paper's
authors ran it: fp16 autocast with a gradient scaler, contiguous layout, AdamW and the cosine as they come, clipping,
images drawn from the GPU's own memory. Sampling: the published DDIM-100 for `paper`, 16 steps of DPM-Solver++(2M) for
ours, in fp32 and in bf16, against diffusers' own scheduler with 100 steps around the plain network in fp16.
Attention: the share of its gradient that is finite where all scores are far below 0, by the kernel that torch chooses
and by those that training allows; cuDNN's gave NaN on an H100.

Without a GPU it says so and measures nothing. --skip leaves out what takes minutes: torch.compile, and sampling
with the paper's 100 steps. --quick runs the same code on tiny networks, on a CPU too. The last line is one JSON object.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from common import figure, report, stock_unet
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.devices import device
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.study.settings import find_study
from medi.training.log import utilisation
from medi.training.presets import PRESETS, Preset
from medi.training.trainer import ATTENTION, Trainer

SCHEMA = Schema(
    Attribute("class", levels=("LUAD", "LUSC")), (Attribute("site", levels=tuple(f"s{i}" for i in range(8))),)
)
PAPER = SamplerSettings(steps=100, solver="ddim_clipped", schedule="leading", batch=64)
OURS = SamplerSettings(batch=64)
HALF = torch.float16 if torch.cuda.is_available() else torch.bfloat16  # CPUs have no fast fp16
Step = Callable[[], object]


def named(name: str) -> Preset:
    """A preset, or network and training of a study that medi brings."""
    if name in PRESETS:
        return PRESETS[name]
    study = find_study(Path(name))
    return Preset(study.network, study.training)


def tiny(found: Preset) -> Preset:
    """The same preset around a network of a few thousand parameters."""
    network = replace(found.network, size=16, fold=2, channels=(8, 8), layers=1, attention=(), head_dim=8, groups=8)
    return Preset(network, replace(found.recipe, batch=4, images=400, save_every=4, early_average=0))


def patches(size: int, n: int = 256) -> Cohort:
    """Random pixels: their content costs nothing."""
    rng = seeds.generator("gpu benchmark")
    table = pd.DataFrame({"sample_id": [f"p{i}" for i in range(n)], "patient": "p", "slide": "s", "noise_id": range(n)})
    columns = {a.name: [a.levels[i % len(a.levels)] for i in range(n)] for a in SCHEMA.conditions}
    return Cohort(table.assign(**columns), SCHEMA, Pixels.of(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)))


def plain(chosen: Preset, cohort: Cohort) -> Step:
    """The published loop: see the module's text."""
    where, recipe, settings = device(), chosen.recipe, chosen.network
    network = stock_unet(settings).to(where)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1_000_000)
    scaler = torch.amp.GradScaler(where.type)
    images = torch.from_numpy(np.ascontiguousarray(cohort.images[:].transpose(0, 3, 1, 2))).to(where)
    betas = torch.linspace(1e-4, 0.02, 1000, device=where)
    kept = torch.cumprod(1 - betas, dim=0)

    def step() -> None:
        drawn = images[torch.randint(len(images), (recipe.batch,), device=where)].float() / 127.5 - 1
        clean = nn.functional.pixel_unshuffle(drawn, settings.fold)
        t, noise = torch.randint(1000, (len(clean),), device=where), torch.randn_like(clean)
        share = kept[t][:, None, None, None]
        z = torch.randn(len(clean), settings.condition_width, device=where)
        with torch.autocast(where.type, HALF):
            predicted = network(share.sqrt() * clean + (1 - share).sqrt() * noise, t, class_labels=z).sample
        scaler.scale(nn.functional.mse_loss(predicted.float(), noise)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()

    return step


class Eager(Trainer):
    """A trainer that launches its kernels one by one."""

    is_recordable = False


def ours(chosen: Preset, cohort: Cohort, kind: str) -> tuple[Step, Trainer]:
    """An update with the largest micro-batch that fits: eager, recorded or compiled."""
    size, made = chosen.recipe.batch, Eager if kind == "eager" else Trainer
    while True:
        recipe = replace(chosen.recipe, micro_batch=size, compile=kind == "compiled", images=10**12)
        trainer = made(cohort, chosen.network, recipe, SCHEMA, 0)
        try:
            trainer.step()
        except torch.OutOfMemoryError:
            del trainer
            torch.cuda.empty_cache()
            size //= 2
            if not size:
                raise
        else:
            return trainer.step, trainer


@dataclass(frozen=True)
class Measured:
    """Images per second, a number per repeat, and the highest memory of the GPU in GiB (0 on a CPU)."""

    rates: list[float]
    gib: float


def measure(step: Step, images: int, seconds: float, repeats: int = 3) -> Measured:
    """A step twice to warm up, then as often as `seconds` allow, in so many repeats; the GPU is waited for."""
    _wait(), step(), step(), _wait()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    rates = []
    for _ in range(repeats):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / repeats:
            step()
            count += 1
            if count % 5 == 0:
                _wait()
        _wait()
        rates.append(count * images / (time.perf_counter() - start))
    return Measured(rates, torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def training(name: str, chosen: Preset, seconds: float, compiled: bool) -> dict[str, Any]:
    cohort, found = patches(chosen.network.size), {}
    step = plain(chosen, cohort)
    found["plain"] = measure(step, chosen.recipe.batch, seconds)
    del step
    gflop = 0.0
    for kind in ("eager", "recorded", "compiled")[: 2 + compiled]:
        step, trainer = ours(chosen, cohort, kind)
        gflop = gflop or trainer.gflop_per_image()
        found[kind] = measure(step, chosen.recipe.batch, seconds)
        del step, trainer
    best = max((kind for kind in found if kind != "plain"), key=lambda kind: np.mean(found[kind].rates))
    used = [utilisation(rate * gflop) or 0.0 for rate in found[best].rates]
    against = f"the plain fp16 loop; ours is the quickest of its kinds: {best}"
    ratio = np.array(found[best].rates) / np.array(found["plain"].rates)
    figures = {"over_plain": figure(ratio, "", ">= 2", len(ratio), against)}
    figures["utilisation"] = figure(
        used, "", ">= 0.40" if chosen.network.size == 128 else None, len(used), f"dense bf16 rate; {gflop:.1f} GFLOP"
    )
    for kind, measured in found.items():
        place = f"{kind}, batch {chosen.recipe.batch}"
        figures[f"{kind}_images_per_second"] = figure(measured.rates, "images/s", None, len(measured.rates), place)
        figures[f"{kind}_memory"] = figure([measured.gib], "GiB", None, 1, place)
    return {f"training_{name}_{key}": value for key, value in figures.items()}


def sampling(name: str, chosen: Preset, seconds: float, quick: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    denoiser = Denoiser(chosen.network, SCHEMA).eval().to(device())
    settings = PAPER if chosen.network.parameterisation == "ddpm" else OURS
    settings = replace(settings, batch=2, steps=4) if quick else settings
    rows, found = patches(chosen.network.size, settings.batch).table, {}
    for precision in ("fp32", "bf16"):
        asked = replace(settings, precision=precision)
        found[precision] = measure(lambda: sample_images(denoiser, rows, 0, asked), settings.batch, seconds)  # noqa: B023
    found["plain"] = measure(published(denoiser, settings.batch, 4 if quick else 100), settings.batch, seconds)
    figures = {}
    for kind, measured in found.items():
        place = f"batch {settings.batch}, " + ("DDIM-100 of diffusers, fp16" if kind == "plain" else str(settings))
        figures[f"{kind}_images_per_second"] = figure(measured.rates, "images/s", None, len(measured.rates), place)
        figures[f"{kind}_memory"] = figure([measured.gib], "GiB", None, 1, place)
    for kind in ("fp32", "bf16"):
        ratio = np.array(found[kind].rates) / np.array(found["plain"].rates)
        figures[f"{kind}_over_plain"] = figure(ratio, "", None, len(ratio), "DDIM-100 of diffusers around fp16")
    return {f"sampling_{name}_{key}": value for key, value in figures.items()}


def published(denoiser: Denoiser, batch: int, steps: int) -> Step:
    """DDIM by diffusers' scheduler around its own UNet, contiguous, fp16 autocast."""
    from diffusers import DDIMScheduler

    settings, where = denoiser.settings, device()
    network = stock_unet(settings).eval().to(where)
    scheduler = DDIMScheduler(1000, beta_schedule="linear")
    scheduler.set_timesteps(steps)
    edge, channels = settings.size // settings.fold, 3 * settings.fold**2
    z = torch.randn(batch, settings.condition_width, device=where)

    @torch.inference_mode()
    def step() -> None:
        x = torch.randn(batch, channels, edge, edge, device=where)
        for t in scheduler.timesteps:
            with torch.autocast(where.type, HALF):
                predicted = network(x, t, class_labels=z).sample
            x = scheduler.step(predicted.float(), t, x).prev_sample
        x.cpu()

    return step


def attention() -> dict[str, Any]:
    """The share of finite numbers in the gradient of attention whose scores are all near -960 / sqrt(64), in bf16."""
    shares = {}
    for name, context in (("default", nullcontext()), ("allowed", sdpa_kernel(ATTENTION))):
        torch.manual_seed(0)
        q, k, v = (0.1 * torch.randn(64, 3, 64, 64, device=device()) for _ in range(3))
        q[..., 0], k[..., 0] = 1.0, -960.0
        q, k, v = (part.bfloat16().requires_grad_() for part in (q, k, v))
        with context:
            functional.scaled_dot_product_attention(q, k, v).sum().backward()
        assert q.grad is not None
        share = float(q.grad.isfinite().float().mean())
        shares[f"attention_finite_{name}"] = figure([share], "", ">= 1", q.numel(), "share of the gradient, bf16")
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["paper", "patch64", "patch128", "patch256"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--skip", nargs="+", choices=("compile", "sampling"), default=(), help="what takes minutes")
    parser.add_argument("--quick", action="store_true", help="tiny networks, on a CPU too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if not (given.quick or torch.cuda.is_available()):
        print("skipped: this machine has no GPU that torch can use; --quick runs the code on a CPU")
        return
    figures: dict[str, Any] = attention()
    seconds = 0.1 if given.quick else given.seconds
    for name in given.presets:
        chosen = tiny(named(name)) if given.quick else named(name)
        figures |= training(name, chosen, seconds, compiled=not (given.quick or "compile" in given.skip))
        if "sampling" not in given.skip:
            figures |= sampling(name, chosen, seconds, given.quick)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    figures |= {"gpu": figure([torch.cuda.device_count()], card, None, 1, "torch " + torch.__version__)}
    report("gpu", figures, ("torch", "diffusers", "accelerate"))


if __name__ == "__main__":
    try:
        main()
    except MediError as error:
        raise SystemExit(f"gpu.py: {error}") from None
