"""What a network is made of, and the UNet that medi brings; others are added by name (`medi.register`).

A registered network is called with NetworkSettings and gives a module D(x, sigma, z) -> image, all [n, *shape]: x is
image + sigma * noise, sigma [n] are the noise levels, z [n, condition_width] the conditions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from medi.core.errors import MediError
from medi.core.registry import Registry, registry
from medi.core.settings import validated
from medi.models.conditioning import Join, Slices
from medi.models.unet import UNet

UNET = "unet"


def build_unet(settings: "NetworkSettings") -> nn.Module:
    """Our UNet on folded images, in channels-last layout."""
    network = UNet(
        channels=settings.shape[0] * settings.fold**2,
        widths=settings.channels,
        layers=settings.layers,
        attention=settings.attention,
        middle_attention=settings.middle_attention,
        head_dim=settings.head_dim,
        groups=settings.groups,
        scales=settings.time_shift == "scale_shift",
    )
    return network.to(memory_format=torch.channels_last)


NETWORKS: Registry[Callable[["NetworkSettings"], nn.Module]] = registry("network").fill({UNET: build_unet})


@validated
@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network: `channels` per level, `layers` residual blocks a level, on images of `size` pixels folded
    by `fold` (fold x fold pixels become channels). z_t and z_cond have 4 * channels[0] numbers.

    attention: levels with self-attention, 0 the finest; middle_attention: at the coarsest, between down and up;
    head_dim: channels of a head. groups: of the normalisation. time_shift: whether z shifts activations ("default") or
    scales them as well. join: how embeddings become z_cond; slices: whether class and attributes have equal shares of
    it, or the class half. parameterisation: what the UNet predicts (`Denoiser`).
    preconditioning: whether edm scales all pixels alike, or each principal component of the training patches' blocks by
    its own spread (`medi.models.blocks`).
    network: "unet", or the name of a registered one, which may use the other fields as it likes.
    latent_channels, latent_stride: of an autoencoder whose latents are denoised in place of pixels; set by training.

    >>> NetworkSettings(size=64, channels=(32, 64)).condition_width
    128
    >>> NetworkSettings(parameterisation="vpred")
    Traceback (most recent call last):
    medi.core.errors.MediError: NetworkSettings: parameterisation is 'vpred'; input should be 'edm' or 'ddpm'
    """

    size: int = 32
    fold: int = 2
    channels: tuple[int, ...] = (32, 64, 64)
    layers: int = 1
    attention: tuple[int, ...] = ()
    middle_attention: bool = False
    head_dim: int = 64
    groups: int = 8
    time_shift: Literal["default", "scale_shift"] = "scale_shift"
    join: Join = "concat"
    slices: Slices = "equal"
    parameterisation: Literal["edm", "ddpm"] = "edm"
    preconditioning: Literal["pixels", "blocks"] = "pixels"
    network: str = UNET
    latent_channels: int = 0
    latent_stride: int = 1

    def __post_init__(self) -> None:
        NETWORKS[self.network]  # refuses an unknown name
        if self.network == UNET:
            self._check_unet()

    def _check_unet(self) -> None:
        if self.size % self.step:
            stride = f", {self.latent_stride} px a latent" if self.latent_channels else ""
            why = f"fold {self.fold}, {len(self.channels)} levels{stride}"
            raise MediError(f"image size {self.size} is no multiple of {self.step} ({why})")
        if self.preconditioning == "blocks" and self.parameterisation != "edm":
            raise MediError("preconditioning blocks is for parameterisation edm; noise prediction knows no spread")
        if any(width % self.groups for width in self.channels):
            raise MediError(f"channels {list(self.channels)} must be multiples of {self.groups}")
        depth = len(self.channels)
        if unknown := [level for level in self.attention if not 0 <= level < depth]:
            raise MediError(f"attention at level {unknown[0]}: the network has the levels 0 to {depth - 1}")
        attended = {self.channels[level] for level in (*self.attention, *[depth - 1] * self.middle_attention)}
        if odd := [width for width in attended if width % self.head_dim]:
            raise MediError(f"attention over {odd[0]} channels needs a head_dim that divides them, not {self.head_dim}")

    @property
    def step(self) -> int:
        """The side of an image must be a multiple of so many pixels, as the UNet folds it and halves it at each level.

        >>> NetworkSettings(size=64, fold=2, channels=(32, 64, 64)).step
        8
        """
        return self.latent_stride * self.fold * 2 ** (len(self.channels) - 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """What is denoised: channels, height and width of pixels or of latents."""
        side = self.size // self.latent_stride
        return (self.latent_channels or 3, side, side)

    def on_latents(self, channels: int, stride: int) -> "NetworkSettings":
        """The same network on latents, which are not folded: they are small and have many channels already.

        >>> NetworkSettings(size=256, fold=4).on_latents(32, 8).shape
        (32, 32, 32)
        """
        return replace(self, fold=1, latent_channels=channels, latent_stride=stride)

    @property
    def condition_width(self) -> int:
        return 4 * self.channels[0]
