"""The classifier that guides: p(class | x, sigma) of a noisy patch, whose gradient draws a sample towards its class.

Classifier guidance: Dhariwal and Nichol, NeurIPS 2021, section 4. A denoiser has to learn class and stain of every
pixel; this network pools what it sees over the whole patch, and so learns the structure of a class far sooner.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medi.cohort.schema import Attribute, Schema
from medi.core.devices import no_autocast
from medi.core.errors import MediError
from medi.models.checkpoint import load_tensors, model_hash
from medi.models.noise import SIGMA_DATA
from medi.models.unet import Norm

CLASSIFIER = "classifier"  # entry of a file's header that says what the network is
CLASSIFIER_FILE = "classifier.safetensors"  # in its folder
GROUPS = 8  # of channels in a normalisation
WITHIN = 1.4  # standard deviations of ln sigma from the mean of training: 84 % of what it was shown
Noisy = Float[Tensor, "n 3 h w"]  # image + sigma noise, the image in [-1, 1]


def halvings(channels: Sequence[int]) -> int:
    """How often a classifier of these blocks halves the resolution of a patch."""
    return max(1, len(channels) - 1)


class Block(nn.Module):
    """A residual block whose scale and shift depend on the noise level."""

    def __init__(self, channels: int, out: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(channels, GROUPS), Norm(out, GROUPS)
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.level = nn.Linear(width, 2 * out)

    def forward(self, x: Float[Tensor, "n c y x"], level: Float[Tensor, "n d"]) -> Float[Tensor, "n _o y x"]:
        scale, shift = self.level(level)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(functional.silu(self.norm1(x))))
        out: Tensor = self.skip(x) + self.conv2(functional.silu(h * (1 + scale) + shift))
        return out


class Classifier(nn.Module):
    """Scores of the classes, [n, k], from a noisy patch and its noise level.

    The first block works at half the resolution of the patch, each further one at half of that before, and the last at
    that of the one before it. Means and mean squares over the patch tell how much of each feature there is, wherever it
    lies.
    """

    def __init__(self, classes: int, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(Block(a, b, width) for a, b in zip((channels[0], *channels), channels))
        self.norm, self.halvings = Norm(channels[-1], GROUPS), halvings(channels)
        self.last = nn.Sequential(nn.Linear(2 * channels[-1], 128), nn.SiLU(), nn.Linear(128, classes))

    def forward(self, x: Noisy, sigma: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
        log = sigma.log()[:, None]
        level = self.level(torch.cat([log, log.square()], dim=1))
        h = self.first(x / (sigma.square() + SIGMA_DATA**2).sqrt()[:, None, None, None])
        for i, block in enumerate(self.blocks):
            h = block(functional.avg_pool2d(h, 2) if i < self.halvings else h, level)
        h = functional.silu(self.norm(h))
        scores: Tensor = self.last(torch.cat([h.mean(dim=(2, 3)), h.square().mean(dim=(2, 3))], dim=1))
        return scores


@dataclass(frozen=True)
class NoisyClassifier:
    """A trained classifier, and what its file says of it.

    classes: those that training patches had, in the network's order; size: px of its patches; mpp: their micrometres
    per pixel, None where not known; range: the noise levels (sigma) that training showed it often enough; hash: names
    it.
    """

    network: Classifier
    classes: Attribute
    size: int
    mpp: float | None
    range: tuple[float, float]
    hash: str

    def labels(self, rows: pd.DataFrame) -> Int64[Tensor, " n"]:
        """The number of each row's class; -1 where a row asks for none, a mix, or one without training patches."""
        names = rows["class"].astype(str)
        numbers = {level: i for i, level in enumerate(self.classes.levels)}
        return torch.tensor([numbers.get(name, -1) for name in names])

    def slope(self, x: Noisy, sigma: float, labels: Int64[Tensor, " n"]) -> Noisy:
        """The gradient of ln p(label | x, sigma) to x; 0 where the label is -1, and outside the range of sigma.

        It works in inference mode too, in which samples are made.
        """
        if not self.range[0] <= sigma <= self.range[1]:
            return torch.zeros_like(x)
        with torch.inference_mode(False), torch.enable_grad(), no_autocast(x.device.type):
            noisy, known = x.detach().float().clone().requires_grad_(), labels.to(x.device).clone()
            levels = torch.full((len(x),), sigma, device=x.device)
            likely = self.network(noisy, levels).log_softmax(dim=1)
            chosen = likely.gather(1, known.clamp(min=0)[:, None])[:, 0] * (known >= 0)
            (found,) = torch.autograd.grad(chosen.sum(), noisy)
        return found

    def sureness(self, images: Noisy, noise: Noisy, labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
        """ln p(label | image), the mean over the four quarter turns; 0 where the label is -1.

        images: without noise; they are shown under this noise at the lowest level that the classifier knows.
        """
        sigma, known = torch.full((len(images),), self.range[0], device=images.device), labels.to(images.device)
        with no_autocast(images.device.type):
            noisy = images.float().clamp(-1, 1) + self.range[0] * noise
            views = [torch.rot90(noisy, turn, (2, 3)) for turn in range(4)]
            likely = torch.stack([self.network(view, sigma).log_softmax(dim=1) for view in views]).mean(dim=0)
        asked = likely.gather(1, known.clamp(min=0)[:, None])[:, 0]
        return torch.where(known >= 0, asked, torch.zeros_like(asked))


def load_classifier(path: str | Path) -> NoisyClassifier:
    """The classifier in a file of `training.classifier`, or in the folder of one; MediError where there is none."""
    file = Path(path) / CLASSIFIER_FILE if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise MediError(f"{file}: no such classifier; `medi classifier` trains one")
    weights, config = load_tensors(file)
    if CLASSIFIER not in config:
        raise MediError(f"{file}: is no classifier that guides; `medi classifier` trains one")
    classes = Schema.from_dict(config["schema"]).classes
    network = network_of(config[CLASSIFIER], len(classes.levels))
    network.load_state_dict(weights)
    known = known_levels(config[CLASSIFIER]["noise_mean"], config[CLASSIFIER]["noise_std"])
    network.eval().requires_grad_(False)
    return NoisyClassifier(network, classes, config["size"], config["mpp"], known, model_hash(file))


def known_levels(noise_mean: float, noise_std: float) -> tuple[float, float]:
    """The lowest and the highest sigma that a training with these noise levels shows often enough."""
    return math.exp(noise_mean - WITHIN * noise_std), math.exp(noise_mean + WITHIN * noise_std)


def network_of(settings: Mapping[str, Any], classes: int) -> Classifier:
    """The network of these settings, with first weights."""
    return Classifier(classes, tuple(settings["channels"]))
