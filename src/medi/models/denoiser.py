"""The one denoiser contract: D(x, sigma, z) estimates the clean image from x = image + sigma * noise.

Inside is a UNet that adds z to its embedding of time, used in one of two ways: `edm`, preconditioning and
noise weighting of Karras et al. (NeurIPS 2022, table 1, column "Ours"), or `ddpm`, noise prediction at 1000 linear
steps as the paper trains it. Loss, sampler and guidance know nothing but D.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medi.cohort.schema import Schema, SchemaEntry
from medi.models.blocks import Blocks
from medi.models.conditioning import Conditioning
from medi.models.network import NETWORKS, UNET, NetworkSettings
from medi.models.noise import DDPM_STEPS, SIGMA_DATA, ddpm_sigmas, loss_weight
from medi.models.space import PixelSpace, Space

TIME_SCALE = 250.0  # natural logarithm of sigma -> the time steps that sinusoidal embeddings expect


class DenoiserEntry(TypedDict):
    """Network and schema in the header of a model file."""

    network: Mapping[str, Any]
    schema: SchemaEntry


class Denoiser(nn.Module):
    """D(x, sigma, z), with F the UNet and `conditioning` to turn codes into z:

    edm: D = c_skip x + c_out F(c_in x, c_noise, z); ddpm: D = x - sigma F(x / sqrt(1 + sigma^2), t(sigma), z).
    With blocks: edm for each principal component of blocks of pixels, with its own spread in place of SIGMA_DATA.
    A registered network is D itself. space: what its images are, pixels unless another one is given.
    """

    def __init__(self, settings: NetworkSettings, schema: Schema, space: Space | None = None) -> None:
        super().__init__()
        self.settings, self.schema, self._is_compiled = settings, schema, False
        self.space: Space = space or PixelSpace()
        self.conditioning = Conditioning(schema, settings.condition_width, settings.join, settings.slices)
        self.network = NETWORKS[settings.network](settings)
        in_blocks = settings.network == UNET and settings.preconditioning == "blocks"
        self.blocks = Blocks(settings.shape[0], settings.fold) if in_blocks else None
        self.register_buffer("ddpm_log_sigmas", torch.from_numpy(ddpm_sigmas()).float().log(), persistent=False)
        if settings.network == UNET and settings.parameterisation == "edm":
            for parameter in self.network.get_submodule("conv_out").parameters():
                nn.init.zeros_(parameter)  # D starts as c_skip x

    def forward(
        self, x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n c h w"]:
        if self.settings.network != UNET:
            return self.network(x, sigma, z).to(x.dtype)  # under autocast its last product is bf16
        s = sigma[:, None, None, None]
        if self.settings.parameterisation == "ddpm":
            return x - s * self._network(x / (1 + s**2).sqrt(), self.ddpm_time(sigma), z)
        time = TIME_SCALE * sigma.log()
        if self.blocks is None:
            return _edm(self._network, x, s, time, z, SIGMA_DATA)
        spreads = self.blocks.spreads[:, None, None]
        return self.blocks.join(_edm(self._folded, self.blocks.split(x), s, time, z, spreads))

    def _network(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n c h w"]:
        outer = self._folded(functional.pixel_unshuffle(x, self.settings.fold), time, z)
        return functional.pixel_shuffle(outer, self.settings.fold)

    def _folded(
        self, x: Float[Tensor, "n k y x"], time: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n k y x"]:
        return self.network(x.contiguous(memory_format=torch.channels_last), time, z).float()

    def ddpm_time(self, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The DDPM step of a noise level, 0 to 999, linear in ln sigma between steps."""
        table = self.get_buffer("ddpm_log_sigmas")
        wanted = sigma.log().clamp(table[0], table[-1])
        upper = torch.searchsorted(table, wanted).clamp(1, DDPM_STEPS - 1)
        below = table[upper - 1]
        return upper - 1 + (wanted - below) / (table[upper] - below)

    def loss_weight(self, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Weight of |D - image|^2: EDM's lambda, or 1 / sigma^2, which makes it DDPM's plain error of the noise."""
        return sigma**-2 if self.settings.parameterisation == "ddpm" else loss_weight(sigma)

    def compile_once(self) -> None:
        """torch.compile for batches of one size; the work is done at the next evaluation, once in each process."""
        if not self._is_compiled:
            self.compile(dynamic=False)
            self._is_compiled = True

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def config(self) -> DenoiserEntry:
        """Network and schema as plain data."""
        return {"network": asdict(self.settings), "schema": self.schema.to_dict()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Denoiser":
        """A fresh denoiser of this network and schema."""
        network = NetworkSettings(**{name: _frozen(value) for name, value in config["network"].items()})
        return cls(network, Schema.from_dict(config["schema"]))


def _edm(
    network: Callable[..., Tensor],
    x: Float[Tensor, "n k y x"],
    sigma: Float[Tensor, "n 1 1 1"],
    time: Float[Tensor, " n"],
    z: Float[Tensor, "n d"],
    spread: float | Float[Tensor, "k 1 1"],
) -> Float[Tensor, "n k y x"]:
    """c_skip x + c_out F(c_in x) for data of this standard deviation (Karras et al. 2022, table 1)."""
    total = (sigma**2 + spread**2).sqrt()
    return (spread / total) ** 2 * x + sigma * spread / total * network(x / total, time, z)


def _frozen(value: Any) -> Any:
    """A list of a JSON file as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value
