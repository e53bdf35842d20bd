"""A frozen autoencoder of a few weights, 16-px patches, and a model trained on its latents for four updates."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.models.network import NetworkSettings
from medi.training.loop import train
from medi.training.recipe import Recipe
from tiny_model import SCHEMA
from tiny_model import cohort as pixels_cohort

SIZE, NETWORK = 16, NetworkSettings(size=16, fold=2, channels=(8, 8), layers=1)
LATENT = {
    "dihedral": False,
    "images": 32,
    "batch": 8,
    "save_every": 16,
    "warmup": 8,
    "dropout": 0.1,
    "precision": "fp32",
    "least_psnr": 0.0,
}


def write_autoencoder(folder: Path, kind: str = "AutoencoderTiny", seed: int = 0) -> str:
    """An autoencoder of diffusers with random weights, 2 pixels a latent; returns its name for a recipe."""
    import diffusers

    blocks = {"block_out_channels": (4, 4), "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 2}
    made = {
        "AutoencoderTiny": {
            "encoder_block_out_channels": (4, 4),
            "decoder_block_out_channels": (4, 4),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
            "latent_channels": 5,
        },
        "AutoencoderKL": {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "mid_block_add_attention": False,
            "shift_factor": 0.1,
            **blocks,
        },
        "AutoencoderDC": {
            "latent_channels": 8,
            "attention_head_dim": 4,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "encoder_qkv_multiscales": ((), ()),
            "decoder_qkv_multiscales": ((), ()),
            "scaling_factor": 0.5,
        },
    }[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        getattr(diffusers, kind)(**made).save_pretrained(folder, safe_serialization=True)
    return f"diffusers:{folder}"


def patches(n: int = 24) -> Cohort:
    """Smooth patches of 16 px: a tint and a ramp each."""
    table = pixels_cohort.__wrapped__().table.head(n)
    rng = seeds.generator("latent patches")
    tint, ramp = rng.uniform(60, 200, (n, 1, 1, 3)), rng.uniform(-40, 40, (n, 2, 1, 1))
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    images = tint + (ramp[:, 0] * y + ramp[:, 1] * x)[..., None]
    return Cohort(table, SCHEMA, Pixels.of(images.clip(0, 255).astype(np.uint8)))


@pytest.fixture(scope="session")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_autoencoder(tmp_path_factory.mktemp("autoencoder") / "tiny")


@pytest.fixture(scope="session")
def latent_model(autoencoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that was trained on latents, with class and site dropped now and then."""
    recipe = Recipe(**LATENT, autoencoder=autoencoder)
    return train(patches(), tmp_path_factory.mktemp("latent") / "model", NETWORK, recipe, SCHEMA, 0)
