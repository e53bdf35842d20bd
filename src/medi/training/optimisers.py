"""Which optimiser moves which weight."""

import torch
from torch import nn

from medi.models.denoiser import Denoiser
from medi.training.muon import Muon
from medi.training.recipe import Recipe


def optimizers(denoiser: Denoiser, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon for convolutions and attention between the network's ends, AdamW for the others,
    among them those that time and conditions pass through."""
    others: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    for name, weight in denoiser.named_parameters():
        outer = not name.startswith("network.") or any(part in name for part in ("conv_in.", "conv_out.", "time_emb"))
        (others if recipe.optimizer == "adamw" or outer or weight.ndim < 2 else matrices).append(weight)
    rate, decay = recipe.learning_rate, recipe.weight_decay
    adamw = torch.optim.AdamW(others, rate, betas=recipe.betas, weight_decay=decay, fused=True)
    return [adamw, Muon(matrices, rate, decay)] if matrices else [adamw]
