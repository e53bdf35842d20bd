"""Files of features: HDF5 (CLAM, TRIDENT), .npy, .npz, .pt (tensors alone), Parquet, AnnData .h5ad, Zarr.

A file has a row of numbers per patch, or one row for the whole slide, and beside it what it says of them: coordinates,
names, columns of labels, the encoder and its transform. Nothing in a file is ever run.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from medi.cohort.readers.guess import plain
from medi.cohort.readers.rows import as_texts
from medi.core.errors import MediError

HDF5, PARQUET = (".h5", ".hdf5", ".h5ad"), (".parquet", ".pq")
SUFFIXES = (*HDF5, ".npz", ".npy", ".pt", ".pth", *PARQUET, ".zarr")
NAMES = ("features", "feats", "feature", "embeddings", "embedding", "X")  # of the numbers in a file
COORDS = ("coords", "coordinates", "spatial")
ENCODER = ("encoder", "encoder_name", "patch_encoder", "slide_encoder", "model", "model_name", "feature_extractor")
TRANSFORM = ("transform", "transforms", "preprocessing", "eval_transform")
UNSAID = ("", "none", "unknown")
X = ("x", "xcoord", "coordx", "xcoordinate", "coordsx", "left")
Y = ("y", "ycoord", "coordy", "ycoordinate", "coordsy", "top")
NUMBERED = re.compile(r"^(?:f|feat|feature|features|emb|embedding|dim|x|pc)?[_.]?\d+$", re.IGNORECASE)
INSTALL = "reading {} needs {}: pip install 'medi-histo[tables]'"
Rows = Float32[np.ndarray, "n d"]
Coordinates = Int64[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Part:
    """features [n, d]; columns: text that the file has of each row; coords: in pixels of the slide, None without."""

    path: Path
    features: Rows
    columns: pd.DataFrame
    coords: Coordinates | None = None
    encoder: str = ""
    transform: str = ""

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Raw:
    """What a file holds, by name: arrays, and texts about the whole."""

    arrays: Mapping[str, Any]
    said: Mapping[str, Any] = field(default_factory=dict)


def read_part(path: Path) -> Part:
    """The features of one file. MediError names the file, and what it has where features are looked for."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise MediError(f"{path}: no file of features ({', '.join(SUFFIXES)})")
    try:
        raw = READERS[suffix](path)
    except MediError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, TypeError) as error:
        raise MediError(f"{path}: not readable as features ({str(error).splitlines()[0]}); write it again") from error
    return raw if isinstance(raw, Part) else _part(path, raw)


def _part(path: Path, raw: Raw) -> Part:
    name = _name_of(path, raw.arrays)
    features = _matrix(path, name, raw.arrays[name])
    others = {key: values for key, values in raw.arrays.items() if key not in (name, *COORDS)}
    columns = {key: _texts(values) for key, values in others.items() if _is_column(values, len(features))}
    rows = as_texts(pd.DataFrame(columns, index=range(len(features))), path)
    found = next((raw.arrays[key] for key in COORDS if key in raw.arrays), None)
    coords = _coords_of(path, rows, len(features)) if found is None else _coords(path, found, len(features))
    said = {**raw.said, **{key: values for key, values in others.items() if np.ndim(values) == 0}}
    return Part(path, features, rows, coords, _said(said, ENCODER), _said(said, TRANSFORM))


def _name_of(path: Path, arrays: Mapping[str, Any]) -> str:
    """The array that holds the features: by its name, else the one matrix that there is."""
    if name := next((name for name in NAMES if name in arrays), ""):
        return name
    matrices = [n for n, values in arrays.items() if n not in COORDS and len(np.shape(values)) == 2]
    if len(matrices) == 1:
        return matrices[0]
    known = ", ".join(f"{name} {list(np.shape(values))}" for name, values in arrays.items()) or "nothing"
    raise MediError(f"{path}: no array called {', '.join(NAMES[:3])} ...; it holds {known}")


