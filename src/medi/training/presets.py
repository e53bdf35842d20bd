"""Named settings of network and training. PACKED is what `medi pack` wrote of a cohort with a hold-out; `--cls` makes
the baseline of the same preset. With G GPUs, `torchrun --nproc_per_node G -m medi.cli` stands in place of `medi`.
A GPU holds 20 bytes a parameter. A network that is too large for one GPU is cut among all by `--shard-model`.

paper: Drexlin et al. as their code trains it (128 px; DDPM, noise prediction, no augmentation, no average of weights):
800,000 updates of 64 images, a cosine over the 3 M updates they planned. 415.0 M parameters, those of
diffusers' stock UNet2DModel.
    medi train PACKED --preset paper --out paper
    medi sample paper PLAN --solver ddim_clipped --schedule leading --steps 100 --out samples
Published result: FID per cancer type, averaged, 37.73 (CLS 50.65). Not trained by us yet.

demo: the network of `medi demo`, 32 px, 1.2 M parameters, for two CPU cores.
    medi train PACKED --preset demo --out demo
    medi sample demo PLAN --steps 12 --out samples
`medi demo` also guides its samples by a classifier. Result on the phantom: docs/results.md, "The demo, seed 0".

laptop32: network and training of `demo`, for patches of 32 px and two CPU cores. 60,000 images of 0.41 GFLOP.
    medi train PACKED --preset laptop32 --out model
About 8.1 minutes on two cores without bf16 units. Computed: LAPTOP says how. With bf16 units two models beside each
other, a core each, take 3.3 (`medi demo`).

laptop64: the same network with a level more, on 64 px, 1.7 M parameters; noise levels twice those of 32 px. 80,000
images of 1.5 GFLOP.
    medi train PACKED --preset laptop64 --out model
    medi sample model PLAN --sigma-max 80 --out samples
About 32 minutes on two cores without bf16 units. Computed, not waited for: LAPTOP says how. With bf16 units one model
takes 9.3 on one core (waited for once). docs/results.md has what the images are worth.

tiny: a few thousand parameters on 32 px, seconds. For examples and tests: its images are noise.

patch64: EDM, attention at 16 and 8 px, averaged weights, 64 px, 16.8 M parameters, for one GPU.
    medi train PACKED --preset patch64 --out patch64
    medi sample patch64 PLAN --out samples
Not trained yet. On a CPU or a small GPU add `--batch 64 --micro-batch 16`.

patch128: the same for 128 px, attention at 16 and 8 px, 92.0 M parameters, for one GPU or several.
    medi train PACKED --preset patch128 --out patch128
    medi sample patch128 PLAN --out samples
Not trained yet.

patch256: the same on images of 256 px, folded 4 x 4, 92.1 M parameters.
    medi train PACKED --preset patch256 --out patch256
    medi sample patch256 PLAN --out samples
Not trained yet.
"""

from dataclasses import dataclass

from medi.core.errors import MediError, did_you_mean
from medi.core.settings import validated
from medi.models.network import NetworkSettings
from medi.training.recipe import Recipe

NO_AVERAGE = 1e9  # gamma of the power-function average whose memory is the last update


LAPTOP = {  # images/s of one training on two cores of an AMD EPYC without bf16 units (AVX2), fp32, two threads
    "laptop32": 123,  # 98.4 in batches of 16, waited for once, times 1.25 in batches of 32, measured on another machine
    "laptop64": 41.2,  # 123 times .335, the ratio of both by CPU time on one thread, in fp32 (97.0 to 289.5)
}


@validated
@dataclass(frozen=True)
class Preset:
    """Network and recipe that belong together.

    >>> preset("tiny").network.size
    32
    """

    network: NetworkSettings
    recipe: Recipe


def preset(name: str) -> Preset:
    """The preset of this name; an unknown name is an error that lists the known ones."""
    if name not in PRESETS:
        raise MediError(f"preset {name!r} is unknown; known: {', '.join(PRESETS)}{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def _laptop(size: int, channels: tuple[int, ...], noise_mean: float, images: int) -> Preset:
    """Attention at the two coarsest levels, of 8 x 8 and 4 x 4 places."""
    levels = len(channels)
    attention = (levels - 2, levels - 1)
    network = NetworkSettings(size, channels=channels, attention=attention, slices="half", preconditioning="blocks")
    recipe = Recipe(
        images=images,
        batch=32,
        learning_rate=3e-3,
        warmup=4_000,
        optimizer="muon",
        balance=1.0,
        balance_over="nested",
        noise_mean=noise_mean,
    )
    return Preset(network, recipe)


def _gpu(network: NetworkSettings, images: int, batch: int) -> Preset:
    recipe = Recipe(
        images=images,
        batch=batch,
        learning_rate=4e-4,
        warmup=100_000,
        noise_mean=-0.8,
        dropout=0.1,
        betas=(0.9, 0.99),
        save_every=batch * 2_000,
        keep=4,
        sheets=True,
    )
    return Preset(network, recipe)


PRESETS = {
    "paper": Preset(
        NetworkSettings(
            size=128,
            fold=1,
            channels=(128, 256, 512, 512, 1024, 1024),
            layers=2,
            middle_attention=True,
            head_dim=8,
            groups=32,
            time_shift="default",
            parameterisation="ddpm",
        ),
        Recipe(
            images=800_000 * 64,
            batch=64,
            learning_rate=1e-4,
            warmup=30_000 * 64,
            schedule="cosine",
            horizon=3_000_000 * 64,
            weight_decay=1e-6,
            betas=(0.95, 0.999),
            balance=1.0,
            balance_over="class",
            noise="ddpm",
            dihedral=False,
            ema_gamma=NO_AVERAGE,
            save_every=10_000 * 64,
        ),
    ),
    "demo": _laptop(32, (32, 64, 64), -0.6, 60_000),
    "laptop32": _laptop(32, (32, 64, 64), -0.6, 60_000),
    "laptop64": _laptop(64, (32, 64, 64, 64), 0.1, 80_000),  # -0.6 + ln 2: here 2 sigma hides what sigma does
    "tiny": Preset(
        NetworkSettings(32, 4, (8, 8)), Recipe(images=256, batch=16, save_every=256, warmup=64, precision="fp32")
    ),
    "patch64": _gpu(
        NetworkSettings(64, 2, (64, 128, 256), 2, attention=(1, 2), middle_attention=True, groups=32), 20_000_000, 256
    ),
    "patch128": _gpu(
        NetworkSettings(128, 2, (128, 256, 384, 512), 2, attention=(2, 3), middle_attention=True, groups=32),
        40_000_000,
        256,
    ),
    "patch256": _gpu(
        NetworkSettings(256, 4, (128, 256, 384, 512), 2, attention=(2, 3), middle_attention=True, groups=32),
        40_000_000,
        256,
    ),
}
