"""Our UNet is diffusers' UNet2DModel, to the bit: names, first weights, output and gradients."""

from itertools import pairwise

import pytest
import torch

from common import stock_unet
from medi.models.network import NetworkSettings, build_unet
from medi.models.unet import waves

NARROW = {"size": 16, "channels": (8, 16)}
SETTINGS = [
    NetworkSettings(),
    NetworkSettings(**NARROW, layers=2, attention=(0, 1), head_dim=8),
    NetworkSettings(**NARROW, middle_attention=True, head_dim=16, time_shift="default"),
    NetworkSettings(**NARROW, middle_attention=True, head_dim=8, groups=4),
    NetworkSettings(size=16, fold=1, channels=(8, 16, 16, 24), layers=3, time_shift="default"),
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_names_first_weights_output_and_gradients_are_those_of_diffusers(settings: NetworkSettings) -> None:
    networks = []
    for build in (build_unet, stock_unet):
        torch.manual_seed(0)
        networks.append(build(settings).to(memory_format=torch.channels_last))
        networks.append(torch.rand(1))
    ours, ours_next, theirs, theirs_next = networks
    assert torch.equal(ours_next, theirs_next), "as many random numbers were drawn"
    weights, expected = list(ours.named_parameters()), list(theirs.named_parameters())
    assert [name for name, _ in weights] == [name for name, _ in expected]
    edge, n = settings.size // settings.fold, 3
    x = torch.randn(n, 3 * settings.fold**2, edge, edge).contiguous(memory_format=torch.channels_last)
    time, z = torch.tensor([-700.0, 0.5, 999.0]), torch.randn(n, settings.condition_width)
    found, wanted = ours(x, time, z), theirs(x, time, class_labels=z).sample
    assert torch.equal(found, wanted)
    for output in (found, wanted):
        output.square().mean().backward()
    for (name, weight), (_, other) in zip(weights, expected):
        assert torch.equal(weight, other), name
        assert torch.equal(weight.grad, other.grad), name


def test_waves_of_time_are_cosines_and_sines_an_equal_ratio_apart() -> None:
    found = waves(torch.tensor([2.0]), 8)[0]
    angles = torch.atan2(found[4:], found[:4])
    assert angles.tolist() == pytest.approx([2.0, 0.2, 0.02, 0.002], rel=1e-4)
    ratios = [b / a for a, b in pairwise(angles.tolist())]
    assert ratios == pytest.approx([0.1] * 3, rel=1e-4)
