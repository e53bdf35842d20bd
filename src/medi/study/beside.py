"""What lies beside a folder and belongs to it: a model of this cohort, the cohort of this model, and not any other's.

A model says in its header what it was trained on. Where nothing fits, nothing is named.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medi.cohort.combinations import counts
from medi.cohort.holdout import has_split
from medi.cohort.image_fit import Fit
from medi.cohort.packing import recipe_of
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import read_json
from medi.core.requests import cohort_hash, request_of
from medi.core.tensors import header_of

MODEL_FILE, HEAD = "model.safetensors", "cohort.json"
Header = Mapping[str, Any]


def model_of(cohort: Cohort, folder: Path) -> Path | None:
    """The newest model beside a folder that was trained on the training patches of this cohort."""
    found = (path for path, header in _models(folder) if _is_of(cohort, header))
    return _newest(path.parent for path in found)


def model_that_made(samples: Iterable[Path], folder: Path) -> Path | None:
    """The newest model beside a folder that made the images of one of these cohorts."""
    made_by = {_info(path / HEAD).get("model") for path in samples} - {None}
    return _newest(path.parent for path, header in _models(folder) if header.get("hash") in made_by)


def packed_for(model: Path, folder: Path) -> Path | None:
    """The newest packed cohort beside a folder, or beside the model, that this model was trained on."""
    header, places = _header(model), {folder.parent, model.parent.parent}
    wanted = _recipe(header.get("info", {}))
    heads = (head for place in places for head in place.glob(f"*/{HEAD}") if _recipe(_info(head)) == wanted)
    return _newest(head.parent for head in heads if _holds_data_of(head.parent, header))


def measured_beside(folder: Path, cohorts: Mapping[str, Path]) -> Path | None:
    """The newest tables of `medi fidelity` beside a folder that were measured on these cohorts, by their names."""
    wanted = {"cohorts": list(cohorts), **{name: cohort_hash(path) for name, path in cohorts.items()}}
    tables = folder.parent.glob("*/fidelity.parquet")
    return _newest(path.parent for path in tables if wanted.items() <= _request(path.parent).items())


def _holds_data_of(folder: Path, header: Header) -> bool:
    """Whether a model with this header was trained on the cohort in a folder; a damaged one is passed over."""
    try:
        cohort = Cohort.load(folder)
    except MediError:
        return False
    return cohort.pixels is not None and _is_of(cohort, header)


def _is_of(cohort: Cohort, header: Header) -> bool:
    """Whether a model with this header was trained on the training patches of a cohort, packed or not."""
    packing = header.get("info", {}).get("packing", {})
    if cohort.pixels is None:
        return bool(packing) and _recipe({"packing": packing}) == recipe_of(cohort, _fit(packing))
    training = cohort.where(split="train") if has_split(cohort.table) else cohort
    if packing:
        same = _recipe(cohort.info) == packing.get("recipe")
        return same and header.get("combinations") == counts(training.table, cohort.schema)
    return header.get("data") == training.digest()


def _fit(packing: Mapping[str, Any]) -> Fit:
    return Fit(packing["size"], packing["mode"], packing["mpp"])


def _models(folder: Path) -> Iterator[tuple[Path, Header]]:
    """The models beside a folder, and what each says of itself; files that are none are passed over."""
    for path in folder.parent.glob(f"*/{MODEL_FILE}"):
        if header := _header(path):
            yield path, header


def _header(path: Path) -> Header:
    try:
        return header_of(path)
    except MediError:
        return {}


def _info(head: Path) -> Mapping[str, Any]:
    try:
        return read_json(head).get("info", {})
    except MediError:
        return {}


def _request(folder: Path) -> Mapping[str, Any]:
    try:
        return request_of(folder)
    except MediError:
        return {}


def _recipe(info: Mapping[str, Any]) -> str | None:
    return info.get("packing", {}).get("recipe")


def _newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)
