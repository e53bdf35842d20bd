"""Checkpoints: one safetensors file whose header says what it holds, vocabularies included (P1, P11, P12)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from medi.cohort.certificate import trained_under
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import check_format, file_hash
from medi.core.tensors import write_tensors
from medi.models.conditioning import Dropout, dropout_rates
from medi.models.denoiser import Denoiser
from medi.models.network import NETWORKS, UNET, NetworkSettings
from medi.models.space import LatentEntry, space_of

FORMAT_VERSION = 1
PLAIN = (
    "recipe",
    "seed",
    "images",
    "data",
    "info",
    "combinations",
    "mpp",
    "base",
    "init",
    "latents",
)  # entries that are plain data
RENAMED = {"early": "early_average"}  # settings of training in files of version 0.1
ENTRIES = {"format_version", "config", "sum", "format"}  # of the header
SAME_SCALE = 1.1  # magnifications that differ by less are one


def save_tensors(path: Path, tensors: dict[str, Tensor], config: Mapping[str, Any]) -> Path:
    """Write tensors and a JSON config, atomically."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"format_version": str(FORMAT_VERSION), "config": json.dumps(config)}
    metadata["sum"] = _checksum(plain, metadata["config"])

    return write_tensors(path, lambda temporary: save_file(plain, temporary, metadata))


def _inside(missing: Path) -> str:
    """The models in the folders of a folder that is none itself, such as a run's."""
    forms = ("*", "models/*") if missing.name == "model.safetensors" else ()
    found = sorted(path.parent for form in forms for path in missing.parent.glob(f"{form}/{missing.name}"))
    return f"name one of {', '.join(map(str, found))}" if found else ""


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Tensors and config of a file that `save_tensors` wrote; a truncated, foreign or altered file is one clear error.

    Files from before there were checksums are read as they are.
    """
    if not path.exists():
        raise MediError(f"{path}: no such checkpoint; {_inside(path) or 'train the model first'}")
    if path.is_dir():
        raise MediError(f"{path}: is a folder; name the file in it, such as {path / 'model.safetensors'}")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MediError(f"{path}: not a whole checkpoint ({error}); delete it and train again") from error
    if unknown := set(metadata) - ENTRIES:
        raise MediError(f"{path}: its header is damaged ({min(unknown)!r}); use a whole copy or train again")
    version = metadata.get("format_version", "")
    check_format(int(version) if version.isdigit() else None, FORMAT_VERSION, path)
    if "config" not in metadata:
        raise MediError(f"{path}: its header is damaged (no 'config'); use a whole copy or train again")
    if "sum" in metadata and metadata["sum"] != _checksum(tensors, metadata["config"]):
        raise MediError(
            f"{path}: its weights or settings are not those that were written; use a whole copy or train again"
        )
    return tensors, _in_words_of_today(json.loads(metadata["config"]))


def _in_words_of_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that have another name now, by that name."""
    if "recipe" not in config:
        return config
    return {**config, "recipe": {RENAMED.get(name, name): value for name, value in config["recipe"].items()}}


def _checksum(tensors: dict[str, Tensor], config: str) -> str:
    """Sixteen hex digits over the config and the name and bytes of every tensor."""
    hasher = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:16]


