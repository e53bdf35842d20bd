"""Named settings of network, training and sampler.

paper: Drexlin et al. as their code trains it (128 px; DDPM, noise prediction, no augmentation, no average of weights):
800,000 updates of 64 images, a cosine over the 3 M updates they planned, DDIM with 100 steps. Published result: FID per
cancer type, averaged, 37.73 (CLS 50.65). 415.0 M parameters; `denoiser.network` is a stock UNet2DModel.

demo: the network of `medi demo`, two CPU cores; its results are in the README.

patch64, patch128, patch256: EDM, attention where images are small, averaged weights, for one GPU or several. No result
is known yet.

Command, for each: `medi train PACKED --holdout HOLDOUT --preset NAME --out MODEL`.
"""

from dataclasses import dataclass

from medi.diffusion.denoiser import NetworkSettings
from medi.diffusion.training import Recipe
from medi.errors import MediError

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
            images=66_000,
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
