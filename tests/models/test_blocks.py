"""Blocks of pixels as principal components, each preconditioned with its own spread."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from medi.cohort.pixels import to_float
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.blocks import LEAST
from medi.models.checkpoint import load_model, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NETWORKS, NetworkSettings
from medi.training.recipe import Recipe
from medi.training.trainer import Trainer, fresh_denoiser


@pytest.fixture
def in_blocks(tiny: NetworkSettings) -> NetworkSettings:
    return replace(tiny, preconditioning="blocks")


def rows_of(images: torch.Tensor, fold: int) -> np.ndarray:
    """[n, c, h, w] as one row of c * fold^2 numbers for each block."""
    return functional.pixel_unshuffle(images, fold).permute(0, 2, 3, 1).flatten(0, 2).detach().double().numpy()


def test_a_fresh_denoiser_is_the_best_linear_one(in_blocks, schema) -> None:
    """With F = 0, D is the Wiener filter of blocks: C (C + sigma^2 I)^-1 x, with C = E[b b^T] of the patches."""
    images = torch.randn(400, 3, 8, 8) * torch.linspace(0.05, 0.6, 8) + 0.2 * torch.randn(400, 1, 1, 8)
    denoiser = Denoiser(in_blocks, schema)
    denoiser.blocks.fit(images)
    rows = rows_of(images, in_blocks.fold)
    second = rows.T @ rows / len(rows)
    x = torch.randn(3, 3, 8, 8)
    for sigma in (0.01, 0.2, 3.0):
        made = denoiser(x, torch.full((3,), sigma), torch.randn(3, in_blocks.condition_width))
        best = rows_of(x, in_blocks.fold) @ np.linalg.solve(second + sigma**2 * np.eye(len(second)), second)
        np.testing.assert_allclose(rows_of(made, in_blocks.fold), best, atol=2e-5)


def test_before_any_patch_was_seen_pixels_are_components(denoiser: Denoiser) -> None:
    """The same weights give the same D as without blocks."""
    twin = Denoiser(replace(denoiser.settings, preconditioning="blocks"), denoiser.schema)
    twin.load_state_dict(denoiser.state_dict(), strict=False)
    x, sigma, z = torch.randn(2, 3, 8, 8), torch.tensor([0.05, 2.0]), torch.randn(2, denoiser.settings.condition_width)
    torch.testing.assert_close(twin(x, sigma, z), denoiser(x, sigma, z))


def test_training_takes_the_components_of_its_patches_alike_for_both_models(cohort: Cohort, in_blocks) -> None:
    made = [
        Trainer(cohort, in_blocks, Recipe(images=8, batch=4), schema, 3).averaged().blocks
        for schema in (cohort.schema, cohort.schema.restrict([]))
    ]
    rows = rows_of(torch.from_numpy(to_float(cohort.images[:])), in_blocks.fold)
    powers = np.linalg.svd(rows, compute_uv=False)[::-1] ** 2 / len(rows)
    np.testing.assert_allclose(made[0].spreads, np.sqrt(powers).clip(LEAST), rtol=1e-4)
    assert torch.equal(made[0].components, made[1].components)
    assert torch.equal(made[0].spreads, made[1].spreads)


def test_constant_patches_have_spreads_that_divide(in_blocks, schema) -> None:
    """White patches vary in nothing: a spread of 0 would be a division by 0 at the end of sampling."""
    blocks = Denoiser(in_blocks, schema).blocks.fit(torch.ones(5, 3, 8, 8))
    assert blocks.spreads.min() == pytest.approx(LEAST)
    assert blocks.spreads.max() == pytest.approx(np.sqrt(3 * in_blocks.fold**2))


def test_a_model_file_keeps_them_and_first_weights_bring_theirs(in_blocks, schema, tmp_path) -> None:
    denoiser = Denoiser(in_blocks, schema)
    denoiser.blocks.fit(torch.rand(50, 3, 8, 8))
    path = save_model(tmp_path / "model.safetensors", denoiser)
    loaded, _ = load_model(path)
    begun = fresh_denoiser(in_blocks, schema, 1, str(path))
    for other in (loaded, begun):
        assert torch.equal(other.blocks.components, denoiser.blocks.components)
        assert torch.equal(other.blocks.spreads, denoiser.blocks.spreads)


def test_a_registered_network_has_none(in_blocks, schema, monkeypatch) -> None:
    """It is D itself and sees pixels, whatever the setting says."""
    monkeypatch.setitem(NETWORKS.things, "itself", lambda settings: torch.nn.Identity())
    assert Denoiser(replace(in_blocks, network="itself"), schema).blocks is None


def test_an_image_does_not_depend_on_its_neighbours_p3(in_blocks, schema) -> None:
    """P3: bit for bit, at any place in a batch of any size, by one thread and by two."""
    blocks, x = Denoiser(in_blocks, schema).blocks, torch.randn(64, 3, 8, 8)
    blocks.fit(x)
    parts, before = blocks.split(x), torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in (1, 7, 64):
                assert torch.equal(torch.cat([blocks.split(some) for some in x.split(size)]), parts)
                assert torch.equal(torch.cat([blocks.join(some) for some in parts.split(size)]), blocks.join(parts))
    finally:
        torch.set_num_threads(before)


def test_bf16_products_leave_components_and_images_in_full_precision(in_blocks, schema) -> None:
    """The same bits as without autocast; D differs by what the network's products round, as it does without blocks."""
    x, sigma = torch.randn(16, 3, 8, 8), torch.full((16,), 0.4)
    z, denoiser = torch.randn(16, in_blocks.condition_width), Denoiser(in_blocks, schema)
    blocks = denoiser.blocks.fit(x)
    parts = blocks.split(x)
    joined, exact = blocks.join(parts), denoiser(x, sigma, z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blocks.split(x), parts)
        assert torch.equal(blocks.join(parts), joined)
        torch.testing.assert_close(denoiser(x, sigma, z), exact)  # F = 0 at first: nothing is left to round


def test_noise_prediction_has_no_spread(in_blocks) -> None:
    with pytest.raises(MediError, match="preconditioning blocks is for parameterisation edm"):
        replace(in_blocks, parameterisation="ddpm")
