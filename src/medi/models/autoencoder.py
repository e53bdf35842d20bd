"""A frozen autoencoder that the user names: uint8 patches to latents, and latents to uint8 patches.

    diffusers:FOLDER  AutoencoderKL, AutoencoderTiny or AutoencoderDC as diffusers saves one, its weights as safetensors
    taef2:FOLDER      taef2_encoder.pth and taef2_decoder.pth, for trials alone (`medi.models.taef2`)

Nothing is random: of a posterior the mean is taken. Work is done on a fixed number of patches at a time, so that a
patch does not depend on those beside it (P3).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medi.cohort.pixels import Pixels, to_float, to_uint8
from medi.cohort.table import Cohort
from medi.core.devices import device, full_precision
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.progress import Advance, unheard
from medi.core.types import Images

AT_ONCE = 8  # patches; another number gives other last digits
CONFIG = "config.json"
DIFFUSERS, TAEF2 = "diffusers", "taef2"  # kinds
MEANS: dict[str, Callable[[Any], Tensor]] = {  # what diffusers' classes give for an image, without chance
    "AutoencoderKL": lambda found: found.latent_dist.mean,
    "AutoencoderTiny": lambda found: found.latents,
    "AutoencoderDC": lambda found: found.latent,
}
Pictures = Float[Tensor, "n 3 h w"]
Latents = Float[Tensor, "n c y x"]
Values = Float[Tensor, "n i v u"]  # either of them
Coded = Float[Tensor, "n o t s"]  # the other one


@runtime_checkable
class Coder(Protocol):
    """Images [n, 3, h, w] in [-1, 1] to latents [n, c, h / stride, w / stride], and back."""

    def encode(self, images: Pictures) -> Latents:
        """The latents of images on the coder's device."""
        ...

    def decode(self, latents: Latents) -> Pictures:
        """The images of latents on the coder's device."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        ...


class ModuleCoder:
    """A coder of a module of ours."""

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module

    def encode(self, images: Pictures) -> Latents:
        return self.module.encode(images)

    def decode(self, latents: Latents) -> Pictures:
        return self.module.decode(latents)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device


class DiffusersCoder(ModuleCoder):
    """A coder of one of diffusers' autoencoders; latents are shifted and scaled as its config says."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.mean = MEANS[type(module).__name__]
        self.scale = float(module.config.get("scaling_factor") or 1.0)
        self.shift = float(module.config.get("shift_factor") or 0.0)

    def encode(self, images: Pictures) -> Latents:
        return (self.mean(self.module.encode(images)) - self.shift) * self.scale

    def decode(self, latents: Latents) -> Pictures:
        return self.module.decode(latents / self.scale + self.shift).sample


def encoded(coder: Coder, images: Images) -> Latents:
    """The latents of uint8 patches, on the CPU."""
    return _in_batches(coder.encode, torch.from_numpy(to_float(images)), coder.device)


def decoded(coder: Coder, latents: Latents) -> Images:
    """The uint8 patches of latents."""
    return to_uint8(_in_batches(coder.decode, latents, coder.device).numpy())


@torch.inference_mode()
def _in_batches(work: Callable[[Values], Coded], x: Values, place: torch.device) -> Coded:
    """`work` on AT_ONCE at a time, the last batch filled up."""
    made = []
    for start in range(0, len(x), AT_ONCE):
        index = np.arange(start, min(start + AT_ONCE, len(x)))
        with full_precision():
            part = x[np.resize(index, AT_ONCE)].to(place, torch.float32, memory_format=torch.channels_last)
            made.append(work(part)[: len(index)].float().contiguous().cpu())
    return torch.cat(made)


@dataclass(frozen=True)
class Autoencoder:
    """name: kind:FOLDER, the folder from the root. channels: of its latents; stride: pixels a latent along each side;
    hash: of its kind, its config and its weights."""

    name: str
    coder: Coder
    channels: int
    stride: int
    hash: str

    @classmethod
    def open(cls, name: str) -> "Autoencoder":
        """The autoencoder `kind:FOLDER`, on this process's device.

        MediError for an unknown kind or class, and where the folder or its weights are missing, are a pickle or do not
        fit the config.
        """
        kind, colon, folder = name.partition(":")
        if kind not in KINDS or not colon or not folder:
            raise MediError(f"autoencoder {name!r}: write KIND:FOLDER, with KIND one of {', '.join(KINDS)}")
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise MediError(f"autoencoder {name!r}: there is no such folder; name the one that holds its weights")
        return KINDS[kind](f"{kind}:{path.resolve()}", path)

    def encode(self, images: Images) -> Latents:
        """Latents float32 [n, channels, h / stride, w / stride] of uint8 patches.

        MediError where the side of the patches is no multiple of the stride.
        """
        if images.shape[1] % self.stride:
            raise MediError(f"{self.name}: patches of {images.shape[1]} px are no multiple of its {self.stride} px")
        return encoded(self.coder, images)

    def decode(self, latents: Latents) -> Images:
        """The uint8 patches of latents."""
        return decoded(self.coder, latents)

    def round_trip(self, images: Images) -> Images:
        """The patches as they come back: the best that a model on these latents can make."""
        return self.decode(self.encode(images))


