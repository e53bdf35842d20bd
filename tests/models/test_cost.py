"""What a network costs is counted without its weights."""

import pytest

from medi.cohort.schema import Schema
from medi.models.cost import gflop_per_image, weightless
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.training.presets import preset


@pytest.mark.slow
@pytest.mark.parametrize("parameterisation", ["edm", "ddpm"])
def test_shapes_alone_cost_what_the_network_costs(parameterisation, schema: Schema) -> None:
    settings = NetworkSettings(size=16, fold=2, channels=(8, 16), layers=1, parameterisation=parameterisation)
    counted, built = weightless(settings, schema), Denoiser(settings, schema)
    assert gflop_per_image(counted) == gflop_per_image(built) > 0
    sizes = [sum(weight.numel() for weight in made.parameters()) for made in (counted, built)]
    assert sizes[0] == sizes[1]
    assert {weight.device.type for weight in counted.parameters()} == {"meta"}


@pytest.mark.slow
def test_the_papers_network_is_counted_at_once(schema: Schema) -> None:
    """415 million parameters of 4 bytes are never made."""
    made = weightless(preset("paper").network, schema)
    assert sum(weight.numel() for weight in made.parameters()) > 4e8
    assert gflop_per_image(made) > 100
