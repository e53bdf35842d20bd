"""From a name, or a name and a path, to an encoder; and which of them this machine can load.

Makers stand in the registry "encoder": functions of the text after the name (a path, or "") and the precision. A user's
stand beside those of this module.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache as memoised
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medi.core.errors import MediError, did_you_mean
from medi.core.files import content_hash
from medi.core.registry import registry
from medi.evaluation.encoders import weights
from medi.evaluation.encoders.colour_texture import COLOUR_TEXTURE
from medi.evaluation.encoders.contract import Encoder, with_jpeg
from medi.evaluation.encoders.published import PUBLISHED, UNIT, Published, Transform

if TYPE_CHECKING:
    from torch import nn

    from medi.evaluation.encoders.networks import Runner

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
NETWORK_BATCH = 64
VERSION = 1  # raise it when the code gives other numbers from the same weights
SPELLINGS = "NAME:PATH, timm:ARCHITECTURE:PATH, torchscript:PATH"
THEIRS = "that of the given file"
Maker = Callable[[str, str], Encoder]  # of what follows the name and its colon, and of the precision


class Availability(NamedTuple):
    """Whether an encoder can be loaded here and now, and if not, what to do."""

    name: str
    loadable: bool
    remedy: str


def available() -> list[Availability]:
    """All encoders that are known by name; looks for packages and files, loads nothing."""
    found = [Availability(COLOUR_TEXTURE.name, True, "")]
    found += [Availability(name, True, "") for name in registry("encoder") if name not in OURS]
    for model in PUBLISHED.values():
        loadable = not weights.lacking(model) and weights.found(model) is not None
        found.append(Availability(model.name, loadable, "" if loadable else weights.remedy(model)))
    return found


def encoder(spelling: str, jpeg: int | None = None, precision: str = "fp32") -> Encoder:
    """The encoder of this name, or of a file: uni, uni:PATH, timm:ARCHITECTURE:PATH, torchscript:[PIXELS:]PATH.

    jpeg: quality of a JPEG round trip of every image before the encoder's transform. precision: fp32, or mixed with
    bf16 or fp16. Both are part of name and hash. An unknown name is an error that lists the known ones.
    """
    if precision not in PRECISIONS:
        raise MediError(f"precision {precision!r} is unknown; known: {', '.join(PRECISIONS)}")
    found = _named(spelling, precision)
    return found if jpeg is None else with_jpeg(found, jpeg)


def _named(spelling: str, precision: str) -> Encoder:
    name, _, rest = spelling.partition(":")
    makers = registry("encoder")
    if name not in makers:
        known = [each for each in makers if each not in FILES]
        near = did_you_mean(name, known)
        raise MediError(f"encoder {spelling!r} is unknown; known: {', '.join(known)}; or {SPELLINGS}{near}")
    maker: Maker = makers[name]
    return maker(rest, precision)


def _colour_texture(path: str, precision: str) -> Encoder:
    if path:
        raise MediError(f"encoder {COLOUR_TEXTURE.name} has no weights to read from {path}")
    if precision != "fp32":
        raise MediError(f"encoder {COLOUR_TEXTURE.name} computes in fp32 alone")
    return COLOUR_TEXTURE


def _two(rest: str) -> tuple[str, Path]:
    architecture, _, path = rest.partition(":")
    if not (architecture and path):
        raise MediError(f"encoder 'timm:{rest}': expected timm:ARCHITECTURE:PATH")
    return architecture, _existing(path)


def _existing(given: str) -> Path:
    path = Path(given).expanduser()
    if not path.is_file():
        raise MediError(f"{path}: no such file")
    return path


def pretrained(model: Published, given: str = "", precision: str = "fp32") -> Encoder:
    """A published model with its weights: those of a given file, or those found on this machine.

    Its network is built and filled when the first patch comes; until then only the file is read, for its hash.
    """
    path = weights.chosen(model, given)
    digits = weights.weights_hash(path)

    def load() -> "nn.Module":
        from medi.evaluation.encoders import networks

        return networks.published(model, path)

    facts = (model.architecture, model.arguments, model.keys, model.pool, asdict(model.transform), digits)
    is_known = bool(model.checksum) and weights.checksum(path).startswith(model.checksum)
    verified = is_known and precision == "fp32"
    found = _network(model.name, model.dimension, model.licence, facts, model.transform, load, precision, verified)
    return replace(found, batch=model.batch)


def _from_timm(rest: str, precision: str) -> Encoder:
    from medi.evaluation.encoders import networks

    architecture, path = _two(rest)
    network, transform = networks.from_timm(architecture, path)
    dimension = _dimension(network, transform.crop, path)
    facts = ("timm", architecture, asdict(transform), weights.weights_hash(path))
    return _network(f"timm:{architecture}", dimension, THEIRS, facts, transform, lambda: network, precision)


def _from_torchscript(rest: str, precision: str) -> Encoder:
    """The module gets float32 [n, 3, pixels, pixels] in [0, 1]; what else it wants is its own to do."""
    from medi.evaluation.encoders import networks

    size, _, after = rest.partition(":")
    pixels, given = (int(size), after) if size.isdecimal() and after else (224, rest)
    path, transform = _existing(given), Transform(pixels, pixels, "bicubic", UNIT)
    network = networks.from_torchscript(path, transform)
    facts = ("torchscript", asdict(transform), weights.weights_hash(path))
    dimension = _dimension(network, pixels, path)
    return _network(f"torchscript:{path.stem}", dimension, THEIRS, facts, transform, lambda: network, precision)


def _dimension(network: "nn.Module", size: int, path: Path) -> int:
    """The numbers that a network gives for one black patch."""
    from medi.evaluation.encoders.networks import Runner

    try:
        shape = Runner(lambda: network)(np.zeros((1, size, size, 3), np.uint8)).shape
    except RuntimeError as error:
        raise MediError(f"{path}: takes no patches of {size} px ({str(error).strip().splitlines()[-1]})") from error
    return int(shape[1])


def _network(
    name: str,
    dimension: int,
    licence: str,
    facts: object,
    transform: Transform,
    load: "Callable[[], nn.Module]",
    precision: str,
    verified: bool = False,
) -> Encoder:
    @memoised
    def runner() -> "Runner":
        from medi.evaluation.encoders.networks import Runner

        return Runner(load, PRECISIONS[precision])

    return Encoder(
        name if precision == "fp32" else f"{name}-{precision}",
        dimension,
        1,
        licence,
        content_hash(VERSION, facts, precision),
        lambda images: runner()(images),
        transform,
        NETWORK_BATCH,
        verified,
    )


FILES: dict[str, Maker] = {"timm": _from_timm, "torchscript": _from_torchscript}  # names that need a file
OURS: dict[str, Maker] = {
    COLOUR_TEXTURE.name: _colour_texture,
    **{name: partial(pretrained, model) for name, model in PUBLISHED.items()},
    **FILES,
}
for _name, _maker in OURS.items():
    registry("encoder").add(_name, _maker)
