"""The tiny autoencoder of FLUX.2's latents, to try latents with: 32 channels, 8 pixels a latent along each side.

Its weights (madebyollin/taesd, MIT) come from the user. The terms of the autoencoder whose latents they imitate have
not been checked, so that models on these latents are for trials and cannot be exported.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTH, CHANNELS, STRIDE = 64, 32, 8
BOUND = 3.0  # latents are bounded softly before they are decoded
Maps = Float[Tensor, "n c h w"]
Made = Float[Tensor, "n o v u"]  # maps of other channels and sides


class Block(nn.Module):
    """Three convolutions beside a shortcut; at the coarsest level an extra step of 1 x 1 convolutions before them."""

    def __init__(self, coarsest: bool = False) -> None:
        super().__init__()
        layers = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        inner = 4 * WIDTH
        self.pool = nn.Sequential(
            nn.Conv2d(WIDTH, inner, 1, bias=False),
            nn.GroupNorm(4, inner),
            nn.ReLU(),
            nn.Conv2d(inner, WIDTH, 1, bias=False),
        ) if coarsest else None  # fmt: skip

    def forward(self, x: Maps) -> Maps:
        x = x if self.pool is None else x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Clamp(nn.Module):
    """x bounded softly to [-BOUND, BOUND]."""

    def forward(self, x: Maps) -> Maps:
        return torch.tanh(x / BOUND) * BOUND


def _halved() -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)


def _doubled() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]


class Taef2(nn.Module):
    """Images in [-1, 1] to latents and back."""

    def __init__(self) -> None:
        super().__init__()
        threes = [[Block(coarsest=level == 2) for _ in range(3)] for level in range(3)]
        down = [layer for blocks in threes for layer in (_halved(), *blocks)]
        first, last = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, CHANNELS, 3, padding=1)
        self.encoder = nn.Sequential(first, Block(), *down, last)
        coarse = [[Block(coarsest=level == 0) for _ in range(3)] for level in range(3)]
        up = [layer for blocks in coarse for layer in (*blocks, *_doubled())]
        first, last = nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 3, 3, padding=1)
        self.decoder = nn.Sequential(Clamp(), first, nn.ReLU(), *up, Block(), last)

    def encode(self, images: Maps) -> Made:
        return self.encoder((images + 1) / 2)

    def decode(self, latents: Maps) -> Made:
        return self.decoder(latents) * 2 - 1
