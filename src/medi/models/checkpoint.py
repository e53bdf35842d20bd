"""Checkpoints: one safetensors file that carries its own config, vocabularies included (P1, P11, P12)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import check_format, file_hash, write_atomic
from medi.models.denoiser import Denoiser

FORMAT_VERSION = 1
SAME_SCALE = 1.1  # magnifications that differ by less are one


def save_tensors(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> Path:
    """Write tensors and a JSON config, atomically."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"format_version": str(FORMAT_VERSION), "config": json.dumps(config)}
    metadata["sum"] = _checksum(plain, metadata["config"])

    def write(temporary: Path) -> None:
        try:
            save_file(plain, temporary, metadata)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(str(error)) from error

    return write_atomic(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and config of a file that `save_tensors` wrote; a truncated, foreign or altered file is one clear error.

    Files from before there were checksums are read as they are.
    """
    if not path.exists():
        raise MediError(f"{path}: no such checkpoint; train the model first")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MediError(f"{path}: not a whole checkpoint ({error}); delete it and train again") from error
    version = metadata.get("format_version", "")
    check_format(int(version) if version.isdigit() else None, FORMAT_VERSION, path)
    if "sum" in metadata and metadata["sum"] != _checksum(tensors, metadata["config"]):
        raise MediError(
            f"{path}: its weights or settings are not those that were written; use a whole copy or train again"
        )
    return tensors, json.loads(metadata["config"])


def _checksum(tensors: dict[str, Tensor], config: str) -> str:
    """Sixteen hex digits over the config and the name and bytes of every tensor."""
    hasher = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:16]


def save_model(path: Path, denoiser: Denoiser, config: dict[str, Any]) -> Path:
    """The denoiser's weights with its network, schema and `config` (recipe, images, data)."""
    return save_tensors(path, denoiser.state_dict(), config | denoiser.config())


def load_model(path: Path) -> tuple[Denoiser, dict[str, Any]]:
    """A denoiser in evaluation mode and its config; `config["hash"]` names its weights and settings."""
    tensors, config = load_tensors(path)
    denoiser = Denoiser.from_config(config)
    try:
        denoiser.load_state_dict(tensors)
    except RuntimeError as error:
        raise MediError(f"{path}: weights do not fit the network that its config describes: {error}") from error
    return denoiser.eval(), config | {"hash": model_hash(path)}


def model_hash(path: Path) -> str:
    """What names a model in `origin`: the checksum in the header, the same for the same training. The file's own bytes
    differ from write to write, as the header's keys have no order; older files have nothing else."""
    with safe_open(path, framework="pt") as handle:
        return (handle.metadata() or {}).get("sum") or file_hash(path)


def load_schema(path: Path) -> Schema:
    """What a model is conditioned on, without its weights."""
    return Schema.from_dict(load_tensors(path)[1]["schema"])


def check_scale(cohort: Cohort, config: dict[str, Any]) -> None:
    """Refuse patches of another size than the model's, or of another magnification where both are known."""
    size, found = config["network"]["size"], cohort.images.size
    if found != size:
        raise MediError(f"the patches have {found} px, the model makes {size} px; pack them with --size {size}")
    trained, scale = config.get("mpp"), cohort.mpp
    if trained and scale and not 1 / SAME_SCALE < scale / trained < SAME_SCALE:
        raise MediError(
            f"the patches have {scale:g} micrometres per pixel, the model was trained at {trained:g}; "
            f"pack them with --to-mpp {trained:g}"
        )