def through(autoencoder: Autoencoder, patches: Cohort, progress: Advance = unheard, chunk: int = 256) -> Cohort:
    """The same patches after a round trip, in memory."""
    made = np.empty((len(patches), *[patches.images.size] * 2, 3), dtype=np.uint8)
    for start in range(0, len(patches), chunk):
        made[start : start + chunk] = autoencoder.round_trip(patches.images[start : start + chunk])
        progress(min(start + chunk, len(patches)), len(patches))
    return Cohort(patches.table, patches.schema, Pixels.of(made), {**patches.info, "autoencoder": autoencoder.hash})


def psnr(before: Images, after: Images) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10 of 255^2 over the mean squared error of all pixels.

    >>> round(psnr(np.zeros((1, 2, 2, 3), dtype=np.uint8), np.full((1, 2, 2, 3), 16, dtype=np.uint8)), 1)
    24.0
    """
    error = float(np.square(before.astype(np.float64) - after).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _of_diffusers(name: str, folder: Path) -> Autoencoder:
    config = _config(name, folder)
    kind = str(config.get("_class_name"))
    if kind not in MEANS:
        raise MediError(f"autoencoder {name!r}: holds a {kind}; known classes: {', '.join(MEANS)}")
    if not list(folder.glob("*.safetensors")):
        raise MediError(
            f"autoencoder {name!r}: has no weights as safetensors, and no pickle is ever read; save it again with "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    import diffusers

    diffusers.logging.set_verbosity_error()  # it warns of what its own save_pretrained writes
    try:
        module, found = getattr(diffusers, kind).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # diffusers and safetensors raise a dozen kinds
        raise MediError(f"autoencoder {name!r}: cannot be read ({_line(error)}); use a whole copy") from error
    if lacking := sorted(found["missing_keys"]):
        raise MediError(f"autoencoder {name!r}: its weights lack {lacking[0]}; use a whole copy")
    blocks = config.get("encoder_block_out_channels") or config.get("block_out_channels") or (0,)
    decides = {key: value for key, value in config.items() if not key.startswith("_")}
    coder = DiffusersCoder(_frozen(module))
    channels = int(module.config.latent_channels)
    return Autoencoder(name, coder, channels, 2 ** (len(blocks) - 1), _hash([kind, decides], module))


def _config(name: str, folder: Path) -> Mapping[str, Any]:
    """What an autoencoder of diffusers says of itself."""
    if not (folder / CONFIG).exists():
        inner = " (of a whole pipeline name the folder vae in it)" if (folder / "model_index.json").exists() else ""
        raise MediError(f"autoencoder {name!r}: there is no {CONFIG}; name the folder of the autoencoder itself{inner}")
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise MediError(f"autoencoder {name!r}: its {CONFIG} cannot be read ({error}); use a whole copy") from error


def _of_taef2(name: str, folder: Path) -> Autoencoder:
    from medi.models.taef2 import CHANNELS, STRIDE, Taef2

    module = Taef2()
    for part in ("encoder", "decoder"):
        path = folder / f"taef2_{part}.pth"
        try:  # tensors alone: anything else in the file is refused
            weights = torch.load(path, map_location="cpu", weights_only=True)
            module.get_submodule(part).load_state_dict(weights)
        except Exception as error:  # torch raises a dozen kinds
            raise MediError(f"autoencoder {name!r}: {path.name} cannot be read ({_line(error)})") from error
    coder = ModuleCoder(_frozen(module))
    return Autoencoder(name, coder, CHANNELS, STRIDE, _hash(["taef2"], module))


KINDS: dict[str, Callable[[str, Path], Autoencoder]] = {DIFFUSERS: _of_diffusers, TAEF2: _of_taef2}


def _frozen(module: Any) -> Any:
    """In evaluation, fp32, on this process's device, in the layout that convolutions are fastest in."""
    return module.float().eval().requires_grad_(False).to(device(), memory_format=torch.channels_last)


def _hash(config: object, module: nn.Module) -> str:
    """Sixteen hex digits over what decides and over all weights."""
    weights = sorted(module.state_dict().items())
    parts = [part for key, value in weights for part in (key.encode(), value.cpu().contiguous().numpy().tobytes())]
    return content_hash(config, *parts)


def _line(error: Exception) -> str:
    """The first line of a message; some libraries write pages."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
