"""Low-rank changes of a network's layers, W + (alpha / rank) B A, trained while W stands still (LoRA: Hu et al., ICLR
2022, equation 3), through peft: a small file, and weights of the old shape once they are merged."""

import copy
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from medi.core import seeds
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser

RANK = 8
PREFIX = "lora_"  # peft's names of A and B start so
Changes = dict[str, Tensor]


def check_installed() -> None:
    if find_spec("peft") is None:
        raise MediError("peft is not installed: pip install 'medi-histo[adapt]'")


def with_changes(denoiser: Denoiser, changes: Changes | None = None, seed: int = 0) -> Denoiser:
    """A copy whose layers carry low-rank changes: those given, or fresh ones from the seed that do nothing yet."""
    made = copy.deepcopy(denoiser)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer("low rank", seed))
        made.network = _wrapped(made.network)
    if changes is not None:
        made.network.load_state_dict(changes, strict=False)
    return made


def weights_of(denoiser: Denoiser) -> list[nn.Parameter]:
    """The numbers that a denoiser of `with_changes` learns; all others are left as they are."""
    return [weight for name, weight in denoiser.network.named_parameters() if PREFIX in name]


def changes_of(denoiser: Denoiser) -> Changes:
    """A and B of every layer, to be kept in a file of their own."""
    return {name: value.clone() for name, value in denoiser.network.state_dict().items() if PREFIX in name}


def merged(denoiser: Denoiser) -> Denoiser:
    """A plain denoiser with the changes in its weights."""
    made = copy.deepcopy(denoiser)
    network: Any = made.network
    made.network = network.merge_and_unload()
    return made.requires_grad_(True).eval()


def _wrapped(network: nn.Module) -> nn.Module:
    from peft import LoraConfig, LoraModel

    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers)
    made: nn.Module = LoraModel(network, config, "level")
    return made
