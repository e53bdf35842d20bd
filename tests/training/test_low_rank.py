"""Low-rank changes: nothing at the start, few numbers, the same model once they are in the weights."""

import pytest
import torch

from medi.models.denoiser import Denoiser
from medi.training.adaptation.low_rank import RANK, changes_of, merged, weights_of, with_changes


@pytest.mark.slow
def test_changes_start_at_nothing_and_merge_into_plain_weights(denoiser: Denoiser) -> None:
    g = torch.Generator().manual_seed(0)
    x, sigma = torch.randn(4, 3, 8, 8, generator=g), torch.tensor([0.1, 0.5, 1.0, 5.0])
    z = torch.randn(4, denoiser.settings.condition_width, generator=g)
    made = with_changes(denoiser)
    assert torch.equal(made(x, sigma, z), denoiser(x, sigma, z))
    with torch.no_grad():
        for weight in weights_of(made):
            weight.add_(0.1 * torch.randn(weight.shape, generator=g))
    changed = made(x, sigma, z)
    assert not torch.allclose(changed, denoiser(x, sigma, z), atol=1e-2)
    plain = merged(made)
    torch.testing.assert_close(plain(x, sigma, z), changed, atol=1e-4, rtol=1e-4)
    assert plain.state_dict().keys() == denoiser.state_dict().keys()
    again = merged(with_changes(denoiser, changes_of(made)))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in plain.state_dict().items())


@pytest.mark.slow
def test_a_gradient_reaches_the_changes_alone(denoiser: Denoiser) -> None:
    """Each matrix has RANK rows or columns, and every layer of the network has its two."""
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    made = with_changes(denoiser)
    weights = weights_of(made)
    layers = [m for m in denoiser.network.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    assert len(weights) == 2 * len(layers)
    assert all(RANK in weight.shape[:2] for weight in weights)
    z = torch.ones(1, denoiser.settings.condition_width)
    made(torch.ones(1, 3, 8, 8), torch.ones(1), z).square().sum().backward()
    assert all(weight.requires_grad == ("lora_" in name) for name, weight in made.network.named_parameters())
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items()), "the base stays"
