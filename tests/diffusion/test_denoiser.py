"""Preconditioning against the equations of EDM, and the stock UNet that adds z to its time embedding."""

import pytest
import torch

from medi.diffusion.denoiser import SIGMA_DATA, Denoiser, NetworkSettings, build_network, loss_weight
from medi.errors import MediError


def test_fresh_denoiser_returns_c_skip_times_x(tiny, schema) -> None:
    """With F = 0, D(x, sigma, z) = sigma_data^2 / (sigma^2 + sigma_data^2) x (EDM, table 1)."""
    denoiser = Denoiser(tiny, schema)
    x, sigma = torch.randn(4, 3, 8, 8), torch.tensor([0.01, 0.5, 2.0, 40.0])
    expected = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
    result = denoiser(x, sigma, torch.randn(4, tiny.condition_width))
    torch.testing.assert_close(result, expected[:, None, None, None] * x)


def test_loss_weight_makes_every_noise_level_count_alike() -> None:
    """lambda * c_out^2 = 1 (EDM, equation 114 ff.)."""
    sigma = torch.logspace(-2, 2, 20)
    c_out = sigma * SIGMA_DATA / (sigma**2 + SIGMA_DATA**2).sqrt()
    torch.testing.assert_close(loss_weight(sigma) * c_out**2, torch.ones(20))


def test_small_noise_leaves_the_image(denoiser: Denoiser) -> None:
    x = torch.rand(2, 3, 8, 8) - 0.5
    result = denoiser(x, torch.full((2,), 1e-4), torch.randn(2, denoiser.settings.condition_width))
    torch.testing.assert_close(result, x, atol=1e-3, rtol=0)


def test_network_adds_z_to_the_time_embedding(tiny: NetworkSettings) -> None:
    """z_final = z_t + z_cond: shifting z equals shifting the bias of the time embedding's last layer."""
    network = build_network(tiny).eval()
    x, t, z = torch.randn(3, 12, 4, 4), torch.tensor([1.0, 50.0, -300.0]), torch.randn(3, tiny.condition_width)
    shift = torch.randn(tiny.condition_width)
    with torch.inference_mode():
        shifted = network(x, t, class_labels=z + shift).sample
        network.time_embedding.linear_2.bias += shift
        torch.testing.assert_close(network(x, t, class_labels=z).sample, shifted)


def test_config_rebuilds_the_same_denoiser(denoiser: Denoiser) -> None:
    twin = Denoiser.from_config(denoiser.config())
    twin.load_state_dict(denoiser.state_dict())
    x, sigma, z = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 3.0]), torch.randn(2, denoiser.settings.condition_width)
    assert torch.equal(twin.eval()(x, sigma, z), denoiser(x, sigma, z))
    assert twin.schema == denoiser.schema


@pytest.mark.parametrize(
    ("settings", "message"), [({"size": 30}, "no multiple of 8"), ({"channels": (12, 24)}, "multiples of 8")]
)
def test_impossible_networks_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(MediError, match=message):
        NetworkSettings(**settings)
