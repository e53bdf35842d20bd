"""The one denoiser contract: D(x, sigma, z) estimates the clean image from x = image + sigma * noise.

Inside is a diffusers UNet2DModel that adds z to its time embedding, used in one of two ways: `edm`, preconditioning and
noise weighting of Karras et al. (NeurIPS 2022, table 1, column "Ours"), or `ddpm`, noise prediction at 1000 linear
steps as the paper trains it. Loss, sampler and guidance know nothing but D.
"""

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medi.cohort.schema import Schema
from medi.core.errors import MediError
from medi.models.conditioning import Conditioning, Join

SIGMA_DATA = 0.5  # assumed standard deviation of images in [-1, 1]
TIME_SCALE = 250.0  # natural logarithm of sigma -> the time steps that sinusoidal embeddings expect
DDPM_STEPS, DDPM_BETAS = 1000, (1e-4, 0.02)  # linear (Ho et al., NeurIPS 2020, section 4)
Precision = Literal["auto", "bf16", "fp32"]  # of convolutions and matrix products


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the UNet: `channels` per level, `layers` residual blocks a level, on images of `size` pixels folded
    by `fold` (fold x fold pixels become channels). z_t and z_cond have 4 * channels[0] numbers.

    attention: levels with self-attention, 0 the finest; middle_attention: at the coarsest, between down and up;
    head_dim: channels of a head. groups: of the normalisation. time_shift: whether z shifts activations ("default") or
    scales them as well. join: how embeddings become z_cond. parameterisation: what the network predicts (see above).
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
    parameterisation: Literal["edm", "ddpm"] = "edm"

    def __post_init__(self) -> None:
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


class Denoiser(nn.Module):
    """D(x, sigma, z), with F the network and `conditioning` to turn codes into z:

    edm: D = c_skip x + c_out F(c_in x, c_noise, z); ddpm: D = x - sigma F(x / sqrt(1 + sigma^2), t(sigma), z).
    """

    def __init__(self, settings: NetworkSettings, schema: Schema) -> None:
        super().__init__()
        self.settings, self.schema, self._is_compiled = settings, schema, False
        self.conditioning = Conditioning(schema, settings.condition_width, settings.join)
        self.network = build_network(settings)
        self.register_buffer("ddpm_log_sigmas", ddpm_sigmas().log(), persistent=False)
        if settings.parameterisation == "edm":
            for parameter in self.network.get_submodule("conv_out").parameters():
                nn.init.zeros_(parameter)  # D starts as c_skip x

    def forward(
        self, x: Float[Tensor, "n 3 h w"], sigma: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n 3 h w"]:
        s = sigma[:, None, None, None]
        if self.settings.parameterisation == "ddpm":
            return x - s * self._network(x / (1 + s**2).sqrt(), self.ddpm_time(sigma), z)
        total = (s**2 + SIGMA_DATA**2).sqrt()
        residual = self._network(x / total, TIME_SCALE * sigma.log(), z)
        return (SIGMA_DATA / total) ** 2 * x + s * SIGMA_DATA / total * residual

    def _network(
        self, x: Float[Tensor, "n 3 h w"], time: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n 3 h w"]:
        inner = functional.pixel_unshuffle(x, self.settings.fold).contiguous(memory_format=torch.channels_last)
        outer = self.network(inner, time, class_labels=z, return_dict=False)[0].float()
        return functional.pixel_shuffle(outer, self.settings.fold)

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

    def config(self) -> dict[str, Any]:
        return {"network": asdict(self.settings), "schema": self.schema.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Denoiser":
        network: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["network"].items()}
        return cls(NetworkSettings(**network), Schema.from_dict(config["schema"]))


def build_network(settings: NetworkSettings) -> nn.Module:
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


def gflop_per_image(denoiser: Denoiser) -> float:
    """10^9 floating-point operations of one evaluation of D on one image."""
    size, device = denoiser.settings.size, denoiser.device
    x, sigma = torch.zeros(1, 3, size, size, device=device), torch.ones(1, device=device)
    z = torch.zeros(1, denoiser.settings.condition_width, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x, sigma, z)
    return 1e-9 * counter.get_total_flops()


def compile_failed(error: RuntimeError) -> MediError:
    return MediError(
        f"torch.compile failed ({str(error).splitlines()[0]}); leave compile off or install a C++ compiler"
    )


def _in_fp32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Autocast leaves this norm in bf16 on a CPU, less exact and three times slower; on a GPU it does the same."""
    return tuple(value.float() for value in inputs)


def in_bf16(precision: str) -> bool:
    """Whether products are taken in bf16 here: auto where that is faster, on a GPU or with AVX512-BF16 or AMX."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    units = torch.cuda.is_available() or bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return units if precision == "auto" else precision == "bf16"


def ddpm_sigmas() -> Float[Tensor, " steps"]:
    """Noise levels of DDPM's steps for x = image + sigma * noise: sqrt((1 - alpha_bar) / alpha_bar), ascending."""
    kept = torch.cumprod(1.0 - torch.linspace(*DDPM_BETAS, DDPM_STEPS, dtype=torch.float64), dim=0)
    return ((1.0 - kept) / kept).sqrt().float()


def loss_weight(sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: unit loss at initialisation for every sigma."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
