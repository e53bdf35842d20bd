"""Presets: the paper's network is the stock one to the last weight, and every preset can be built."""

import warnings

import numpy as np
import pytest
import torch

from medi.cohort.schema import Attribute, Schema
from medi.core.errors import MediError
from medi.models.conditioning import Conditioning, as_tensors
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings, build_unet
from medi.study.settings import embedded_study
from medi.training.presets import PRESETS, preset

SCHEMA = Schema(Attribute("class", levels=("LUAD", "LUSC")), (Attribute("site", levels=("NA", "02")),))


def stock(**changed: object) -> torch.nn.Module:
    """The paper's UNet, written down from the authors' description."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    settings = {"sample_size": 128, "layers_per_block": 2, "block_out_channels": (128, 256, 512, 512, 1024, 1024)}
    depth = len(settings["block_out_channels"])
    blocks = {"down_block_types": ("DownBlock2D",) * depth, "up_block_types": ("UpBlock2D",) * depth}
    return UNet2DModel(**(settings | blocks | changed), class_embed_type="identity")


@pytest.mark.slow
def test_paper_has_415_million_parameters_and_the_stock_names() -> None:
    with torch.device("meta"):
        denoiser, unet = Denoiser(preset("paper").network, SCHEMA), stock()
    count = sum(parameter.numel() for parameter in denoiser.parameters())
    assert round(count / 1e6, 1) == 415.0
    unet.load_state_dict(denoiser.network.state_dict(), strict=True, assign=True)
    assert denoiser.conditioning.widths == (256, 256)


@pytest.mark.slow
def test_concat_forward_is_the_stock_forward_to_the_bit() -> None:
    """The paper's wiring, narrow: z = concat(class, site) given to a stock UNet2DModel as class_labels."""
    torch.manual_seed(0)
    settings = NetworkSettings(32, 1, (32, 32, 64), 2, (), True, 8, 32, "default", parameterisation="ddpm")
    network = build_unet(settings).eval()
    unet = stock(
        sample_size=32,
        block_out_channels=(32, 32, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    ).eval()
    unet.load_state_dict(network.state_dict(), strict=True)
    unet = unet.to(memory_format=torch.channels_last)
    conditioning = Conditioning(SCHEMA, 128)
    codes = as_tensors({"class": np.array([0, 1]), "site": np.array([1, -1])})
    tables = [embedding.table.weight for embedding in conditioning.embeddings]
    by_hand = torch.stack([torch.cat([tables[0][0], tables[1][1]]), torch.cat([tables[0][1], tables[1][2]])])
    x, t = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.tensor([10, 700])
    with torch.inference_mode():
        ours = network(x, t, conditioning(codes))
        theirs = unet(x, t, class_labels=by_hand).sample
    assert (ours - theirs).abs().max() == 0.0


def test_paper_recipe_is_the_authors_schedule() -> None:
    recipe = preset("paper").recipe
    assert recipe.images == 51_200_000
    assert recipe.rate(64 * 30_000) == pytest.approx(1e-4, rel=1e-3), "after 1 % of 3 M updates"
    assert recipe.rate(64 * 1_515_000) == pytest.approx(0.5e-4, rel=1e-3), "half way down the cosine"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_their_own_rules(name: str) -> None:
    with torch.device("meta"):
        denoiser = Denoiser(preset(name).network, SCHEMA)
    assert denoiser.settings.size in (32, 64, 128, 256)


def test_demo_preset_is_the_demo() -> None:
    study = embedded_study()
    assert preset("demo").network == study.network
    assert preset("demo").recipe == study.training


def test_unknown_preset_names_the_known() -> None:
    with pytest.raises(MediError, match="known: paper, demo, laptop32, laptop64"):
        preset("large")
