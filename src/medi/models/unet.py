"""The UNet of DDPM (Ho et al., NeurIPS 2020, appendix B; Dhariwal and Nichol, NeurIPS 2021, section 3), with z added to
the embedding of time.

Weights have the names, the order and the first values of `diffusers.UNet2DModel(class_embed_type="identity")`, so that
either reads the files of the other; diffusers, which takes seconds to load, is the oracle of the tests.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medi.core.devices import no_autocast

LONGEST = 10_000  # the longest period of the embedding of time
Maps = Float[Tensor, "n c h w"]
Made = Float[Tensor, "n o h w"]  # maps of other channels
Resized = Float[Tensor, "n c v u"]  # maps of another size
Left = list[Float[Tensor, "n _ _ _"]]  # maps of many sizes
Heads = Float[Tensor, "n heads places w"]
Embedding = Float[Tensor, "n e"]
Times = Float[Tensor, " n"] | Int[Tensor, " n"]


@dataclass(frozen=True)
class Build:
    """What all blocks of a network share: width of the embedding, groups of the normalisation, channels of a head of
    attention, and whether the embedding scales activations as well as shifting them."""

    embedding: int
    groups: int
    head_dim: int
    scales: bool


def waves(time: Times, width: int) -> Float[Tensor, "n w"]:
    """cos and sin of time at width / 2 frequencies, from 1 down to nearly 1 / LONGEST (DDPM, appendix B)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    angles = time[:, None].float() * torch.exp(-math.log(LONGEST) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Norm(nn.GroupNorm):
    """Group normalisation in the precision of its weights, fp32: autocast leaves it in bf16 on a CPU, less exact and
    three times slower."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(groups, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class TimeEmbedding(nn.Module):
    """Two layers on the waves of time."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x: Float[Tensor, "n w"]) -> Embedding:
        return self.linear_2(functional.silu(self.linear_1(x)))


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the embedding added before the second norm, or, after it, as a scale
    and a shift."""

    def __init__(self, channels: int, out: int, build: Build) -> None:
        super().__init__()
        self.norm1 = Norm(channels, build.groups)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(build.embedding, (1 + build.scales) * out)
        self.norm2 = Norm(out, build.groups)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None
        self.scales = build.scales

    def forward(self, x: Maps, embedding: Embedding) -> Made:
        inner = self.conv1(functional.silu(self.norm1(x)))
        shift = self.time_emb_proj(functional.silu(embedding))[:, :, None, None]
        if self.scales:
            scale, shift = shift.chunk(2, dim=1)
            inner = self.norm2(inner) * (1 + scale) + shift
        else:
            inner = self.norm2(inner + shift)
        inner = self.conv2(functional.silu(inner))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + inner


def attended(query: Heads, key: Heads, value: Heads) -> Heads:
    """softmax(query key^T / sqrt(w)) value. In fp32 on a CPU: in bf16 its backward pass takes three times as long."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(query, key, value)
    with no_autocast("cpu"):
        return functional.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)


