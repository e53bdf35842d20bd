"""Tiny files of features, as CLAM, TRIDENT and AnnData write them, and the table of their slides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

WIDTH = 6
SLIDES = tuple(f"s{i}" for i in range(12))
HEADER = ["slide", "patient", "diagnosis", "site"]


def numbers(rows: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def row_of(i: int) -> list[str]:
    """Slide, patient, class and site: neither gives the other away."""
    return [f"s{i}", f"p{i}", "AB"[i % 2], ("Rome", "Oslo")[(i // 2) % 2]]


def table_of(path: Path, slides: int = len(SLIDES), name: Callable[[str], str] = str) -> Path:
    """A row per slide."""
    rows = [[name(slide), *rest] for slide, *rest in map(row_of, range(slides))]
    pd.DataFrame(rows, columns=HEADER).to_csv(path, index=False)
    return path


def parts(patches: int, slides: int = len(SLIDES)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and coordinates of each slide; class and site show in the first two numbers."""
    found = {}
    for i in range(slides):
        _, _, label, site = row_of(i)
        features = (
            numbers(patches, seed=i) + np.eye(WIDTH)[0] * 3 * (label == "B") + np.eye(WIDTH)[1] * (site == "Oslo")
        )
        coords = np.stack([np.arange(patches) * 256, np.zeros(patches, dtype=int)], axis=1)
        found[f"s{i}"] = features.astype(np.float32), coords
    return found


def h5(
    path: Path, features: np.ndarray, coords: np.ndarray | None, encoder: str = "", name: bool = False, **said: Any
) -> Path:
    """As CLAM writes it; with encoder and name as TRIDENT does, where `name` is the slide's."""
    import h5py

    with h5py.File(path, "w") as file:
        file["features"] = features
        if coords is not None:
            file["coords"] = coords
        attributes = {"encoder": encoder, **({"name": path.stem} if name else {}), **said}
        for key, value in attributes.items():
            if value:
                file["features"].attrs[key] = value
    return path


def anndata(path: Path, patches: int, sparse: bool = False) -> Path:
    """The documented layout of AnnData 0.1.0: X, obs with text, categories and numbers, obsm/spatial, uns."""
    import h5py

    found = parts(patches)
    x = np.concatenate([features for features, _ in found.values()])
    rows = [row_of(i) for i in range(len(SLIDES)) for _ in range(patches)]
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        _write_x(file, x, sparse)
        obs = file.create_group("obs")
        obs.attrs["_index"] = "_index"
        obs["_index"] = [f"row{i}" for i in range(len(rows))]
        for place, name in enumerate(HEADER[:2]):
            obs[name] = [row[place] for row in rows]
        for place, name in enumerate(HEADER[2:], start=2):
            levels = sorted({row[place] for row in rows})
            column = obs.create_group(name)
            column["categories"], column["codes"] = levels, [levels.index(row[place]) for row in rows]
        file["obsm/spatial"] = np.concatenate([coords for _, coords in found.values()])
        if not sparse:
            file["uns/encoder"] = "uni_v1" if path.stem == "patches" else ""
    return path


def _write_x(file: Any, x: np.ndarray, sparse: bool) -> None:
    if not sparse:
        file["X"] = x
        return
    made, group = csr_matrix(x), file.create_group("X")
    group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", x.shape
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(made, name)
