"""A network of the user's own, in twenty lines, trains, is saved, and is asked for by name; settings are checked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.registry import register, registry
from medi.models.checkpoint import load_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.sampler import SamplerSettings, draw, sample_images
from medi.training.loop import train
from medi.training.recipe import Recipe


class Shallow(nn.Module):
    """D(x, sigma, z) = x / (1 + sigma^2) + what one convolution makes of it and of z."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.color = nn.Linear(settings.condition_width, 3)

    def forward(self, x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        scaled = x / (1 + sigma[:, None, None, None] ** 2)
        return scaled + self.conv(scaled) + self.color(z)[:, :, None, None]


@pytest.fixture
def shallow() -> Iterator[str]:
    register("network", "shallow")(Shallow)
    yield "shallow"
    del registry("network").things["shallow"]


def test_a_registered_network_is_trained_and_samples(shallow: str, cohort: Cohort, tmp_path: Path) -> None:
    settings = NetworkSettings(size=8, channels=(8,), network=shallow)
    recipe = Recipe(images=64, batch=8, save_every=32, warmup=8)
    model = train(cohort, tmp_path, settings, recipe, cohort.schema, 0)
    denoiser, checkpoint = load_model(model)
    assert isinstance(denoiser.network, Shallow)
    assert checkpoint.network.network == "shallow"
    images = draw(denoiser, cohort.table.head(3), 0)
    assert images.shape == (3, 8, 8, 3)
    assert images.std() > 0
    with pytest.raises(MediError, match=r"another network\.network"):
        train(cohort, tmp_path, replace(settings, network="unet", fold=2), recipe, cohort.schema, 0)


class Product(Shallow):
    """Ends in a product, which is bf16 under autocast."""

    def forward(self, x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        return self.conv(x)


def test_images_come_out_where_a_network_ends_in_bf16(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, schema: Schema
) -> None:
    monkeypatch.setitem(registry("network").things, "product", Product)
    denoiser = Denoiser(NetworkSettings(size=8, channels=(8,), network="product"), schema)
    settings = SamplerSettings(steps=2, batch=3, precision="bf16")
    assert sample_images(denoiser, cohort.table.head(3), 0, settings).shape == (3, 8, 8, 3)


def test_a_checkpoint_says_which_network_it_needs(cohort: Cohort, tmp_path: Path) -> None:
    register("network", "passing")(Shallow)
    settings = NetworkSettings(size=8, channels=(8,), network="passing")
    model = train(cohort, tmp_path, settings, Recipe(images=8, batch=8, save_every=8), cohort.schema, 0)
    del registry("network").things["passing"]
    with pytest.raises(MediError, match=r"model\.safetensors: needs the network 'passing', .* medi\.register"):
        load_model(model)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parameterisation": "vpred"}, "parameterisation is 'vpred'; input should be 'edm' or 'ddpm'"),
        ({"join": "sum"}, "join is 'sum'; input should be 'concat', 'additive' or 'linear'"),
        ({"network": "nope"}, "network 'nope' is unknown"),
        ({"channels": (8, "wide")}, "channels.1 is 'wide'"),
        ({"widths": (8, 8)}, "unexpected keyword argument 'widths'; its settings are size, fold, channels"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_made(changed: dict, words: str) -> None:
    with pytest.raises(MediError, match=words):
        NetworkSettings(**changed)


@pytest.mark.slow
def test_building_a_model_leaves_the_callers_random_numbers(cohort: Cohort, tiny, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    model = train(cohort, tmp_path, tiny, Recipe(images=8, batch=8, save_every=8), cohort.schema, 0)
    draw(load_model(model)[0], cohort.table.head(1), 0)
    assert torch.equal(torch.randn(2), expected)


def test_sampler_settings_in_a_file_become_tuples() -> None:
    assert SamplerSettings(guidance={"weights": {"class": 1}, "interval": [0.1, 2]}).guidance.interval == (0.1, 2.0)
