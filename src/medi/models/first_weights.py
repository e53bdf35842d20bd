"""Weights that a network begins with in place of random ones: learned before, on other images.

Conditions are learned anew: only the network takes them over, `Denoiser.conditioning` does not.
"""

from dataclasses import asdict
from pathlib import Path

from medi.core.errors import MediError
from medi.models.checkpoint import load_tensors, model_hash
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings

PREFIX = "network."  # of the network's tensors in a model file
FREE = ("size", "join", "slices")  # settings of a network that its convolutions do not know


def first_weights_hash(init: str) -> str:
    """What names these first weights in a model's file; "" for random ones."""
    return model_hash(_there(init)) if init else ""


def begin_with(denoiser: Denoiser, init: str) -> None:
    """Give the network of a fresh denoiser the weights of a file; its conditions stay as they were drawn.

    MediError where there is no such file, where it holds no network, or where it is of another network: the setting is
    named, with both values.
    """
    path = _there(init)
    tensors, config = load_tensors(path)
    network = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    if not network or "network" not in config:
        raise MediError(f"training.init {init!r}: holds no network; give the model.safetensors of a training")
    check_fits(denoiser.settings, NetworkSettings(**config["network"]), init)
    denoiser.network.load_state_dict(network)
    if denoiser.blocks:  # the network knows no other components than those that it learned with
        denoiser.blocks.load_state_dict({name: tensors[f"blocks.{name}"] for name in denoiser.blocks.state_dict()})


def check_fits(wanted: NetworkSettings, found: NetworkSettings, init: str) -> None:
    """Refuse first weights of another network."""
    ours, theirs = asdict(wanted), asdict(found)
    for name in ours:
        if name not in FREE and ours[name] != theirs[name]:
            raise MediError(
                f"training.init {init!r}: these weights are of a network whose {name} is {_plain(theirs[name])}, not "
                f"{_plain(ours[name])}; change network.{name}, or leave training.init empty for random first weights"
            )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _there(init: str) -> Path:
    path = Path(init).expanduser()
    if not path.is_file():
        raise MediError(
            f"training.init {init!r}: no such file; give the model.safetensors of a training, or nothing for random "
            "first weights"
        )
    return path
