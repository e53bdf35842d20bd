"""Named settings of network and training. PACKED is what `medi pack` wrote of a cohort with a hold-out; `--cls` makes
the baseline of the same preset. With G GPUs, `torchrun --nproc_per_node G -m medi.cli` stands in place of `medi`.

paper: Drexlin et al. as their code trains it (128 px; DDPM, noise prediction, no augmentation, no average of weights):
800,000 updates of 64 images, a cosine over the 3 M updates they planned. 415.0 M parameters; `denoiser.network` is a
stock UNet2DModel.
    medi train PACKED --preset paper --out paper
    medi sample paper PLAN --solver ddim_clipped --schedule leading --steps 100 --out samples
Published result: FID per cancer type, averaged, 37.73 (CLS 50.65). Not trained by us yet.

demo: the network of `medi demo`, 32 px, 1.1 M parameters, for two CPU cores.
    medi train PACKED --preset demo --out demo
    medi sample demo PLAN --steps 12 --out samples
Result on the phantom: benchmarks/results/study.json.

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

from medi.core.errors import MediError
from medi.models.network import NetworkSettings
from medi.training.recipe import Recipe

NO_AVERAGE = 1e9  # gamma of the power-function average whose memory is the last update


@dataclass(frozen=True)
class Preset:
    network: NetworkSettings
    recipe: Recipe


def preset(name: str) -> Preset:
    """The preset of this name; an unknown name is an error that lists the known ones."""
    if name not in PRESETS:
        raise MediError(f"preset {name!r} is unknown; known: {', '.join(PRESETS)}")
    return PRESETS[name]


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
    "demo": Preset(
        NetworkSettings(),
        Recipe(
            images=100_000,
            learning_rate=2e-3,
            warmup=4_000,
            balance=1.0,
            balance_over="nested",
            noise_mean=-1.2,
        ),
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
