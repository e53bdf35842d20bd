"""The loss of denoising."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medi.models.denoiser import Denoiser
from medi.training.data import Batch


class DenoisingLoss(nn.Module):
    """lambda(sigma) |D(image + sigma noise, sigma, z) - image|^2, averaged (EDM, equation 8)."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        places = [list(batch.codes).index(condition.name) for condition in self.denoiser.schema.conditions]
        dropped = torch.stack([batch.dropped[:, i] for i in places], dim=1)  # no index from the CPU: see Recorded
        z = self.denoiser.conditioning(batch.codes, dropped)
        noisy = batch.images + batch.sigma[:, None, None, None] * batch.noise
        error = (self.denoiser(noisy, batch.sigma, z) - batch.images).square().mean(dim=(1, 2, 3))
        return (self.denoiser.loss_weight(batch.sigma) * error).mean()
