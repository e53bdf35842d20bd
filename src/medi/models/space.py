"""Where a network works: on pixels, or on the latents of a frozen autoencoder. The one place where uint8 patches become
what it takes, and what it gives becomes uint8 patches (P2)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from medi.cohort.pixels import to_float, to_uint8
from medi.cohort.turns import dihedral
from medi.core.errors import MediError
from medi.core.types import Images
from medi.models.autoencoder import Autoencoder, Coder, decoded, encoded
from medi.models.noise import SIGMA_DATA

BESIDE = "autoencoder"  # the folder beside a model that stands in for the one that its file names
Turns = Int64[np.ndarray, " n"]


class LatentEntry(TypedDict):
    """What the file of a model says of its latents: the autoencoder as `Autoencoder` has it, the mean and the deviation
    of each channel over the training patches, and the PSNR (dB) of some of these after a round trip."""

    autoencoder: str
    hash: str
    channels: int
    stride: int
    mean: Sequence[float]
    std: Sequence[float]
    psnr: float


@runtime_checkable
class Space(Protocol):
    """What a denoiser is asked and gives, [n, c, h, w], from uint8 patches and back."""

    def encode(self, images: Images) -> Float[Tensor, "n c y x"]:
        """What the network sees of patches, float32 on the CPU."""
        ...

    def views(self, images: Images, turns: Turns) -> Float32[np.ndarray, "n c y x"]:
        """The same of turned and mirrored patches (`medi.cohort.turns.dihedral`)."""
        ...

    def decode(self, x: Float[Tensor, "n c y x"]) -> Images:
        """The patches that the network's images stand for."""
        ...

    def check(self) -> None:
        """Refuse to begin where something that it needs is not there."""
        ...

    @property
    def is_bounded(self) -> bool:
        """Whether images lie in [-1, 1]."""
        ...


class PixelSpace:
    """Pixels in [-1, 1]."""

    is_bounded = True

    def encode(self, images: Images) -> Float[Tensor, "n 3 h w"]:
        return torch.from_numpy(to_float(images))

    def views(self, images: Images, turns: Turns) -> Float32[np.ndarray, "n 3 h w"]:
        return dihedral(to_float(images), turns)

    def decode(self, x: Float[Tensor, "n 3 h w"]) -> Images:
        return to_uint8(x.cpu().numpy())

    def check(self) -> None:
        pass


class LatentSpace:
    """Latents, each channel brought to mean 0 and to the deviation that the network assumes, SIGMA_DATA.

    find: opens the coder when it is first needed. Patches are turned before they are encoded, as an autoencoder need
    not commute with turns.
    """

    is_bounded = False

    def __init__(self, find: Callable[[], Coder], mean: Sequence[float], std: Sequence[float]) -> None:
        self.find = find
        self.mean, self.std = (torch.tensor(list(values), dtype=torch.float32)[:, None, None] for values in (mean, std))

    @cached_property
    def coder(self) -> Coder:
        """The autoencoder's two halves."""
        return self.find()

    def standardised(self, latents: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        """Latents as the network sees them."""
        return (latents - self.mean) * (SIGMA_DATA / self.std)

    def encode(self, images: Images) -> Float[Tensor, "n c y x"]:
        return self.standardised(encoded(self.coder, images))

    def views(self, images: Images, turns: Turns) -> Float32[np.ndarray, "n c y x"]:
        return self.encode(turned_patches(images, turns)).numpy()

    def decode(self, x: Float[Tensor, "n c y x"]) -> Images:
        return decoded(self.coder, x.cpu().float() * (self.std / SIGMA_DATA) + self.mean)

    def check(self) -> None:
        self.coder  # noqa: B018 - opens it


def turned_patches(images: Images, turns: Turns) -> Images:
    """uint8 patches under `dihedral`."""
    return np.ascontiguousarray(dihedral(images.transpose(0, 3, 1, 2), turns).transpose(0, 2, 3, 1))


def space_of(entry: LatentEntry | None, model: Path) -> Space:
    """The space of a model whose file says this of its latents; nothing is opened yet."""
    return LatentSpace(partial(_coder, entry, model), entry["mean"], entry["std"]) if entry else PixelSpace()


def _coder(entry: LatentEntry, model: Path) -> Coder:
    return autoencoder_of(entry, model).coder


def autoencoder_of(entry: LatentEntry, model: Path) -> Autoencoder:
    """The autoencoder of a model: in the folder `autoencoder` beside it, else where it was in training.

    MediError where it is in neither place, or is another one: with other weights, channels or stride.
    """
    kind, beside = entry["autoencoder"].partition(":")[0], model.parent / BESIDE
    name = f"{kind}:{beside}" if beside.is_dir() else entry["autoencoder"]
    try:
        found = Autoencoder.open(name)
    except MediError as error:
        raise MediError(
            f"{model}: its images are latents of an autoencoder that cannot be used ({error}); put it there again, or "
            f"copy it to {beside}"
        ) from error
    check_same(found, entry, str(model))
    return found


def check_same(found: Autoencoder, entry: Mapping[str, object], what: str) -> None:
    """Refuse another autoencoder than that of a model or of a store of latents, `what`."""
    for name, unit in (("channels", "channels"), ("stride", "pixels a latent")):
        ours, theirs = entry[name], getattr(found, name)
        if ours != theirs:
            raise MediError(
                f"{what}: was made with {ours} {unit}, the autoencoder {found.name} has {theirs}; name its own"
            )
    if found.hash != entry["hash"]:
        raise MediError(
            f"{what}: was made with another autoencoder or other weights (hash {entry['hash']}) than {found.name} "
            f"(hash {found.hash}); name its own"
        )
