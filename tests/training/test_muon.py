"""Muon against torch.optim.Muon, a singular value decomposition, and itself on the matrix that a convolution is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medi.cohort.table import Cohort
from medi.models.denoiser import Denoiser
from medi.training.muon import Muon, orthogonal
from medi.training.optimisers import optimizers
from medi.training.recipe import Recipe
from medi.training.trainer import Trainer

SHAPES = [(24, 90), (90, 24), (32, 32)]


def moved(made: type[torch.optim.Optimizer], start: list[torch.Tensor], updates: int = 4, **settings) -> list:
    """The weights after updates with the same made-up gradients."""
    weights = [nn.Parameter(value.clone()) for value in start]
    optimizer = made(weights, lr=0.02, weight_decay=0.1, **settings)
    generator = torch.Generator().manual_seed(3)
    for _ in range(updates):
        for weight in weights:
            flat = torch.randn(weight.flatten(1).shape, generator=generator)
            weight.grad = flat.view_as(weight).contiguous(
                memory_format=torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            )
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_keeps_directions_and_evens_their_lengths(shape: tuple[int, int]) -> None:
    """Against U V^T of a matrix whose singular values go from 1 to 0.02."""
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    matrix = u @ torch.diag(torch.logspace(0, -1.7, min(shape))) @ v
    found = orthogonal(torch.stack([matrix, 1e-3 * matrix]))
    lengths = torch.linalg.svdvals(found[0])
    assert 0.6 < lengths.min() < lengths.max() < 1.25
    assert torch.trace(found[0].T @ u @ v) / min(shape) > 0.75
    torch.testing.assert_close(found[0] @ (u @ v).T, (u @ v) @ found[0].T, atol=1e-3, rtol=0)  # the same directions
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=0)


def test_nothing_to_learn_is_no_move() -> None:
    assert not orthogonal(torch.zeros(1, 4, 6)).any()


def test_it_moves_as_torchs_own_does() -> None:
    """To the rounding of bf16, in which that one works."""
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in SHAPES]
    ours, theirs = moved(Muon, start), moved(torch.optim.Muon, start, adjust_lr_fn="match_rms_adamw")
    for one, other, before in zip(ours, theirs, start):
        assert (one - other).norm() < 0.02 * (other - before).norm()


def test_a_convolution_is_a_matrix() -> None:
    kernel = torch.randn(8, 5, 3, 3, generator=torch.Generator().manual_seed(2))
    flat, last = kernel.flatten(1), kernel.contiguous(memory_format=torch.channels_last)
    as_matrix, as_kernel, as_last = (moved(Muon, [start])[0].flatten(1) for start in (flat, kernel, last))
    torch.testing.assert_close(as_kernel, as_matrix)
    torch.testing.assert_close(as_last, as_matrix)


def test_every_weight_has_one_optimizer(cohort: Cohort, tiny) -> None:
    """Muon has convolutions and attention; the network's ends, vectors and all embeddings are AdamW's."""
    denoiser = Denoiser(tiny, cohort.schema)
    names = {weight: name for name, weight in denoiser.named_parameters()}
    (alone,) = optimizers(denoiser, Recipe())
    assert {names[weight] for weight in alone.param_groups[0]["params"]} == set(names.values())
    adamw, muon = (
        {names[weight] for weight in made.param_groups[0]["params"]}
        for made in optimizers(denoiser, Recipe(optimizer="muon"))
    )
    assert adamw | muon == set(names.values())
    assert not adamw & muon
    assert {"network.conv_in.weight", "network.conv_out.weight", "network.mid_block.resnets.0.conv1.bias"} <= adamw
    assert {"network.mid_block.resnets.0.conv1.weight", "network.down_blocks.0.resnets.0.conv2.weight"} <= muon
    assert not any(name.startswith("conditioning.") or "time_emb" in name for name in muon)


@pytest.mark.slow
def test_the_learning_rate_reaches_both(cohort: Cohort, tiny) -> None:
    """At a rate of zero nothing moves; both follow the recipe's schedule."""
    still = Recipe(images=16, batch=8, save_every=8, optimizer="muon", learning_rate=0.0, weight_decay=0.0)
    trainer = Trainer(cohort, tiny, still, cohort.schema, 0)
    before = [weight.detach().clone() for weight in trainer.weights]
    trainer.step()
    assert all(torch.equal(weight, kept) for weight, kept in zip(trainer.weights, before))
    moving = Trainer(cohort, tiny, replace(still, learning_rate=1e-3), cohort.schema, 0)
    before = {name: weight.detach().clone() for name, weight in moving.denoiser.named_parameters()}
    for _ in range(2):  # conv_out is zero at first, so that what comes before it has no gradient in the first update
        moving.step()
    after = dict(moving.denoiser.named_parameters())
    for name in ("network.conv_out.weight", "network.mid_block.resnets.0.conv1.weight"):  # AdamW's and Muon's
        assert not torch.equal(after[name], before[name])