def _matrix(path: Path, name: str, values: Any) -> Rows:
    """Rows of numbers; one row for a slide as a whole, none where a slide has no patch."""
    found = np.asarray(values)
    if found.dtype.kind not in "fiu":
        raise MediError(f"{path}: {name} holds {found.dtype}, not numbers")
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.ndim == 1:
        found = found[None] if found.size else found.reshape(0, 0)
    if found.ndim != 2:
        raise MediError(f"{path}: {name} has the shape {list(found.shape)}; expected rows x numbers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, dtype=np.float32)


def _coords(path: Path, values: Any, rows: int) -> Coordinates:
    found = np.asarray(values)
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.ndim != 2 or found.shape[1] < 2 or len(found) != rows:
        raise MediError(f"{path}: {rows} rows of features, but coordinates of the shape {list(found.shape)}")
    return found[:, :2].astype(np.int64)


def coordinates_in(table: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of a table that hold x and y, None without."""
    by_name = {plain(str(column)): str(column) for column in table.columns}
    found = [next((by_name[name] for name in names if name in by_name), "") for names in (X, Y)]
    return (found[0], found[1]) if all(found) else None


def _coords_of(path: Path, rows: pd.DataFrame, number: int) -> Coordinates | None:
    """Coordinates that stand in columns of the file."""
    names = coordinates_in(rows)
    return whole_numbers(rows, names, str(path)) if names and number else None


def whole_numbers(table: pd.DataFrame, names: tuple[str, str], where: str) -> Coordinates:
    """Two columns of text as coordinates; MediError for one that is no number."""
    found = table[list(names)].apply(pd.to_numeric, errors="coerce")
    if (broken := found.isna().any(axis=1)).any():
        row = int(np.argmax(broken.to_numpy()))
        raise MediError(f"{where}: row {row + 1} has no coordinates ({', '.join(names)})")
    return found.to_numpy().round().astype(np.int64)


def _is_column(values: Any, rows: int) -> bool:
    return np.ndim(values) == 1 and len(values) == rows


def _texts(values: Any) -> Any:
    """One column; texts of HDF5 are bytes."""
    found = np.asarray(values)
    if found.dtype.kind not in "OS":
        return found
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in found.tolist()]


def _said(said: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """What a file says of its encoder or transform, "" for nothing."""
    for name in names:
        value = said.get(name, "")
        value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if text.strip().casefold() not in UNSAID:
            return text.strip()
    return ""


# --- one function a format --------------------------------------------------------------------------------------------


def _hdf5(path: Path) -> Raw:
    try:
        import h5py
    except ImportError as error:
        raise MediError(INSTALL.format("HDF5", "h5py")) from error
    with h5py.File(path, "r") as file:
        return _of_group(path, file)


def _zarr(path: Path) -> Raw:
    try:
        import zarr
    except ImportError as error:
        raise MediError(INSTALL.format("Zarr", "zarr")) from error
    found = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        return Raw({NAMES[0]: found[...]}, dict(found.attrs))
    return _of_group(path, found)


def _of_group(path: Path, group: Any) -> Raw:
    """A group of HDF5 or Zarr: what its arrays hold, and what is said of it and of the features."""
    if str(group.attrs.get("encoding-type", "")) == "anndata" or {"X", "obs"} <= set(group):
        return _anndata(path, group)
    arrays = {str(name): group[name][...] for name in group if hasattr(group[name], "shape")}
    said = dict(group.attrs)
    for name in NAMES:
        said |= dict(group[name].attrs) if name in arrays else {}
    return Raw(arrays, said)


def _anndata(path: Path, group: Any) -> Raw:
    """AnnData: X is the features, obs the columns, obsm/spatial the coordinates, uns what is said of it."""
    x, obs = group["X"], group["obs"]
    arrays = {"features": x[...] if hasattr(x, "shape") else _dense(path, x)}
    arrays |= {str(name): _obs_column(obs[name]) for name in obs if not str(name).startswith("__")}
    index = str(obs.attrs.get("_index", "_index"))
    arrays["sample_id"] = arrays.pop(index, np.arange(len(arrays["features"])).astype(str))
    if "obsm" in group and "spatial" in group["obsm"]:
        arrays["spatial"] = group["obsm"]["spatial"][...]
    uns = group.get("uns", {})
    said = {str(name): uns[name][()] for name in uns if getattr(uns[name], "shape", None) == ()}
    return Raw(arrays, said)


def _dense(path: Path, x: Any) -> Any:
    """A sparse X as a plain matrix."""
    from scipy.sparse import csc_matrix, csr_matrix

    kinds: dict[str, Any] = {"csr_matrix": csr_matrix, "csc_matrix": csc_matrix}
    kind = str(x.attrs.get("encoding-type", ""))
    if kind not in kinds:
        raise MediError(f"{path}: X is of the kind {kind or 'unknown'}; expected numbers, csr_matrix or csc_matrix")
    parts = tuple(x[name][...] for name in ("data", "indices", "indptr"))
    return kinds[kind](parts, shape=tuple(x.attrs["shape"])).toarray()


def _obs_column(column: Any) -> Any:
    """A column of obs: an array, or a group with categories and codes, or with values and a mask."""
    if hasattr(column, "shape"):
        return column[...]
    if "codes" in column:
        names = np.asarray(_texts(column["categories"][...]), dtype=object)
        codes = column["codes"][...]
        return np.where(codes >= 0, names[np.maximum(codes, 0)] if len(names) else "", "").astype(object)
    values = np.asarray(_texts(column["values"][...]), dtype=object)
    return np.where(column["mask"][...], "", values) if "mask" in column else values


def _npy(path: Path) -> Raw:
    return Raw({NAMES[0]: np.load(path, allow_pickle=False)})


def _npz(path: Path) -> Raw:
    with np.load(path, allow_pickle=False) as file:
        return Raw({name: file[name] for name in file.files})


def _pt(path: Path) -> Raw:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise MediError(
            f"{path}: holds more than tensors and would run code when it is read; refused. Save the tensor alone, or "
            "as .npy"
        ) from error
    held = found if isinstance(found, dict) else {NAMES[0]: found}
    arrays = {str(name): _as_array(value) for name, value in held.items() if not isinstance(value, str)}
    return Raw(arrays, {str(name): value for name, value in held.items() if isinstance(value, str)})


def _as_array(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    return (value.float() if value.is_floating_point() else value).detach().numpy()


def _parquet(path: Path) -> Part:
    """A column of lists, or a column per number (f0, f1, ...); all other columns are text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise MediError(f"{path}: not readable as Parquet ({error})") from error
    lists = [one.name for one in table.schema if pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type)]
    numbers = [name for name in table.column_names if NUMBERED.match(name)]
    if len(lists) == 1:
        values = np.array(table.column(lists[0]).to_pylist(), dtype=np.float32)
    elif numbers:
        values = np.stack([table.column(name).to_numpy() for name in numbers], axis=1)
    else:
        raise MediError(
            f"{path}: no column of lists and no columns f0, f1, ...; it has {', '.join(table.column_names)}"
        )
    features = _matrix(path, "the features", values if len(values) else np.empty((0, len(numbers)), np.float32))
    rest = table.drop_columns(lists or numbers)
    rows = as_texts(rest.to_pandas().reset_index(drop=True), path)
    said = {key.decode(): value for key, value in (table.schema.metadata or {}).items()}
    coords = _coords_of(path, rows, len(features))
    return Part(path, features, rows, coords, _said(said, ENCODER), _said(said, TRANSFORM))


READERS: Mapping[str, Callable[[Path], Raw | Part]] = {
    **dict.fromkeys(HDF5, _hdf5),
    **dict.fromkeys(PARQUET, _parquet),
    ".zarr": _zarr,
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _pt,
    ".pth": _pt,
}
