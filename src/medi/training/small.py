"""The training of small networks beside the denoiser: style transfer, and the classifier that guides.

What was interrupted goes on to the same bits (P4), and a kill costs at most SAVE_SECONDS (P12).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from medi.core.errors import MediError
from medi.core.memory import keep_freed_memory
from medi.core.outputs import differences, in_words, plain
from medi.core.progress import Advance
from medi.core.stopping import Stopped, noted
from medi.models.checkpoint import load_tensors, save_tensors
from medi.models.classifier import CLASSIFIER

STATE = "state.safetensors"
SAVE_SECONDS = 60.0  # between two states
Counters = Int64[np.ndarray, " n"]


class SmallTraining(ABC):
    """Networks, their optimisers, and the average of the network that is kept, after so many images.

    name: in messages; networks: by name, of which the first is averaged; keep: what an update keeps of the average.
    """

    def __init__(
        self,
        name: str,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        keep: float,
    ) -> None:
        self.name, self.networks, self.optimizers, self.keep = name, networks, optimizers, keep
        self.images, self.kept = 0, next(iter(networks.values()))
        self.average = {name: value.clone() for name, value in self.kept.state_dict().items()}

    @abstractmethod
    def update(self, counters: Counters) -> None:
        """One update on the training images of these numbers."""

    def seen(self, images: int) -> None:
        """Count images and follow the weights with the average."""
        self.images += images
        torch._foreach_lerp_(list(self.average.values()), list(self.kept.state_dict().values()), 1 - self.keep)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next update."""
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate

    def step(self, name: str, loss: Float[Tensor, ""]) -> None:
        """One step of an optimiser down this loss."""
        self.optimizers[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()

    def check(self) -> None:
        """Refuse to go on with weights that are no numbers."""
        if not all(bool(value.isfinite().all()) for value in self.average.values()):
            raise MediError(f"{self.name} went wrong after {self.images:,} images; lower its learning_rate")

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on, by name."""
        parts = {name: network.state_dict() for name, network in self.networks.items()} | {"average": self.average}
        for name, optimizer in self.optimizers.items():
            for i, entry in optimizer.state_dict()["state"].items():
                parts[f"{name}.{i}"] = entry
        return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}

    def load(self, state: Mapping[str, Tensor], images: int) -> None:
        """Go on from there."""
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        for name, network in self.networks.items():
            network.load_state_dict(parts[name])
        self.average = {name: parts["average"][name].to(value.device) for name, value in self.average.items()}
        for name, optimizer in self.optimizers.items():
            count = len(optimizer.param_groups[0]["params"])
            moments = {i: parts[f"{name}.{i}"] for i in range(count) if f"{name}.{i}" in parts}
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
            for weight, kept in optimizer.state.items():  # in the weight's memory layout, as they were
                kept.update({name: torch.empty_like(weight).copy_(x) for name, x in kept.items() if x.ndim})
        self.images = images


def train_small(
    path: Path,
    config: Mapping[str, Any],
    images: int,
    batch: int,
    begin: Callable[[], SmallTraining],
    progress: Advance,
) -> Path:
    """Train to the end and write the average to `path`, with this header; do nothing where that is done.

    The same call goes on where an interrupted one stopped; a file or state with another header is refused.
    """
    config = plain(config)
    if path.exists():
        _check_same(path, load_tensors(path)[1], config)
        return path
    keep_freed_memory()
    training, state = begin(), path.with_name(STATE)
    if state.exists():
        tensors, saved = load_tensors(state)
        _check_same(state, saved, config)
        training.load(tensors, saved["images"])
    saved_at = time.perf_counter()
    with noted() as signal:
        while training.images < images:
            training.update(np.arange(training.images, min(training.images + batch, images)))
            progress(training.images, images)
            if signal.number is not None or time.perf_counter() - saved_at > SAVE_SECONDS:
                training.check()
                save_tensors(state, training.state(), {**config, "images": training.images})
                saved_at = time.perf_counter()
            if signal.number is not None:
                raise Stopped([(training.images, images)], signal.number)
    training.check()
    save_tensors(path, training.average, config)
    state.unlink(missing_ok=True)
    return path


def _check_same(path: Path, saved: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    if isinstance(settings := saved.get(CLASSIFIER), Mapping):  # before there was a precision, all were trained in fp32
        saved = {**saved, CLASSIFIER: {"precision": "fp32", **settings}}
    changes = [change for name in config for change in differences(name, saved.get(name), config[name])]
    if changed := ", ".join(in_words(changes, "{name} ({old}, now {new})")):
        raise MediError(f"{path}: was trained with another {changed}; choose another folder or the old settings")