class Attention(nn.Module):
    """x + attention of all places to all places, over normalised x; without groups it is not normalised."""

    def __init__(self, channels: int, build: Build, normalised: bool = True) -> None:
        super().__init__()
        self.group_norm = Norm(channels, build.groups) if normalised else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.head_dim = build.head_dim

    def forward(self, x: Maps) -> Maps:
        places = x.flatten(2)
        places = (places if self.group_norm is None else self.group_norm(places)).transpose(1, 2)
        query, key, value = (
            layer(places).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        found = attended(query, key, value).transpose(1, 2).flatten(2)
        return self.to_out[0](found).transpose(1, 2).reshape(x.shape) + x


class Resample(nn.Module):
    """A convolution that halves the sides, or one of the image at twice its size."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1)
        self.up = up

    def forward(self, x: Maps) -> Resized:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


class Block(nn.Module):
    """Residual blocks of one level, each with attention behind it where the level `attends`."""

    def __init__(self, widths: Iterable[tuple[int, int]], build: Build, attends: bool) -> None:
        super().__init__()
        resnets, attentions = nn.ModuleList(), nn.ModuleList()
        for channels, out in widths:  # the order in which first weights are drawn; weights are listed in another
            resnets.append(Residual(channels, out, build))
            if attends:
                attentions.append(Attention(out, build))
        if attends:
            self.attentions = attentions
        self.resnets, self.attends = resnets, attends

    def layer(self, number: int, x: Maps, embedding: Embedding) -> Made:
        """The residual block of this number and what stands behind it."""
        x = self.resnets[number](x, embedding)
        return self.attentions[number](x) if self.attends else x


class Down(Block):
    """A level on the way down; `forward` gives what it leaves for the way up, the last one for the next level too."""

    def __init__(self, channels: int, out: int, layers: int, build: Build, attends: bool, last: bool) -> None:
        super().__init__(pairwise([channels, *[out] * layers]), build, attends)
        if not last:
            self.downsamplers = nn.ModuleList([Resample(out, up=False)])
        self.last = last

    def forward(self, x: Maps, embedding: Embedding) -> Left:
        left = []
        for number in range(len(self.resnets)):
            x = self.layer(number, x, embedding)
            left.append(x)
        return left if self.last else [*left, self.downsamplers[0](x)]


class Middle(nn.Module):
    """Two residual blocks at the coarsest level, attention between them where it is wanted."""

    def __init__(self, channels: int, build: Build, attends: bool) -> None:
        super().__init__()
        first = Residual(channels, channels, build)
        attention = [Attention(channels, build, normalised=not build.scales)] if attends else []
        self.attentions = nn.ModuleList(attention)
        self.resnets = nn.ModuleList([first, Residual(channels, channels, build)])

    def forward(self, x: Maps, embedding: Embedding) -> Maps:
        x = self.resnets[0](x, embedding)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, embedding)


class Up(Block):
    """A level on the way up, which takes what the way down left."""

    def __init__(self, below: int, out: int, above: int, layers: int, build: Build, attends: bool, last: bool) -> None:
        """below: channels that come; above: those of the level above, whose last map this level takes in its end."""
        inputs = [below, *[out] * layers]
        lefts = [*[out] * layers, above]
        super().__init__(((x + left, out) for x, left in zip(inputs, lefts)), build, attends)
        if not last:
            self.upsamplers = nn.ModuleList([Resample(out, up=True)])
        self.last = last

    def forward(self, x: Maps, left: Left, embedding: Embedding) -> Float[Tensor, "n o v u"]:
        for number in range(len(self.resnets)):
            x = self.layer(number, torch.cat([x, left.pop()], dim=1), embedding)
        return x if self.last else self.upsamplers[0](x)


class UNet(nn.Module):
    """F(x, time, z): maps [n, channels, h, w] of the same size; time [n] in steps of DDPM, 0 to 999;
    z [n, 4 * widths[0]].

    channels: of input and output; widths: channels of each level; layers: residual blocks of a level on the way down,
    one more on the way up; attention: levels with self-attention, 0 the finest; middle_attention: at the coarsest,
    between down and up; scales: whether the embedding scales activations as well as shifting them.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        layers: int,
        attention: Iterable[int] = (),
        middle_attention: bool = False,
        head_dim: int = 64,
        groups: int = 8,
        scales: bool = True,
    ) -> None:
        super().__init__()
        build = Build(4 * widths[0], groups, head_dim, scales)
        levels, attends = range(len(widths)), set(attention)
        finer = [widths[max(level - 1, 0)] for level in levels]
        coarser = [widths[min(level + 1, levels[-1])] for level in levels]
        self.width = widths[0]
        self.conv_in = nn.Conv2d(channels, self.width, 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], build.embedding)
        self.down_blocks = nn.ModuleList(
            Down(finer[i], widths[i], layers, build, i in attends, i == levels[-1]) for i in levels
        )
        middle = Middle(widths[-1], build, middle_attention)  # drawn before the way up, listed behind it
        self.up_blocks = nn.ModuleList(
            Up(coarser[i], widths[i], finer[i], layers, build, i in attends, i == 0) for i in levels[::-1]
        )
        self.mid_block = middle
        self.conv_norm_out = Norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x: Maps, time: Times, z: Embedding) -> Maps:
        embedding = self.time_embedding(waves(time, self.width)) + z
        x = self.conv_in(x)
        left: Left = [x]
        for down in self.down_blocks:
            left += down(x, embedding)
            x = left[-1]
        x = self.mid_block(x, embedding)
        for up in self.up_blocks:
            x = up(x, left, embedding)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))
