"""An encoder learned from a cohort's own training patches: a small residual network that names class and attributes.

Its features are what a supervised network of the field would see in these images, and no other patch has shaped them
(P5). One file of weights with its config (P1, P11); the same seed gives the same network.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from medi.cohort.combinations import dense_ids, joint_ids
from medi.cohort.pixels import to_float
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.cohort.turns import VIEWS, turned
from medi.core import seeds
from medi.core.devices import device, full_precision
from medi.core.errors import MediError
from medi.core.files import check_format, content_hash
from medi.core.progress import Advance, unheard
from medi.core.seals import KEY, UNSEALED, read_whole
from medi.core.tensors import write_tensors
from medi.evaluation.encoders import Encoder

NAME = "learned"
FORMAT_VERSION = 1
GROUPS = 8  # of the normalisation
WARM_UP = 0.05  # share of the images over which the rate rises
STANDARD = 10_000  # images that mean and spread are taken from


@dataclass(frozen=True)
class LearnSettings:
    """Widths of the stages, each half the size of the one before; numbers of a patch; images drawn, and the rate."""

    widths: tuple[int, ...] = (32, 64, 128)
    dimension: int = 64
    images: int = 60_000
    batch: int = 64
    rate: float = 1e-3


class Block(nn.Module):
    """Two convolutions with a shortcut (He et al., CVPR 2016), halving the size by a mean first."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, after), nn.GroupNorm(GROUPS, after)])
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h//2 w//2"]:
        x = functional.avg_pool2d(x, 2)
        inner = functional.silu(self.norms[0](self.first(x)))
        return functional.silu(self.norms[1](self.second(inner)) + self.shortcut(x))


class Network(nn.Module):
    """Features [n, d] of images in [-1, 1], and for each condition the scores of its levels from them."""

    def __init__(self, settings: LearnSettings, levels: Mapping[str, int]) -> None:
        super().__init__()
        steps = zip((GROUPS, *settings.widths), settings.widths)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))
        self.stem = nn.Conv2d(3, GROUPS, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(before, after) for before, after in steps))
        self.features = nn.Linear(settings.widths[-1], settings.dimension)
        self.heads = nn.ModuleDict({name: nn.Linear(settings.dimension, count) for name, count in levels.items()})

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        mean, scale = (self.get_buffer(name)[:, None, None] for name in ("mean", "scale"))
        return self.features(self.blocks(self.stem((images - mean) / scale)).mean(dim=(2, 3)))

    def standardise(self, images: Float[Tensor, "n 3 h w"]) -> None:
        """Take mean and spread of each colour from these images."""
        self.get_buffer("mean").copy_(images.mean(dim=(0, 2, 3)))
        self.get_buffer("scale").copy_(images.std(dim=(0, 2, 3)).clamp(min=1e-3))

    def loss(self, images: Float[Tensor, "n 3 h w"], codes: Mapping[str, Int64[Tensor, " n"]]) -> Float[Tensor, ""]:
        """Mean cross-entropy of all conditions; a level that is not known counts nothing."""
        found = functional.silu(self(images))
        losses = [functional.cross_entropy(self.heads[k](found), ids, ignore_index=-1) for k, ids in codes.items()]
        return torch.stack([loss.nan_to_num(0.0) for loss in losses]).mean()


def learn(
    cohort: Cohort,
    path: Path,
    seed: int,
    settings: LearnSettings | None = None,
    progress: Advance = unheard,
) -> Path:
    """Train on all of `cohort` (give its training patches) and write the network to `path`.

    Every combination of levels is drawn alike, turned and mirrored at random.
    """
    s, schema = settings or LearnSettings(), cohort.schema
    if cohort.images.size >> len(s.widths) < 1:
        raise MediError(f"patches of {cohort.images.size} px are too small for {len(s.widths)} halvings")
    codes = _codes(cohort, schema)
    torch.manual_seed(seeds.integer("learned", seed))
    network = Network(s, {name: len(schema.attribute(name).levels) for name in codes})
    network.standardise(torch.from_numpy(to_float(cohort.images[:STANDARD])))
    where = device()
    network.to(where)
    optimizer = torch.optim.AdamW(network.parameters(), s.rate, weight_decay=0.05)
    rng, weight = seeds.generator("learned", "draws", seed), _alike(codes)
    for start in range(0, s.images, s.batch):
        rows = rng.choice(len(cohort), s.batch, p=weight)
        views = [turned(image, int(k)) for image, k in zip(cohort.images[rows], rng.integers(VIEWS, size=s.batch))]
        images = torch.from_numpy(to_float(np.stack(views)))
        named = {name: torch.from_numpy(ids[rows]).to(where) for name, ids in codes.items()}
        with full_precision():
            loss = network.loss(images.to(where), named)
            loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = (
                s.rate * min(1.0, start / (WARM_UP * s.images)) * (1 + math.cos(math.pi * start / s.images)) / 2
            )
        optimizer.step()
        optimizer.zero_grad()
        progress(min(start + s.batch, s.images), s.images)
    return _save(path, network.cpu(), s, cohort)


def load(path: Path) -> Encoder:
    """The encoder in a file that `learn` wrote; its hash is that of weights and config."""
    tensors, config = _read(path)
    settings = LearnSettings(**{**config["settings"], "widths": tuple(config["settings"]["widths"])})
    network = Network(settings, config["levels"])
    network.load_state_dict(tensors)
    network.eval()

    def extract(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        where = device()
        network.to(where)
        with torch.inference_mode(), full_precision():
            parts = torch.split(torch.from_numpy(to_float(images)), 128)
            return torch.cat([network(part.to(where)).cpu() for part in parts]).numpy()

    licence = "that of the patches it was learned from"
    found = content_hash(config, *(tensors[name].numpy().tobytes() for name in sorted(tensors)))
    return Encoder(NAME, settings.dimension, config["size"], licence, found, extract)


def _codes(cohort: Cohort, schema: Schema) -> dict[str, Int64[np.ndarray, " n"]]:
    """Ids of the categorical conditions that have two levels or more here."""
    found = {a.name: a.encode(cohort.table[a.name]) for a in schema.conditions if a.kind == "categorical"}
    told = {name: ids for name, ids in found.items() if len(set(ids[ids >= 0])) > 1}
    if not told:
        raise MediError("an encoder is learned from a class or an attribute with two levels or more; there is none")
    return told


def _alike(codes: Mapping[str, Int64[np.ndarray, " n"]]) -> Float[np.ndarray, " n"]:
    """Each row's share of the draws: every combination of levels weighs the same."""
    combination = joint_ids([dense_ids(ids + 1) for ids in codes.values()])[0]
    weight = 1.0 / np.bincount(combination)[combination]
    return weight / weight.sum()


def _save(path: Path, network: Network, settings: LearnSettings, cohort: Cohort) -> Path:
    levels = {name: head.out_features for name, head in network.heads.items()}
    config = {"settings": asdict(settings), "levels": levels, "size": cohort.images.size, "data": cohort.digest()}
    header = {"format_version": str(FORMAT_VERSION), "config": json.dumps(config), KEY: UNSEALED}

    return write_tensors(path, lambda temporary: save_file(network.state_dict(), temporary, header))


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    read_whole(path, "learn it again")
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MediError(f"{path}: not a whole encoder ({error}); learn it again") from error
    version = header.get("format_version", "")
    check_format(int(version) if version.isdigit() else None, FORMAT_VERSION, path)
    return tensors, json.loads(header["config"])