@dataclass(frozen=True)
class Checkpoint:
    """What a model file says of itself: the network that it needs, the conditions that it knows, how it was trained.

    recipe: of training, by the names of its settings, which this room does not know; images: seen; data: a hash of the
    training patches, info: where they come from, combinations: how many there are of each (`combinations.counts`), mpp:
    their micrometres per pixel. adaptations: a record per level that was learned later. base: the hash of the model
    that this one was made from; init: of the weights that its network began with. latents: of which autoencoder its
    images are, None for pixels. hash: names weights and settings, "" before they are written. What a file does not say
    is empty or None.
    """

    network: NetworkSettings
    schema: Schema
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    images: int | None = None
    data: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    combinations: Mapping[str, Any] | None = None
    mpp: float | None = None
    adaptations: tuple[Mapping[str, Any], ...] = ()
    base: str = ""
    init: str = ""
    latents: LatentEntry | None = None
    hash: str = ""

    @classmethod
    def of(cls, denoiser: Denoiser, **known: Any) -> "Checkpoint":
        """That of a denoiser, with what else is known of it, by the names of the fields."""
        return cls(denoiser.settings, denoiser.schema, **known)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], hash: str = "") -> "Checkpoint":
        """What the header of a file says; entries of other versions that nothing reads are left out."""
        known = {name: config[name] for name in PLAIN if config.get(name) is not None}
        network, schema = NetworkSettings(**config["network"]), Schema.from_dict(config["schema"])
        return cls(network, schema, **known, adaptations=tuple(config.get("adaptations", ())), hash=hash)

    def config(self) -> Mapping[str, Any]:
        """The header of a file, as plain data."""
        known = {name: getattr(self, name) for name in (*PLAIN, "adaptations")}
        said = {name: value for name, value in known.items() if value not in (None, "", ()) and value != {}}
        return said | {"network": asdict(self.network), "schema": self.schema.to_dict()}

    @property
    def dropout(self) -> Dropout:
        """Conditioning dropout in training."""
        return self.recipe.get("dropout", 0.0)

    def about(self, certificate: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """What images of this model say of it: its hold-out. certificate: of a study, which keeps it apart.

        Nothing of an adapted model: it learned from patches of a second cohort.
        """
        found = {} if self.adaptations else trained_under(certificate or self.info.get("certificate") or {})
        return {"holdout": found} if found else {}

    def drops(self, name: str) -> bool:
        """Whether training dropped this condition now and then, so that the model knows images without it."""
        return bool(dropout_rates(self.dropout, [name]).any())

    def met_missing(self, attribute: Attribute) -> bool:
        """Whether training had rows without this condition; taken for granted where the file does not say."""
        known = self.combinations or {"columns": []}
        if attribute.name not in known["columns"]:
            return attribute.name not in known.get("always", ())
        at = known["columns"].index(attribute.name)
        return any(row[at] in attribute.missing for row in known["rows"])


def save_model(path: Path, denoiser: Denoiser, checkpoint: Checkpoint | None = None) -> Path:
    """The denoiser's weights, its network and schema, and what else the checkpoint says."""
    known = {} if checkpoint is None else checkpoint.config()
    return save_tensors(path, denoiser.state_dict(), {**known, **denoiser.config()})


def load_model(path: str | Path) -> tuple[Denoiser, Checkpoint]:
    """A denoiser in evaluation mode, and what its file says; the random numbers of the caller stay as they are.

    MediError where the file is damaged or newer, or needs a network that is not registered here.
    """
    tensors, checkpoint = _read(Path(path))
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced at once
        denoiser = Denoiser(checkpoint.network, checkpoint.schema, space_of(checkpoint.latents, Path(path)))
    try:
        denoiser.load_state_dict(tensors)
    except RuntimeError as error:
        raise MediError(f"{path}: weights do not fit the network that its header describes: {error}") from error
    return denoiser.eval(), checkpoint


def load_checkpoint(path: str | Path) -> Checkpoint:
    """What a model file says of itself, without a network."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict[str, Tensor], Checkpoint]:
    tensors, config = load_tensors(path)
    if "network" not in config:
        raise MediError(f"{path}: is no diffusion model; `medi train` writes one")
    if (needed := config["network"].get("network", UNET)) not in NETWORKS:
        raise MediError(
            f"{path}: needs the network {needed!r}, which is not registered here (known: {', '.join(NETWORKS)}); "
            'install the package that brings it, or run what registers it: medi.register("network", name)'
        )
    return tensors, Checkpoint.from_config(config, model_hash(path))


def model_hash(path: Path) -> str:
    """What names a model in `origin`: the checksum in the header, the same for the same training. The file's own bytes
    differ from write to write, as the header's keys have no order; older files have nothing else."""
    with safe_open(path, framework="pt") as handle:
        return (handle.metadata() or {}).get("sum") or file_hash(path)


def check_scale(cohort: Cohort, checkpoint: Checkpoint) -> None:
    """Refuse patches of another size than the model's, or of another magnification where both are known."""
    check_fits(cohort, checkpoint.network.size, checkpoint.mpp)


def same_scale(one: float | None, other: float | None) -> bool:
    """Whether two magnifications, in micrometres per pixel, are about the same; taken for granted where not known."""
    return not one or not other or 1 / SAME_SCALE < one / other < SAME_SCALE


def check_fits(cohort: Cohort, size: int, trained: float | None) -> None:
    """The same for any model of patches of `size` px; trained: its micrometres per pixel, None where not known."""
    found = cohort.images.size
    if found != size:
        raise MediError(f"the patches have {found} px, the model makes {size} px; pack them with --size {size}")
    scale = cohort.mpp
    if not same_scale(trained, scale):
        raise MediError(
            f"the patches have {scale:g} micrometres per pixel, the model was trained at {trained:g}; "
            f"pack them with --to-mpp {trained:g}"
        )
