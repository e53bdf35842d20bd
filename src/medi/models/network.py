"""What a network is made of, and the UNet that medi brings; others are added by name (`medi.register`).

A registered network is called with NetworkSettings and gives a module D(x, sigma, z) -> image, all [n, 3, h, w]: x is
image + sigma * noise, sigma [n] are the noise levels, z [n, condition_width] the conditions.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medi.core.errors import MediError
from medi.core.registry import Registry, registry
from medi.core.settings import validated
from medi.models.conditioning import Join, Slices

UNET = "unet"


def build_unet(settings: "NetworkSettings") -> nn.Module:
    """A stock UNet2DModel in channels-last layout; `class_embed_type="identity"` adds z to the time embedding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    attends = [level in settings.attention for level in range(len(settings.channels))]
    network = UNet2DModel(
        sample_size=settings.size // settings.fold,
        in_channels=3 * settings.fold**2,
        out_channels=3 * settings.fold**2,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in attends[::-1]),
        resnet_time_scale_shift=settings.time_shift,
        norm_num_groups=settings.groups,
        add_attention=settings.middle_attention,
        attention_head_dim=settings.head_dim,
        class_embed_type="identity",
    )
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_in_fp32)
    return network.to(memory_format=torch.channels_last)


def _in_fp32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Autocast leaves this norm in bf16 on a CPU, less exact and three times slower; on a GPU it does the same."""
    return tuple(value.float() for value in inputs)


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
    network: "unet", or the name of a registered one, which may use the other fields as it likes.

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
    network: str = UNET

    def __post_init__(self) -> None:
        NETWORKS[self.network]  # refuses an unknown name
        if self.network == UNET:
            self._check_unet()

    def _check_unet(self) -> None:
        step = self.fold * 2 ** (len(self.channels) - 1)
        if self.size % step:
            raise MediError(
                f"image size {self.size} is no multiple of {step} (fold {self.fold}, {len(self.channels)} levels)"
            )
        if any(width % self.groups for width in self.channels):
            raise MediError(f"channels {list(self.channels)} must be multiples of {self.groups}")
        depth = len(self.channels)
        if unknown := [level for level in self.attention if not 0 <= level < depth]:
            raise MediError(f"attention at level {unknown[0]}: the network has the levels 0 to {depth - 1}")
        attended = {self.channels[level] for level in (*self.attention, *[depth - 1] * self.middle_attention)}
        if odd := [width for width in attended if width % self.head_dim]:
            raise MediError(f"attention over {odd[0]} channels needs a head_dim that divides them, not {self.head_dim}")

    @property
    def condition_width(self) -> int:
        return 4 * self.channels[0]
