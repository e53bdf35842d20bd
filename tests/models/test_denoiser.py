"""Preconditioning against the equations of EDM, and the UNet that adds z to its embedding of time."""

from dataclasses import replace

import pytest
import torch

from later import Later
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings, build_unet
from medi.models.noise import SIGMA_DATA, ddpm_sigmas, loss_weight

diffusers = Later("diffusers")
SIGMAS = torch.from_numpy(ddpm_sigmas()).float()


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
    network = build_unet(tiny).eval()
    x, t, z = torch.randn(3, 12, 4, 4), torch.tensor([1.0, 50.0, -300.0]), torch.randn(3, tiny.condition_width)
    shift = torch.randn(tiny.condition_width)
    with torch.inference_mode():
        shifted = network(x, t, z + shift)
        network.time_embedding.linear_2.bias += shift
        torch.testing.assert_close(network(x, t, z), shifted)


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


@pytest.fixture
def ddpm(tiny: NetworkSettings, schema) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(replace(tiny, parameterisation="ddpm"), schema).eval()


def test_ddpm_steps_are_those_of_diffusers(ddpm: Denoiser) -> None:
    kept = diffusers.DDPMScheduler(1000, 1e-4, 0.02, "linear").alphas_cumprod
    torch.testing.assert_close(SIGMAS, ((1 - kept) / kept).sqrt(), rtol=1e-4, atol=0)
    steps = torch.arange(1000)
    torch.testing.assert_close(ddpm.ddpm_time(SIGMAS), steps.float(), rtol=0, atol=1e-2)
    between = (SIGMAS[400] * SIGMAS[401]).sqrt()
    assert ddpm.ddpm_time(between[None]).item() == pytest.approx(400.5, abs=1e-2)
    assert ddpm.ddpm_time(torch.tensor([1e-5, 1e5])).tolist() == [0.0, 999.0]


def test_ddpm_predicts_the_noise_of_the_scaled_image(ddpm: Denoiser) -> None:
    """x_t = sqrt(alpha_bar) image + sqrt(1 - alpha_bar) noise is what the network sees, with the step's number."""
    scheduler = diffusers.DDPMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=False)
    image, noise, step = torch.rand(3, 3, 8, 8) - 0.5, torch.randn(3, 3, 8, 8), torch.tensor([5, 300, 950])
    z, sigma = torch.randn(3, ddpm.settings.condition_width), SIGMAS[step]
    scaled = scheduler.add_noise(image, noise, step)
    folded = torch.nn.functional.pixel_unshuffle(scaled, 2)
    with torch.inference_mode():
        predicted = torch.nn.functional.pixel_shuffle(ddpm.network(folded, step, z), 2)
        ours = ddpm(image + sigma[:, None, None, None] * noise, sigma, z)
    kept = scheduler.alphas_cumprod[step][:, None, None, None]
    torch.testing.assert_close(ours, (scaled - (1 - kept).sqrt() * predicted) / kept.sqrt(), rtol=1e-2, atol=2e-2)
    plain = (predicted - noise).square().mean(dim=(1, 2, 3))
    weighted = ddpm.loss_weight(sigma) * (ours - image).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(weighted, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"attention": (3,)}, "levels 0 to 2"), ({"middle_attention": True, "head_dim": 48}, "needs a head_dim")],
)
def test_impossible_attention_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(MediError, match=message):
        NetworkSettings(**settings)


def test_attention_stands_where_it_was_asked_for() -> None:
    network = build_unet(NetworkSettings(8, 1, (8, 16, 16), 1, attention=(1,), middle_attention=True, head_dim=8))
    names = {name.rsplit(".attentions", 1)[0] for name, _ in network.named_modules() if ".attentions." in name}
    assert names == {"down_blocks.1", "mid_block", "up_blocks.1"}
    found = [module.head_dim for name, module in network.named_modules() if name.endswith("attentions.0")]
    assert found == [8, 8, 8]


@pytest.mark.parametrize("fold", [4, 8])
def test_a_fold_is_undone(fold: int, schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: with a network that gives back what it sees, D is EDM's formula on pixels, whatever the fold."""
    denoiser = Denoiser(NetworkSettings(size=16, fold=fold, channels=(8, 8), layers=1), schema)
    seen = []
    monkeypatch.setattr(denoiser.network, "forward", lambda x, time, z: seen.append(tuple(x.shape)) or x)
    x, sigma = torch.randn(2, 3, 16, 16), torch.tensor([0.3, 2.0])
    found, s = denoiser(x, sigma, torch.zeros(2, 32)), sigma[:, None, None, None]
    total = (s**2 + SIGMA_DATA**2).sqrt()
    torch.testing.assert_close(found, (SIGMA_DATA / total) ** 2 * x + s * SIGMA_DATA / total * x / total)
    assert seen == [(2, 3 * fold**2, 16 // fold, 16 // fold)]
