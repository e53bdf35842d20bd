"""Weights that a network begins with in place of random ones: learned before, on other images.

Conditions are learned anew: only the network takes them over, `Denoiser.conditioning` does not.
"""

from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path

from medi.core.errors import MediError
from medi.models.checkpoint import load_tensors, model_hash
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings

PROCEDURAL = "procedural"  # the name of the weights that ship with medi
FOLDER = "weights"  # beside this module; its README.md says what they are
PREFIX = "network."  # of the network's tensors in a model file
FREE = ("size", "join", "slices")  # settings of a network that its convolutions do not know


def path_of(init: str) -> Path:
    """The file of these first weights: those that ship, by their name, or a model file."""
    if init != PROCEDURAL:
        return Path(init).expanduser()
    with as_file(files("medi.models") / FOLDER / f"{PROCEDURAL}.safetensors") as path:
        return path


def first_weights_hash(init: str) -> str:
    """What names these first weights in a model's file; "" for random ones."""
    return model_hash(_there(init)) if init else ""


def begin_with(denoiser: Denoiser, init: str) -> None:
    """Give the network of a fresh denoiser the weights of a file; its conditions stay as they were drawn.

    MediError where there is no such file, or where it is of another network: the setting is named, with both values.
    """
    path = _there(init)
    tensors, config = load_tensors(path)
    check_fits(denoiser.settings, NetworkSettings(**config["network"]), init)
    network = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    denoiser.network.load_state_dict(network)


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
    path = path_of(init)
    if not path.is_file():
        raise MediError(
            f"training.init {init!r}: no such file; give {PROCEDURAL!r}, a model.safetensors, or nothing for random "
            "first weights"
        )
    return path
