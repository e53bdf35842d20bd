"""The one denoiser contract: D(x, sigma, z) estimates the clean image from x = image + sigma * noise.

Preconditioning and noise weighting of EDM (Karras et al., NeurIPS 2022, table 1, column "Ours") around a diffusers
UNet2DModel that adds z to its time embedding. Loss, sampler and guidance know nothing but D.
"""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medi.cohort.schema import Schema
from medi.diffusion.conditioning import Conditioning
from medi.errors import MediError

SIGMA_DATA = 0.5  # assumed standard deviation of images in [-1, 1]
TIME_SCALE = 250.0  # natural logarithm of sigma -> the time steps that sinusoidal embeddings expect


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the UNet: `channels` per level, `layers` residual blocks a level, on images of `size` pixels folded
    by `fold` (fold x fold pixels become channels). z_t and z_cond have 4 * channels[0] numbers.
    """

    size: int = 32
    fold: int = 2
    channels: tuple[int, ...] = (32, 64, 64)
    layers: int = 1

    def __post_init__(self) -> None:
        step = self.fold * 2 ** (len(self.channels) - 1)
        if self.size % step:
            raise MediError(
                f"image size {self.size} is no multiple of {step} (fold {self.fold}, {len(self.channels)} levels)"
            )
        if any(width % 8 for width in self.channels):
            raise MediError(f"channels {list(self.channels)} must be multiples of 8")

    @property
    def condition_width(self) -> int:
        return 4 * self.channels[0]


class Denoiser(nn.Module):
    """D(x, sigma, z) = c_skip x + c_out F(c_in x, c_noise, z); `conditioning` turns codes into z."""

    def __init__(self, settings: NetworkSettings, schema: Schema) -> None:
        super().__init__()
        self.settings, self.schema = settings, schema
        self.conditioning = Conditioning(schema, settings.condition_width)
        self.network = build_network(settings)
        for parameter in self.network.get_submodule("conv_out").parameters():
            nn.init.zeros_(parameter)  # D starts as c_skip x

    def forward(
        self, x: Float[Tensor, "n 3 h w"], sigma: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n 3 h w"]:
        s = sigma[:, None, None, None]
        total = (s**2 + SIGMA_DATA**2).sqrt()
        inner = functional.pixel_unshuffle(x / total, self.settings.fold).contiguous(memory_format=torch.channels_last)
        outer = self.network(inner, TIME_SCALE * sigma.log(), class_labels=z, return_dict=False)[0].float()
        residual = functional.pixel_shuffle(outer, self.settings.fold)
        return (SIGMA_DATA / total) ** 2 * x + s * SIGMA_DATA / total * residual

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def config(self) -> dict[str, Any]:
        return {"network": asdict(self.settings), "schema": self.schema.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Denoiser":
        network = config["network"] | {"channels": tuple(config["network"]["channels"])}
        return cls(NetworkSettings(**network), Schema.from_dict(config["schema"]))


def build_network(settings: NetworkSettings) -> nn.Module:
    """A stock UNet2DModel in channels-last layout; `class_embed_type="identity"` adds z to the time embedding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    depth = len(settings.channels)
    network = UNet2DModel(
        sample_size=settings.size // settings.fold,
        in_channels=3 * settings.fold**2,
        out_channels=3 * settings.fold**2,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=8,
        add_attention=False,
        class_embed_type="identity",
    )
    return network.to(memory_format=torch.channels_last)


def loss_weight(sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: unit loss at initialisation for every sigma."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
