"""The networks of style transfer: a generator that shows a patch at another level, and the critic that it convinces.

One generator serves all pairs of levels, as in StarGAN (Choi et al., CVPR 2018), and the critic has an output for each
level, as in StarGAN v2 (Choi et al., CVPR 2020). Both work on 2 x 2 pixels at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medi.cohort.schema import Schema
from medi.core.errors import MediError
from medi.models.checkpoint import load_tensors, model_hash

STYLE = "style"  # entry of a file's header that says what the generator is
STYLE_FILE = "style.safetensors"  # in its folder
Patches = Float[Tensor, "n 3 h w"]  # in [-1, 1]
Levels = Int64[Tensor, " n"]


def _same(channels: int, out: int) -> nn.Conv2d:
    """A convolution that keeps the size; beyond the edge lies what lies at it, as zeros would darken the edge."""
    return nn.Conv2d(channels, out, 3, padding=1, padding_mode="replicate")


class Block(nn.Module):
    """x + conv(silu(a * conv(silu(x)) + b)), scale a and shift b from the pair of levels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (_same(width, width) for _ in range(2))
        self.style = nn.Linear(width, 2 * width)

    def forward(self, x: Float[Tensor, "n w y x"], z: Float[Tensor, "n w"]) -> Float[Tensor, "n w y x"]:
        scale, shift = self.style(z)[..., None, None].chunk(2, dim=1)
        return x + self.conv2(functional.silu((1 + scale) * self.conv1(functional.silu(x)) + shift))


class Generator(nn.Module):
    """x plus a change that depends on the level that it has and the one that it shall have; at first no change."""

    def __init__(self, levels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(levels, width), nn.Embedding(levels, width)
        self.first, self.last = _same(12, width), _same(width, 12)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Patches, source: Levels, target: Levels) -> Patches:
        z = functional.silu(self.source(source) + self.target(target))
        h = self.first(functional.pixel_unshuffle(x, 2))
        for block in self.blocks:
            h = block(h, z)
        return x + functional.pixel_shuffle(self.last(functional.silu(h)), 2)


class Critic(nn.Module):
    """For every place of a patch: does it look like a real one of this level? 1 is yes, 0 is no."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.PixelUnshuffle(2), nn.Conv2d(12, width, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            nn.Conv2d(4 * width, levels, 1),
        )

    def forward(self, x: Patches, level: Levels) -> Float[Tensor, "n y x"]:
        found: Tensor = self.net(x)
        return found[torch.arange(len(x), device=x.device), level]


@dataclass(frozen=True)
class StyleModel:
    """A trained generator, and what its file says of it.

    schema: the conditions of the training patches, of `attribute` the levels that the generator knows, in its order;
    config: the whole header; hash: names it in `origin`.
    """

    generator: Generator
    schema: Schema
    attribute: str
    config: Mapping[str, Any]
    hash: str

    def numbers(self, levels: Sequence[str] | pd.Series) -> Levels:
        """The number of each level; MediError for one that is not known, or was never seen in training."""
        numbers = self.schema.attribute(self.attribute).encode(levels)
        if (numbers < 0).any():
            raise MediError(f"the {self.attribute} of a patch is not known; style transfer needs it")
        return torch.tensor(numbers)


def is_style(path: Path) -> bool:
    """Whether a model's file is one of style transfer."""
    return path.exists() and STYLE in load_tensors(path)[1]


def load_style(path: Path) -> StyleModel:
    """The model in a file of `training.style`; MediError where the file is another one."""
    weights, config = load_tensors(path)
    if STYLE not in config:
        raise MediError(f"{path}: is no style model; `evaluation: {{style: true}}` in a study trains one")
    found, schema = config[STYLE], Schema.from_dict(config["schema"])
    levels = len(schema.attribute(found["attribute"]).levels)
    generator = Generator(levels, found["width"], found["blocks"])
    generator.load_state_dict(weights)
    return StyleModel(generator.eval(), schema, found["attribute"], config, model_hash(path))
